"""Where the temporary files of tests lie: in memory, where there is a folder for it, and room.

The tests make some hundred thousand files: databases that are written and flushed, copies of the
kit, installed forks. A disk takes a third of their time for that, and no test asks whether anything
survives the loss of power. A process that is killed leaves the same behind in either place.

Who names a folder with `TMPDIR` has it. This is a pytest plugin, named in `pyproject.toml`: a
conftest.py comes too late, since other plugins make files.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["folder_in_memory"]

VARIABLE = "TMPDIR"
FOLDER = Path("/dev/shm")  # of Linux; what pytest makes in it is its owner's alone
ROOM = 4 << 30
"""Bytes that are free: the tests, PostgreSQL included, take about a third at a time."""


def folder_in_memory(
    environ: Mapping[str, str], folder: Path = FOLDER, *, room: int = ROOM
) -> Path | None:
    """Return the folder for temporary files; None where it stays what it is."""
    if environ.get(VARIABLE) or not os.access(folder, os.W_OK | os.X_OK):
        return None
    # Forks are installed there, and what is installed is run.
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return None
    return folder if min(shutil.disk_usage(folder).free, _free_memory()) >= room else None


def _free_memory() -> int:
    """Return how many bytes processes can still have; 0 where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    told = dict(line.split(":", 1) for line in lines)
    return int(told.get("MemAvailable", "0 kB").split()[0]) << 10


def pytest_configure(config: pytest.Config) -> None:
    """Have temporary files made there, here and by what is started here: workers, too, are."""
    if folder := folder_in_memory(os.environ):
        os.environ[VARIABLE] = str(folder)
        tempfile.tempdir = None  # what it may have found before
        config.add_cleanup(_leave)


def _leave() -> None:
    os.environ.pop(VARIABLE, None)
    tempfile.tempdir = None
