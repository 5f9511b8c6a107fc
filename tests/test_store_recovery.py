"""What a worker leaves behind: given back in order, or taken from it when it has died."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import pytest

from substrate.store.crashes import MAX_CRASHES
from substrate.store.postgres.dead_workers import PATIENCE, Suspicions, WorkerSeen, look
from substrate.store.store import Store
from substrate.values.codec import decode
from substrate.values.ids import RunId
from substrate.values.records import (
    Fenced,
    Owner,
    PromiseState,
    RunStatus,
)
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    beating,
    checkpoint,
    claimed,
    crash,
    database,
    end,
    eventually,
    lapse,
    new_run,
    opened,
    sqlite_path,
)

RUN = RunId("run")
AT_ONCE = timedelta(milliseconds=1)

WORKER = """
import asyncio, sys
from datetime import timedelta
from substrate.store.connect import open_store
from substrate.values.records import Owner

async def main(url, owner, lane):
    store = await open_store(url)
    heartbeat = await asyncio.to_thread(store.heartbeat, owner, timedelta(seconds=60))
    print(*[claim.run.id for claim in await store.claim(lane, 10, owner)], flush=True)
    sys.stdin.read()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def worker_process(url: str, owner: Owner) -> Iterator[subprocess.Popen[str]]:
    """Run a worker with a lease of a minute that claims what there is and then hangs."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, url, owner, LANE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


# --------------------------------------------------------------------------------- given back


async def test_release(store: Store):
    """A run that is given back is ready for anybody at once, and that is no crash."""
    claim = await claimed(store)

    assert await store.release([claim.fence]) == 1

    run = await store.get(RUN)
    assert (run.status, run.lease_owner, run.crashes) == (RunStatus.READY, None, 0)
    assert await store.commit([checkpoint(claim.fence, "late.0")]) == [Fenced()]


async def test_release_of_what_is_ours(store: Store):
    """Of the runs given back, those that were lost or have ended stay as they are."""
    ours, lost, ended = [await claimed(store, id_) for id_ in ("ours", "lost", "ended")]
    await store.release([lost.fence])
    await store.claim(LANE, 1, OTHER)
    await store.commit([end(ended)])

    assert await store.release([ours.fence, lost.fence, ended.fence]) == 1
    assert await store.release([]) == 0
    assert (await store.get(RunId("lost"))).lease_owner == OTHER
    assert (await store.get(RunId("ended"))).status is RunStatus.DONE


async def test_release_of_an_earlier_claim_as_well(store: Store):
    """Where two claims on one run are given back, in any order, the one that holds counts."""
    for order in (1, -1):
        earlier = await claimed(store, f"run-{order}")
        await store.release([earlier.fence])
        (later,) = await store.claim(LANE, 1, earlier.fence.owner)

        assert await store.release([later.fence, earlier.fence][::order]) == 1
        assert (await store.get(later.run.id)).status is RunStatus.READY
        await store.claim(LANE, 1, OTHER)


# ------------------------------------------------------------------------- taken from the dead


async def test_lapsed_lease(store: Store):
    """The runs of a worker whose lease has lapsed are taken back, and its claim is void."""
    async with beating(store, OWNER, AT_ONCE) as heartbeat:
        claim = await claimed(store)

        assert await eventually(store.recover) == [RUN]

        run = await store.get(RUN)
        assert (run.status, run.lease_owner, run.crashes) == (RunStatus.READY, None, 1)
        assert run.exited_epoch == 0  # its process is here, and could be in the middle of a step
        assert await store.commit([checkpoint(claim.fence, "late.0")]) == [Fenced()]
        assert await asyncio.to_thread(heartbeat.beat) is None
    assert [again.fence.epoch for again in await store.claim(LANE, 1, OTHER)] == [2]


async def test_living_worker_keeps_its_runs(store: Store):
    """Nothing is taken from a worker whose lease holds, nor from one that has just beaten."""
    async with beating(store, OWNER) as heartbeat, beating(store, OTHER):
        await claimed(store)
        assert await store.recover() == []

        assert isinstance(await asyncio.to_thread(heartbeat.beat), int)
        assert await store.recover() == []
    assert (await store.get(RUN)).lease_owner == OWNER


async def test_beat_tells_the_databases_time(store: Store):
    """A beat brings the database's time, by which all workers agree when a lease has lapsed."""
    async with beating(store, OWNER) as heartbeat:
        before = store.clock.now_ms()
        now = await asyncio.to_thread(heartbeat.beat)

        assert before - 50 <= now <= store.clock.now_ms() + 50


async def test_struck_off_worker_leaves_its_runs(store: Store):
    """Runs of a worker that has signed off without giving them back are taken back at once."""
    async with beating(store, OWNER):
        await claimed(store)
        assert await store.recover() == []

    assert await store.recover() == [RUN]
    assert (await store.get(RUN)).exited_epoch == 0


