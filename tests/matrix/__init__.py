"""`make matrix`: the wheel, installed by each Python that this machine has, and a program on it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

KIT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("program.py")
MODES: Mapping[str, tuple[str, ...]] = {
    "plain": (),
    "-X dev -W error": ("-X", "dev", "-W", "error"),
    "-O": ("-O",),
}
_FAULT = re.compile(r"\w*Warning\b|Traceback|Exception ignored")
_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def pythons() -> dict[str, Path]:
    """Return the interpreters of this machine that the kit is for, by their version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    candidates = [sys.executable, *filter(None, named), *sorted(pyenv.glob("3.*/bin/python3"))]
    found: dict[str, Path] = {}
    for candidate in candidates:
        # A version manager's shim may be there, and fail.
        done = subprocess.run([candidate, "-c", _VERSION], capture_output=True, text=True)
        version = done.stdout.strip()
        if done.returncode == 0 and int(version.partition(".")[2]) >= 11 and version[0] == "3":
            found.setdefault(version, Path(candidate))
    return found


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` of a source tree, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment that has the wheel and what the kit needs, and return its Python.

    What it needs is lent by the environment that runs this: so it takes no network and no time.
    Pip is not lent.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for lent in _site_packages().iterdir():
        name = lent.name.lower()
        if not name.startswith(("pip", "ostinato", "_ostinato")) and name != "__pycache__":
            (site / lent.name).symlink_to(lent)
    return folder / "bin" / "python"


def run_program(python: Path, mode: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program in an empty folder, with nothing of this repository on the path."""
    return subprocess.run(
        [python, *MODES[mode], "-P", PROGRAM],
        cwd=folder,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def outcome(done: subprocess.CompletedProcess[str]) -> str:
    """Say what came of a run of the program: ``ok``, or what went wrong.

    On a busy machine a loop that was slow is logged, which says nothing of the kit.
    """
    if done.returncode == 0 and not _FAULT.search(done.stderr):
        return "ok"
    return f"exit {done.returncode}: {done.stderr}"


def _site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))
