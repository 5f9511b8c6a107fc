"""Every commit that a store can make is one at which tests may kill a process."""

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import pytest

from substrate.store.backend import HeartbeatConnection
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.store.store import Store
from substrate.store.term_rows import Query
from substrate.store.way_rows import Ways
from substrate.testing import Side, kill_at_commit
from substrate.testing.crash import READS, KillingHeartbeat
from substrate.values.ids import RunId
from substrate.values.memory import Space
from substrate.values.records import JsonText, Kind, RunStatus
from tests import everything, interventions, memories, sharing
from tests.crew import reached
from tests.stores import LANE, OTHER, OWNER, checkpoint, claimed, database, new_run, opened

RUN = RunId("run")


def methods_of(protocol: type) -> set[str]:
    """Return the names of what a protocol promises to ask a database."""
    there = inspect.getmembers(protocol, inspect.isfunction)
    return {name for name, _ in there if not name.startswith("_")} - {"line_of", "on_line"}


async def test_each_commit_is_reached(store_url, tmp_path):
    """Between them, the runs that are killed at every commit use every method that writes."""
    whole = everything.Case(store_url, "whole", tmp_path / "whole")
    killed = everything.Case(store_url, "killed", tmp_path / "killed")
    other = interventions.Case(store_url, "world", tmp_path / "other")
    shared = sharing.Case(store_url, "shared", tmp_path / "shared")
    for case in (whole, killed, other, shared):
        case.folder.mkdir()
    for case in (whole, killed):
        await everything.prepare(case)

    assert killed.drive(14, Side.AFTER) != 0
    for case in (whole, killed, other, shared):
        assert case.drive() == 0

    written = set().union(*(reached(case.folder) for case in (whole, killed, other, shared)))
    if store_url.startswith("postgres"):  # it cuts a late take off, which SQLite's writer commits
        written.add("return_signals")
    memory = {"memory.write_memory", "memory.follow"}
    assert written == (methods_of(Store) - READS) | methods_of(HeartbeatConnection) | memory


async def test_what_reads_commits_nothing(store_url):
    """A method that is said to read changes no row."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        await store.commit([checkpoint(claim.fence, "work.0")])
        await store.write_rate_limit("model", JsonText("{}"))
        arguments: dict[str, tuple[Any, ...]] = {
            "get": (RUN,),
            "list": (RunStatus.RUNNING,),
            "sketches": ([RUN], "model"),
            "open_rows": ([RUN],),
            "asked": ([RUN],),
            "promise": (RUN,),
            "journal": (RUN,),
            "usages": ("run#",),
            "has_open_runs": ("run#",),
            "open_promises": ("run#", Kind.CHILD),
            "blob": (RUN, "0" * 64),
            "inbox": (RUN,),
            "count_ready": ([LANE], 10),
            "count_ready_below": (RUN, [LANE], 10),
            "owned_runs": (OWNER,),
            "next_due_at": (),
            "settled_outside": (RUN, 0),
            "promises": ([RUN],),
            "read_back": ([checkpoint(claim.fence, "work.0")],),
            "rate_limits": (0,),
            "known_lanes": (),
            "count_workers": ("host",),
            "lanes_with_ready": ([LANE],),
            "ready_lanes": (),
        }
        assert arguments.keys() | {"close"} == READS
        with database(store_url) as db:
            before = contents(db)
            for name, given in arguments.items():
                await getattr(store, name)(*given)
            assert contents(db) == before


NOBODY = Space("", "acme/nobody")
READS_OF_MEMORY: dict[str, tuple[Any, ...]] = {
    "counter": (NOBODY,),
    "counters": ("acme",),
    "number_at": (NOBODY, 0),
    "due_followers": (9,),
    "term_counts": (NOBODY, ["a"]),
    "best": (Query(NOBODY, ["facts"], 1), [("a", 1)], 8),
    "stood": (Query(NOBODY, ["facts"], 1), {"a": [1]}),
    "rank": (Query(NOBODY, ["facts"], 1), {"a": 1.0}, 1.0, 8),
    "ways": (Ways(NOBODY, ["a"], is_out=True, rel=None, as_of=1, at=None, limit=9),),
    "rows": (Look(NOBODY, "facts", {}),),
}


async def test_what_reads_memory_commits_nothing(store_url):
    """A method of memory that is said to read changes no row, not even to make a namespace."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        await store.memory.write(
            memories.memory_write(claim.fence, "say.0", "say", text="a", speaker="b", trust="user")
        )
        with database(store_url) as db:
            before = contents(db)
            for name, given in READS_OF_MEMORY.items():
                await getattr(store.memory, name)(*given)
            assert contents(db) == before