async def test_crashes_are_counted(store: Store):
    """A claim that ends without being given back counts; what the run settles resets the count."""
    await store.start(new_run())
    await crash(store)
    await crash(store)
    assert (await store.get(RUN)).crashes == 2

    (claim,) = await store.claim(LANE, 1, OWNER)
    await store.commit([checkpoint(claim.fence, "work.0")])

    assert (await store.get(RUN)).crashes == 0


async def test_run_that_kills_its_workers_is_dead(store: Store):
    """After three crashes in a row a run is dead: its promise is rejected, nobody claims it."""
    await store.start(new_run())
    for _ in range(MAX_CRASHES):
        await crash(store)

    run, own = await store.get(RUN), await store.promise(RUN)
    assert (run.status, run.crashes, run.lease_owner) == (RunStatus.DEAD, 3, None)
    assert own.state is PromiseState.REJECTED
    assert decode(own.error)["type"] == "RunDead"
    assert (run.ended_at, run.last_seq) == (own.settled_at, own.seq)
    assert await store.claim(LANE, 1, OTHER) == []


async def test_dead_child_wakes_its_parent(store: Store, db: Database):
    """A child that is dead rejects its parent's promise, in its journal, and wakes it."""
    parent = await claimed(store, "run", OTHER)
    child = db.spawn(parent, "child.0", OWNER)
    db.rows("UPDATE runs SET crashes = 2 WHERE id = :id", id=child.run.id)
    db.suspend(parent.run.id, need=1)

    async with beating(store, OWNER, AT_ONCE):
        assert await eventually(store.recover) == [child.run.id]

    (row,) = await store.journal(parent.run.id, after=2)
    run = await store.get(RUN)
    assert (row.id, row.seq, row.state) == (child.run.id, 3, PromiseState.REJECTED)
    assert (run.status, run.wake_version) == (RunStatus.READY, 1)
    assert (await store.get(child.run.id)).status is RunStatus.DEAD


async def test_two_recover_at_once(store_url: str):
    """However many look for the dead at the same time, each run is taken back by one."""
    async with opened(store_url) as one, opened(store_url) as two:
        for i in range(20):
            await claimed(one, f"run-{i}")

        taken = await asyncio.gather(*(store.recover() for store in (one, two) * 3))

        assert sorted(chain.from_iterable(taken)) == sorted(f"run-{i}" for i in range(20))
        assert {run.crashes for run in await one.list()} == {1}


async def test_killed_worker(store: Store, store_url: str):
    """A process that was killed is noticed long before its lease ends, a living one never is."""
    await store.start(new_run("dead"))
    with worker_process(store_url, OWNER) as dead:
        assert dead.stdout.readline().split() == ["dead"]
        await store.start(new_run("alive"))
        with worker_process(store_url, OTHER) as alive:
            assert alive.stdout.readline().split() == ["alive"]
            dead.kill()
            dead.wait()
            began = time.monotonic()

            recovered = list(await eventually(store.recover))

            assert time.monotonic() - began < 1.5
            while time.monotonic() - began < 1.5:
                recovered += await store.recover()
            assert recovered == ["dead"]
            assert (await store.get(RunId("alive"))).lease_owner == OTHER
            assert (await store.get(RunId("dead"))).exited_epoch == 1


async def test_a_worker_that_was_cut_off_may_live(postgres_url: str):
    """A process that lost its connection is taken from, and is not known to have ended.

    It may be in the middle of a call: only its own lock tells of its end.
    """
    async with opened(postgres_url) as store:
        await store.start(new_run())
        with worker_process(postgres_url, OWNER) as stopped, database(postgres_url) as db:
            stopped.stdout.readline()
            os.kill(stopped.pid, signal.SIGSTOP)
            db.rows("SELECT pg_terminate_backend(backend_pid) FROM workers")

            assert await eventually(store.recover) == [RUN]
            assert (await store.get(RUN)).exited_epoch == 0


# -------------------------------------------------------------------------------------- SQLite


async def test_lock_files_do_not_pile_up(sqlite_url: str):
    """The file that shows that a worker lives goes with it, however it went."""
    folder = sqlite_path(sqlite_url).with_name("ostinato.db-workers")
    async with opened(sqlite_url) as store:
        async with beating(store, OWNER):
            with worker_process(sqlite_url, OTHER) as process:
                process.stdout.readline()
                assert {file.name for file in folder.iterdir()} == {OWNER, OTHER}
            await store.recover()
            assert {file.name for file in folder.iterdir()} == {OWNER}
        assert not list(folder.iterdir())


# ------------------------------------------------------------------------------------ Postgres


async def test_wrong_clock_kills_nobody(postgres_url: str):
    """A lease lapses by the database's clock: a host whose own is wrong takes nothing away."""
    async with opened(postgres_url) as store, beating(store, OWNER):
        await claimed(store)
        store.clock.offset_ms += 3_600_000

        assert await store.recover() == []


