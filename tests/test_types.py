"""The editor knows when a call is wrong, and what a right one gives: two type checkers say so.

`typed/right.py` is a program as a fork would write it, and runs; `typed/wrong.py` has a mistake on
each marked line. These are slow for a reason: a checker reads all that the kit imports, which takes
mypy ten seconds without a cache, and pyright five, or ten where it verifies a whole package.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.pages import PAGES, blocks

KIT = Path(__file__).resolve().parent.parent
TYPED = KIT / "tests" / "typed"
BIN = Path(sys.executable).parent
MARK = re.compile(r"# (seen|unseen)(?:: (mypy|pyright)$)?")
FOUND = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<told>.*)$", re.MULTILINE)

Mistakes = dict[tuple[str, int], str]
"""What a checker says, by the file's name and the line."""


def mypy(files: Sequence[Path], base: Path = KIT / "template") -> Mistakes:
    """Return what mypy says of files in strict mode, as somebody without any settings runs it."""
    options = ("--strict", "--config-file=", "--no-error-summary", "--explicit-package-bases")
    cache = f"--cache-dir={KIT / '.mypy_cache' / 'strict'}"
    done = run("mypy", *options, cache, *map(str, files), MYPYPATH=str(base))
    assert done.returncode < 2, done.stdout + done.stderr
    return {
        (Path(each["file"]).name, int(each["line"])): each["told"]
        for each in FOUND.finditer(done.stdout)
    }


def pyright(files: Sequence[Path], folder: Path) -> Mistakes:
    """Return what pyright says of files, with its strict rules."""
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "include": [str(file) for file in files],
        "extraPaths": [str(KIT), str(KIT / "template")],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = run("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder))
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == len(files), told
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in told["generalDiagnostics"]
        if each["severity"] == "error"
    }


def run(
    tool: str, *arguments: str, cwd: Path = KIT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool of this Python, from the kit if not told otherwise."""
    return subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def marked(checker: str) -> Iterator[int]:
    """Yield the lines of `wrong.py` on which a checker sees a mistake."""
    for i, line in enumerate((TYPED / "wrong.py").read_text(encoding="utf-8").splitlines(), 1):
        mark = MARK.search(line)
        if mark and mark[1] == "seen" and mark[2] in (None, checker):
            yield i


PROGRAMS = (TYPED / "right.py", TYPED / "wrong.py")


@pytest.fixture(scope="module")
def fork_and_pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Provide the files of the template, and one of each Python block of the READMEs."""
    folder = tmp_path_factory.mktemp("pages")
    files = sorted((KIT / "template").rglob("*.py"))
    for page in PAGES:
        name = re.sub(r"\W", "_", str(page.relative_to(KIT).with_suffix("")))
        for i, block in enumerate(blocks(page, "python")):
            files.append(folder / f"{name}_{i}.py")
            files[-1].write_text(block, encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def seen_by_pyright(
    fork_and_pages: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Mistakes:
    """Have pyright say of all at once what it says: most of its time it reads the kit."""
    return pyright([*PROGRAMS, *fork_and_pages], tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def seen_by_mypy(fork_and_pages: list[Path]) -> Mistakes:
    """Have mypy do so."""
    return mypy([*PROGRAMS, *fork_and_pages])


@pytest.fixture(params=["mypy", "pyright"])
def checker(request: pytest.FixtureRequest) -> tuple[str, Mistakes]:
    """Provide the name of a checker, and what it has seen."""
    return request.param, request.getfixturevalue(f"seen_by_{request.param}")


def test_what_is_seen(checker: tuple[str, Mistakes]) -> None:
    """A right program passes in strict mode, and in a wrong one each marked mistake is seen."""
    name, found = checker
    assert {place: told for place, told in found.items() if place[0] == "right.py"} == {}
    assert sorted(line for file, line in found if file == "wrong.py") == list(marked(name))


def test_the_programs_are_long() -> None:
    """The right program makes a claim in most of its calls, and few mistakes are seen by nobody."""
    right = (TYPED / "right.py").read_text(encoding="utf-8")
    wrong = (TYPED / "wrong.py").read_text(encoding="utf-8")

    assert right.count("assert_type(") >= 50
    for checker in ("mypy", "pyright"):
        assert len(list(marked(checker))) >= 80
    assert wrong.count("# unseen") <= 8


def test_the_right_program_runs(tmp_path: Path) -> None:
    """What the checkers take for right is right: it runs to its end."""
    done = run("tests.typed.right", f"sqlite:///{tmp_path / 'runs.db'}")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 ['lamp'] ")


@pytest.mark.parametrize("package", ["substrate", "skills"])
def test_everything_public_has_a_type(package: str, tmp_path: Path) -> None:
    """Of what can be imported, at least 99 in 100 names have a type that a checker knows."""
    left = shutil.ignore_patterns("__pycache__", "tests", "test_*")
    shutil.copytree(KIT / package, tmp_path / "site" / package, ignore=left)
    if package == "skills":
        shutil.copytree(KIT / "substrate", tmp_path / "site" / "substrate", ignore=left)

    # It looks for packages where the first `python` of the path does.
    there = {"PYTHONPATH": str(tmp_path / "site"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    options = ("--ignoreexternal", "--outputjson", "--verifytypes", package)
    done = run("basedpyright", *options, cwd=tmp_path, **there)

    told = json.loads(done.stdout)["typeCompleteness"]
    unknown = {
        each["name"]: each["diagnostics"][0]["message"]
        for each in told["symbols"]
        if each["isTypeAmbiguous"] and each["diagnostics"]
    }
    assert len(told["symbols"]) > 100
    assert told["completenessScore"] >= 0.99, unknown


def test_the_fork_and_the_pages(checker: tuple[str, Mistakes], fork_and_pages: list[Path]) -> None:
    """The template, and each Python block of the READMEs, pass in strict mode."""
    assert len(fork_and_pages) > 20
    assert {place: told for place, told in checker[1].items() if place[0] != "wrong.py"} == {}


@pytest.mark.parametrize("example", ["analyst", "waiting"])
def test_the_examples(example: str, tmp_path: Path) -> None:
    """A fork with an example laid over it passes in strict mode."""
    shutil.copytree(KIT / "template" / "agent", tmp_path / "agent")
    for file in (KIT / "examples" / example).glob("*.py"):
        if file.name not in ("test_hooks.py", "story.py"):  # which stay in the kit, or are tests
            shutil.copy(file, tmp_path / "agent")

    assert mypy(sorted((tmp_path / "agent").glob("*.py")), tmp_path) == {}