def test_each_method_of_memory_says_whether_it_reads():
    """Memory has no method but those that read, and those whose transactions are boundaries."""
    assert methods_of(Memories) - READS_OF_MEMORY.keys() == {"write", "follow", "adopt"}


def contents(db: Any) -> list[Any]:
    """Return all rows of all tables."""
    tables = (
        "runs",
        "promises",
        "signals",
        "workers",
        "blobs",
        "rate_limits",
        "fleet",
        "lanes",
        "gates",
        "rules",
        "namespaces",
        *memories.TABLES,
        *("terms", "term_counts", "embedders", "vectors"),
        *("policies", "decisions", "motions", "ballots", "followers"),
    )
    return [sorted(map(str, db.rows(f"SELECT * FROM {table}"))) for table in tables]


class StruckError(Exception):
    """The process would have been killed."""


def kill() -> None:
    raise StruckError


async def test_before_nothing_has_happened(store_url):
    """Struck before a claim, a wake-up, a recovery or a beat, the store is as it was before."""
    async with opened(store_url) as store:
        await store.start(new_run("ready"))
        await store.start(new_run("due", due_at=1))
        await claimed(store, "lost")  # of an owner that is no worker
        doomed = kill_at_commit(store, 1, Side.BEFORE, kill, with_heartbeats=True)
        with database(store_url) as db:
            before = contents(db)
            calls = [
                lambda: doomed.claim(LANE, 1, OTHER),
                doomed.wake_due,
                doomed.recover,
                lambda: asyncio.to_thread(doomed.heartbeat, OTHER, timedelta(seconds=9)),
            ]
            for call in calls:
                doomed.reached.clear()
                with pytest.raises(StruckError):
                    await call()
                assert contents(db) == before


async def test_after_it_has(store_url):
    """Struck after it, what was claimed is claimed, and what was beaten has been beaten."""
    async with opened(store_url) as store:
        await store.start(new_run("ready"))
        doomed = kill_at_commit(store, 1, Side.AFTER, kill)
        with pytest.raises(StruckError):
            await doomed.claim(LANE, 1, OTHER)
        assert (await store.get(RunId("ready"))).lease_owner == OTHER

        doomed = kill_at_commit(store, 2, Side.AFTER, kill, with_heartbeats=True)
        heartbeat = await asyncio.to_thread(doomed.heartbeat, OWNER, timedelta(seconds=9))
        assert isinstance(heartbeat, KillingHeartbeat)
        with database(store_url) as db:
            db.rows("UPDATE workers SET beat_at = 0")
            with pytest.raises(StruckError):
                await asyncio.to_thread(heartbeat.beat)
            assert db.value("SELECT beat_at FROM workers") > 0
        await asyncio.to_thread(heartbeat.stop)


async def test_what_finds_nothing_is_no_boundary(store_url):
    """A tick that finds nothing is not counted, so that the commits of a run come in one order."""
    for moment in Side:
        async with opened(store_url) as store:
            doomed = kill_at_commit(store, 1, moment, kill)
            await doomed.recover()
            await doomed.wake_due()
            await doomed.claim(LANE, 1, OTHER)
            assert doomed.reached == []
