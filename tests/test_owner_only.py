"""What the kit writes on a disk is for its owner only, whatever the umask; what is there stays."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from substrate.models.model import Model
from substrate.store.life_lock import LifeLock
from substrate.testing.cassette import cassette
from substrate.values.clock import sleepless_clock, uptime
from substrate.values.records import Owner
from tests.llm_providers import HELLO
from tests.stores import beating, claimed, opened, sqlite_path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set what the process takes away from the rights of what it makes."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(*paths: Path) -> dict[str, str]:
    """Return who may do what with each of these, in octal."""
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in paths}


async def test_sqlite_files(tmp_path: Path, umask: int):
    """A new database, its log, its shared memory and its workers' locks are their owner's alone."""
    path = tmp_path / "above" / "made" / "runs.db"
    async with opened(f"sqlite:///{path}") as store:
        await claimed(store)
        async with beating(store, Owner("a-worker")):
            folder = path.parent / "runs.db-workers"
            beside = [*path.parent.glob("runs.db*"), folder / "a-worker"]

            assert rights(path.parent, path.parent.parent) == {"made": "700", "above": "700"}
            assert rights(*beside) == {
                "runs.db": "600",
                "runs.db-wal": "600",
                "runs.db-shm": "600",
                "runs.db-workers": "700",
                "a-worker": "600",
            }
            assert [each for each in path.parent.iterdir() if each not in beside] == []


async def test_sqlite_files_that_are_there(sqlite_url: str, umask: int):
    """A database that a group was given stays the group's, and so does what lies beside it."""
    path = sqlite_path(sqlite_url)
    path.touch()
    path.chmod(0o660)

    async with opened(sqlite_url) as store:
        await claimed(store)
        assert set(rights(path, *path.parent.glob(f"{path.name}-???")).values()) == {"660"}


async def test_sqlite_behind_a_link(tmp_path: Path, umask: int):
    """A new database behind a symbolic link is made where that points to."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs.db").symlink_to(tmp_path / "disk" / "real.db")

    async with opened(f"sqlite:///{tmp_path}/runs.db") as store:
        await claimed(store)
        assert set(rights(*(tmp_path / "disk").iterdir()).values()) == {"600"}


def test_lock_of_a_worker(tmp_path: Path, umask: int):
    """The folder of a host's locks, which workers on Postgres use, is its user's alone."""
    lock = LifeLock(tmp_path / "locks" / "a-worker")

    assert rights(tmp_path / "locks", tmp_path / "locks" / "a-worker") == {
        "locks": "700",
        "a-worker": "600",
    }
    lock.release()


async def test_cassettes(tmp_path: Path, umask: int):
    """A new cassette is its owner's alone; one that is recorded anew keeps its rights."""
    path = tmp_path / "owls.json"
    model = Model("scripted:owls", script=["Two owls."])

    await cassette(path, model, record=True).answer(HELLO)
    new = rights(path)
    path.chmod(0o640)
    await cassette(path, model, record=True).answer(HELLO)

    assert (new, rights(path)) == ({"owls.json": "600"}, {"owls.json": "640"})


async def test_what_is_committed_reaches_the_disk(sqlite_url: str):
    """SQLite waits for the disk itself at each commit, on macOS too."""
    async with opened(sqlite_url) as store:
        for connection in (store.backend._file._writer, store.backend._file._reader):
            asked = ("synchronous", "fullfsync", "checkpoint_fullfsync", "journal_mode")
            found = [setting(connection, name) for name in asked]
            assert found == [2, 1, 1, "wal"]


def setting(connection: apsw.Connection, name: str) -> object:
    """Return what a setting of a connection is."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_leases_count_the_sleep_of_the_host():
    """The clock of leases is one that goes on while the host sleeps, on Linux and on macOS."""
    assert sleepless_clock("linux") == "CLOCK_BOOTTIME"
    assert sleepless_clock("darwin") == "CLOCK_MONOTONIC"

    clock = getattr(time, sleepless_clock(sys.platform))
    before = time.clock_gettime(clock)
    assert before <= uptime() <= time.clock_gettime(clock)
