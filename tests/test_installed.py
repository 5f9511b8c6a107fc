"""The wheel works by itself, in an environment of its own, however Python is started."""

import re
import subprocess
import sys

import pytest

from tests.fork import Fork
from tests.matrix import KIT, MODES, build, environment, outcome, pythons, run_program


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the Python of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    return environment(folder / "env", build("wheel", KIT, folder))


@pytest.mark.parametrize("mode", MODES)
def test_program_runs(python, mode, tmp_path):
    """Steps, children, a race, a blob and an agent with a tool: the same, and without a warning."""
    done = run_program(python, mode, tmp_path)

    assert outcome(done) == "ok"
    assert done.stdout == f"ostinato {declared()} works\n"


def declared() -> str:
    """Return the version that the project declares, its one home."""
    text = (KIT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'^version = "(.*)"$', text, re.MULTILINE)[0]


def test_other_pythons_compile_it(python, tmp_path):
    """Every Python of this machine that the kit is for compiles all of it without a warning."""
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    code = (
        "import sys, pathlib\n"
        "for folder in sys.argv[1:]:\n"
        "    for file in pathlib.Path(folder).rglob('*.py'):\n"
        "        compile(file.read_bytes(), str(file), 'exec')\n"
    )
    found = pythons()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in found
    for version, interpreter in found.items():
        folders = [site / "substrate", site / "skills"]
        command = [interpreter, "-W", "error", "-c", code, *folders]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{version}: {done.stderr}"


def test_pyinstaller_finds_its_hook(python):
    """PyInstaller is told, by an entry point, of a folder with a hook for the kit's files."""
    code = (
        "from importlib.metadata import entry_points; from pathlib import Path\n"
        "named = entry_points(group='pyinstaller40', name='hook-dirs')\n"
        "(found,) = (each for each in named if each.dist.name == 'ostinato')\n"
        "print(*[file.name for each in found.load()() for file in Path(each).glob('hook-*.py')])"
    )

    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("hook-substrate.py\n", "")


FROZEN = """
import asyncio, sys
from skills.sql import query_sql
sys.frozen = True  # as PyInstaller sets it
try:
    print(asyncio.run(query_sql("sqlite:///shop.db").function("SELECT 1")))
except Exception as error:
    print(error)
"""


def test_a_frozen_program_does_not_start_itself(python, tmp_path):
    """Where the executable is the program itself, `query_sql` says so and does not start it."""
    done = subprocess.run(
        [python, "-P", "-c", FROZEN], cwd=tmp_path, capture_output=True, text=True
    )

    assert "without a Python interpreter" in done.stdout
    assert done.stderr == ""


def test_version_is_told(tmp_path):
    """`--version` tells the version and where the kit is from, as a line and as JSON."""
    fork = Fork.make(tmp_path)
    script = "import sys; sys.argv[0] = 'ostinato'; from substrate.cli import main; main()"

    line = fork.do("--version")
    document = fork.do("--version", "--json", by=("-c", script)).document

    assert line.code == 0
    assert re.fullmatch(rf"ostinato {re.escape(declared())}( \(\S.*\))?\n", line.out)
    assert document["version"] == declared()
    assert document["origin"] in {"", *re.findall(r"\((.*)\)", line.out)}


def test_version_without_metadata(python, tmp_path):
    """A kit that only lies on the path runs, and says that its version is not known."""
    (tmp_path / "kit").mkdir()
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    (tmp_path / "kit" / "substrate").symlink_to(site / "substrate")
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p] + sys.argv[1:]\n"
        "import substrate; print(substrate.__version__)"
    )
    lent = tmp_path / "lent"
    lent.mkdir()
    for each in site.iterdir():
        if not each.name.startswith(("ostinato", "substrate", "skills")):
            (lent / each.name).symlink_to(each)

    done = subprocess.run(
        [python, "-P", "-c", code, tmp_path / "kit", lent], capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("0+unknown\n", "")
