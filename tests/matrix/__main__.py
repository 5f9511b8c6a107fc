"""Install the wheel with each Python of this machine, from the index, and run the program on it.

Says how large the bare install is. Ends with 1 where anything is not as it should be.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.matrix import KIT, MODES, PROGRAM, build, outcome, pythons, run_program

LARGEST_MB = 32


def main() -> int:
    """Print a line for each Python, and return the exit code."""
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        wheel = build("wheel", KIT, Path(folder))
        for version, python in sorted(pythons().items(), key=lambda item: int(item[0][2:])):
            installed, megabytes = install(python, wheel, Path(folder) / version)
            results = {mode: program(installed, mode) for mode in MODES}
            said = ", ".join(f"{mode}: {result}" for mode, result in results.items())
            print(f"{version}: {megabytes:.1f} MB; {said}", flush=True)
            faults += sum(result != "ok" for result in results.values()) + (megabytes > LARGEST_MB)
        frozen = freeze(installed, Path(folder) / "frozen")
        print(f"frozen by PyInstaller: {frozen}")
        faults += frozen != "ok"
    return 1 if faults else 0


def freeze(python: Path, folder: Path) -> str:
    """Make a program of PyInstaller's with an installed kit, and run it where no Python is."""
    folder.mkdir()
    options = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *options, "pyinstaller"], check=True)
    made = [
        "--noconfirm",
        "--log-level",
        "ERROR",
        "--distpath",
        folder,
        "--workpath",
        folder / "work",
    ]
    subprocess.run([python, "-m", "PyInstaller", *made, "--specpath", folder, PROGRAM], check=True)
    frozen = folder / "program" / "program"
    return outcome(subprocess.run([frozen], cwd=folder, capture_output=True, text=True))


def install(python: Path, wheel: Path, folder: Path) -> tuple[Path, float]:
    """Install the wheel as a user does, and return the Python and how many megabytes it took."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    installed = folder / "bin" / "python"
    (site,) = folder.glob("lib/python3*/site-packages")
    before = size(site)
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([installed, "-m", "pip", "install", *options, wheel], check=True)
    return installed, (size(site) - before) / 1e6


def size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    files = (path for path in folder.rglob("*") if path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files if path.is_file())


def program(python: Path, mode: str) -> str:
    """Run the program with an installed kit, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        return outcome(run_program(python, mode, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
