"""A forgetting that is killed at any commit ends when it is begun again, and leaves no byte."""

import asyncio
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from substrate import Client
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.forgetters import NS, compressed, left_in_files, left_in_rows, live
from tests.postgres import fresh_database
from tests.processes import Process
from tests.stores import database


@pytest.mark.parametrize("moment", list(Side))
@pytest.mark.parametrize("what", [{}, {"subject": "Anna"}], ids=["namespace", "subject"])
async def test_killed_at_any_commit(
    sqlite_url: str,
    tmp_path: Path,
    moment: Side,
    what: dict[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    """Killed at each commit of it, on SQLite: the same again ends it, and all is as without."""
    await live(sqlite_url)
    pieces = compressed(sqlite_url)
    kills = 0
    while True:
        copy = tmp_path / f"{kills}"
        shutil.copytree(Path(sqlite_url.removeprefix("sqlite:///")).parent, copy)
        url = f"sqlite:///{copy}/{Path(sqlite_url).name}"
        if forget(url, kills + 1, moment, what) == 0:
            break
        kills += 1
        ended(url, what, pieces)
    ended(url, what, pieces)
    assert kills >= 5
    record_property(f"forgetting a {what or 'namespace'} killed, SQLite, {moment}", kills)


async def test_killed_at_commits_of_postgres(postgres_dsn: str) -> None:
    """The same on Postgres, before one commit and after the next."""
    kills = 0
    for boundary in count(2):
        with fresh_database(postgres_dsn) as url:
            await live(url)
            pieces = compressed(url)
            side = list(Side)[boundary % 2]
            if forget(url, boundary, side, {}) == 0:
                break
            kills += 1
            ended(url, {}, pieces)
    assert kills >= 4


def ended(url: str, what: dict[str, str], pieces: object) -> None:
    """Forget again in a process that lives, and look that nothing is left."""
    assert forget(url, 0, Side.BEFORE, what) == 0
    with database(url) as db:
        assert db.value("SELECT count(*) FROM tombstones WHERE left_to_do IS NOT NULL") == 0
    if not what:
        assert left_in_rows(url) == []
        assert left_in_files(url, pieces) == []  # type: ignore[arg-type]
        return
    # Of the subject nothing is left: neither in memory, nor in the journals that speak of it.
    assert set(left_in_rows(url)) <= {"notes", "history", "terms", "term_counts"}


def forget(url: str, boundary: int, side: Side, what: dict[str, str]) -> int | None:
    """Forget in a process of its own; return its exit code."""
    process = Process(target=_forget, args=(url, boundary, side, what))
    process.start()
    process.join(60)
    assert not process.is_alive()
    return process.exitcode


def _forget(url: str, boundary: int, side: Side, what: dict[str, str]) -> None:
    asyncio.run(_do(url, boundary, side, what))


async def _do(url: str, boundary: int, side: Side, what: dict[str, str]) -> None:
    store = kill_at_commit(await open_store(url), boundary, side)
    await Client(store).forget(NS, **what)
    await store.close()
