"""Broken copies of the kit, which the tests must tell from the whole one.

A mutant is a copy of the tree with some text changed. A test that passes on it proves nothing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.postgres import DSN_VARIABLE

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no")
# The whole test needs two or three: a mutant that takes so long hangs, and has failed.
LIMIT_S = 15


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file of the kit and the changes to it, old text and new; none leave it whole."""

    name: str
    file: str
    changes: Sequence[tuple[str, str]] = ()

    def grow(self, folder: Path) -> None:
        """Copy the kit into the folder, changed."""
        for part in ("substrate", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", "bench")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = folder / self.file
        text = path.read_text()
        for old, new in self.changes:
            assert old in text, f"{self.file} has no {old!r} any more"
            text = text.replace(old, new)
        path.write_text(text)


def failures(mutant: Mutant, folder: Path, tests: str, only: str, dsn: str) -> set[str]:
    """Run some tests of a file on a mutant; return the names of those that fail, or never end."""
    mutant.grow(folder)
    environment = os.environ | {"PYTHONPATH": str(folder), DSN_VARIABLE: dsn}
    environment.pop("PYTEST_ADDOPTS", None)
    try:
        report = subprocess.run(
            [*PYTEST, tests, "-k", only],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {tests.partition("::")[2]}
    assert report.returncode in (0, 1), report.stdout + report.stderr
    failed = [line.split()[1] for line in report.stdout.splitlines() if line.startswith("FAILED")]
    assert bool(failed) == bool(report.returncode), report.stdout
    return {name.partition("::")[2] for name in failed}
