"""Broken copies of the kit, which the tests must tell from the whole one.

A mutant is a copy of the tree with some text changed. A test that passes on it proves nothing.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.postgres import DSN_VARIABLE
from tests.warm import Command, Warm

ROOT = Path(__file__).parents[1]
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "--tb=no")
# One test needs a second or two: a mutant that takes so long hangs, and has failed. The time in
# which it waited for a core does not count, so that a busy machine takes no mutant for a dead one.
LIMIT_S = 5

# Nothing of the kit or its tests, of which each mutant has its own, and no plugin of pytest, which
# wants to import those itself.
PYTEST = Warm(
    *("pytest", "_pytest.*", "apsw", "hypothesis", "orjson", "psycopg", "psycopg_pool"),
    *("pydantic", "rich.live", "typer"),
    env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file of the kit and the changes to it, old text and new; none leave it whole."""

    name: str
    file: str
    changes: Sequence[tuple[str, str]] = ()

    def grow(self, folder: Path) -> None:
        """Copy the kit into the folder, changed. What is compiled already is left compiled."""
        for part in ("substrate", "tests"):
            ignored = shutil.ignore_patterns("*.pyc.*", "bench")  # one that is being written
            shutil.copytree(ROOT / part, folder / part, ignore=ignored, copy_function=same_file)
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = folder / self.file
        text = path.read_text()
        for old, new in self.changes:
            assert old in text, f"{self.file} has no {old!r} any more"
            text = text.replace(old, new)
        path.unlink()  # it may be the kit's own file: nothing is ever written into it
        path.write_text(text)


def same_file(source: str, target: str) -> None:
    """Have a file stand in another place, too; copied only where that is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def failures(
    mutant: Mutant, folder: Path, tests: str, only: str, dsn: str, *, limit_s: float = LIMIT_S
) -> set[str]:
    """Run some tests of a file on a mutant; return the names of those that fail, or never end."""
    mutant.grow(folder)
    environment = os.environ | {"PYTHONPATH": str(folder), DSN_VARIABLE: dsn}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment.pop("PYTEST_ADDOPTS", None)
    process = PYTEST.start("pytest", *OPTIONS, tests, "-k", only, cwd=folder, env=environment)
    if (told := said_within(process, limit_s)) is None:
        return {tests.partition("::")[2]}
    out, err = told
    assert process.returncode in (0, 1), out + err
    failed = [line.split()[1] for line in out.splitlines() if line.startswith("FAILED")]
    assert bool(failed) == bool(process.returncode), out
    return {name.partition("::")[2] for name in failed}


def said_within(process: Command, limit_s: float) -> tuple[str, str] | None:
    """Wait for the end of a process and return what it printed; None of one that was ended."""
    began = time.monotonic()
    left = limit_s
    while True:
        try:
            return process.communicate(left)
        except subprocess.TimeoutExpired:
            left = limit_s - (time.monotonic() - began - queued_s(process.pid))
            if left <= 0:
                process.kill()
                process.communicate()
                return None


def queued_s(pid: int) -> float:
    """Return how long a process has waited for a core; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