async def test_cut_heartbeat_connects_anew(postgres_url: str):
    """A heartbeat whose connection was cut goes on over another, and the worker is alive."""
    async with opened(postgres_url) as store, beating(store, OWNER) as heartbeat:
        await claimed(store)
        with database(postgres_url) as db:
            first = db.value("SELECT backend_pid FROM workers")
            assert db.value("SELECT pg_terminate_backend(:pid, 5000)", pid=first)

            assert isinstance(await asyncio.to_thread(heartbeat.beat), int)

            assert db.value("SELECT backend_pid FROM workers") != first
        assert await store.recover() == []


async def test_cut_heartbeat_is_no_death(postgres_url: str):
    """A worker whose heartbeat was cut vouches for itself until it beats again."""
    async with opened(postgres_url) as store, beating(store, OWNER), opened(postgres_url) as other:
        await claimed(store)
        with database(postgres_url) as db:
            pid = db.value("SELECT backend_pid FROM workers")
            assert db.value("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)

        until = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < until:
            assert await other.recover() == []
            assert await store.recover() == []

        assert (await store.get(RUN)).lease_owner == OWNER


async def test_locked_run_holds_nobody_up(postgres_url: str):
    """A dead worker's run that somebody has locked is taken back later, the others now."""
    async with opened(postgres_url) as store:
        for id_ in ("free", "locked"):
            await claimed(store, id_)
        with database(postgres_url) as db:
            db.rows("BEGIN")
            db.rows("SELECT id FROM runs WHERE id = 'locked' FOR UPDATE")

            assert await store.recover() == ["free"]
            assert await store.recover() == []

            db.rows("COMMIT")
        assert await store.recover() == ["locked"]


async def test_a_locked_run_is_alone_all_the_same(postgres_url: str):
    """A run that was alone with its worker, and is locked, is judged as such when it is taken back.

    The worker is struck off only then: who finds a run later does not know what was beside it.
    """
    async with opened(postgres_url) as store, beating(store, OWNER):
        await claimed(store)
        lapse(store, OWNER)
        with database(postgres_url) as db:
            db.rows("UPDATE runs SET crashes = 2")
            db.rows("BEGIN")
            db.rows("SELECT id FROM runs FOR UPDATE")

            assert await store.recover() == []
            assert db.value("SELECT count(*) FROM workers") == 1

            db.rows("COMMIT")
        assert await store.recover() == [RUN]
        assert (await store.get(RUN)).status is RunStatus.DEAD


async def test_what_is_found_later_proves_nothing(store: Store, db: Database):
    """A run of a worker that was struck off before is no proof against it, though it is alone."""
    await claimed(store)
    db.rows("UPDATE runs SET crashes = 2")
    assert await store.recover() == [RUN]
    assert ((await store.get(RUN)).status, (await store.get(RUN)).crashes) == (
        RunStatus.SUSPENDED,
        3,
    )


@pytest.mark.parametrize(
    "seen, is_missing",
    [
        ("backend_pid = backend_pid", False),
        ("backend_pid = 0", True),
        ("backend_pid = 0, server_start = server_start - 1", False),
        ("backend_pid = NULL", False),
    ],
)
async def test_what_looks_like_death(postgres_url: str, seen: str, *, is_missing: bool):
    """A worker is missed only where it had a backend of its own, on this very server."""
    async with opened(postgres_url) as store, beating(store, OWNER):
        with database(postgres_url) as db:
            db.rows(f"UPDATE workers SET {seen}")

        (sighting,) = await store.backend._connections.on_pool(look)

        assert sighting.is_missing is is_missing
        assert not sighting.has_lapsed


async def test_struck_off_is_not_missing(postgres_url: str):
    """An owner that is no worker any more has lost its runs; whether its process lives is unknown.

    Its runs are then taken back without a word on it, also one that was locked for a while.
    """
    async with opened(postgres_url) as store:
        await claimed(store)

        (sighting,) = await store.backend._connections.on_pool(look)

        assert sighting.has_lapsed
        assert not sighting.is_missing


def test_vigil():
    """A worker is given up when it was missing all the while, with no beat between the looks."""
    missing = WorkerSeen(OWNER, 1000, 60_000, has_lapsed=False, is_missing=True)
    beaten = replace(missing, lease_until=2000)
    back = replace(missing, is_missing=False)
    vigil = Suspicions()

    assert vigil.dead_among([missing], 0.0) == []
    assert vigil.dead_among([missing], PATIENCE / 2) == []
    assert vigil.dead_among([beaten], PATIENCE) == []
    assert vigil.dead_among([back], 2 * PATIENCE) == []
    assert vigil.dead_among([missing], 3 * PATIENCE) == []
    assert vigil.dead_among([missing], 5 * PATIENCE) == [missing]


def test_lapsed_or_missing():
    """Whose lease has lapsed, or who is missing, is dead; of its process that says nothing."""
    lapsed = WorkerSeen(OWNER, 1000, 60_000, has_lapsed=True, is_missing=False)
    missing = WorkerSeen(OTHER, 1000, 60_000, has_lapsed=True, is_missing=True)
    vigil = Suspicions()

    assert vigil.dead_among([lapsed, missing], 0.0) == [lapsed, missing]
    assert vigil.dead_among([lapsed, missing], PATIENCE) == [lapsed, missing]
