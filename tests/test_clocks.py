"""A host's clock that jumps by hours or days takes no run from a worker that lives, and saves none.

A jump of the clock by so much is, for whoever reads the register, the same as one of all that is
written there the other way: so these tests move the rows.
"""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import pytest

from substrate import Context, WorkerOptions, connect, durable
from substrate.store.postgres.dead_workers import Suspicions, WorkerSeen
from substrate.values.clock import OffsetClock, uptime
from tests.runs import reached
from tests.stores import LANE, OWNER, beating, claimed, database, eventually, new_run, opened

HOUR = 3_600_000
JUMPS = {"1 h on": HOUR, "2 d on": 48 * HOUR, "1 h back": -HOUR, "2 d back": -48 * HOUR}
SHIFT = "UPDATE workers SET beat_at = beat_at - :ms, lease_until = lease_until - :ms"

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def count(what: str) -> str:
    calls[what] += 1
    return what


@durable
async def job(ctx: Context, name: str) -> str:
    """Take a step, wait for a signal, and take another."""
    await ctx.step(count, f"{name} begins", effect="idempotent")
    await ctx.receive("go")
    return await ctx.step(count, f"{name} ends", effect="idempotent")


@pytest.mark.parametrize("jump", JUMPS)
async def test_live_workers_keep_their_runs(store_url, jump):
    """When the clock jumps under two live workers, none takes the other for dead."""
    options = WorkerOptions(lease=timedelta(seconds=1), poll=timedelta(milliseconds=20))
    names = [f"run-{i}" for i in range(6)]
    async with (
        connect(store_url) as one,
        connect(store_url) as other,
        one.work([job], options=options),
        other.work([job], options=options),
    ):
        for name in names:
            await (one if name < "run-3" else other).start(job, name, id=name)
            await reached(one, name, "go.0")
        with database(store_url) as db:
            beat = "SELECT min(beat_at) FROM workers"
            for _ in range(3):  # each has looked, and seen the other beat
                before = db.value(beat)
                await eventually(lambda before=before: db.value(beat) != before)
            # Asked with the same statement: a worker may beat before a next one.
            shifted = set(db.rows(f"{SHIFT} RETURNING beat_at", ms=JUMPS[jump]))
            await eventually(lambda: shifted.isdisjoint(db.rows("SELECT beat_at FROM workers")))
        for name in names:
            await one.signal(name, "go")
            await one.result(name)
        runs = [await one.get(name) for name in names]

    assert set(calls.values()) == {1}
    assert {(run.epoch, run.crashes) for run in runs} == {(1, 0)}


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_silent_worker_loses_its_runs_in_time(store_url, jump):
    """A worker that shows no sign of life loses its runs after a lease, whatever the clock says."""
    lease = timedelta(milliseconds=400)
    async with opened(store_url) as store, beating(store, OWNER, lease):
        await claimed(store)
        with database(store_url) as db:
            await store.recover()
            db.rows(SHIFT, ms=JUMPS[jump])
            await store.recover()  # from here on it is known to have beaten
            began = asyncio.get_running_loop().time()
            await eventually(store.recover)
            took = asyncio.get_running_loop().time() - began
        assert await store.claim(LANE, 1, OWNER)

    assert 0.35 < took < 2


async def test_a_clock_of_ones_own_kills_nobody(sqlite_url):
    """A process that finds a live worker's lease lapsed waits and sees: its lock is held."""
    async with opened(sqlite_url) as store, beating(store, OWNER, timedelta(minutes=1)):
        await store.start(new_run())
        await store.claim(LANE, 1, OWNER)
        with database(sqlite_url) as db:
            db.rows(SHIFT, ms=48 * HOUR)
        async with opened(sqlite_url) as newcomer:
            assert await newcomer.recover() == []
            assert await newcomer.recover() == []


def test_who_comes_new_believes_the_database():
    """A lease that had lapsed at the first look is over; who has seen a beat knows better."""
    lapsed = WorkerSeen(OWNER, 1000, 500, has_lapsed=True, is_missing=False)
    beaten = WorkerSeen(OWNER, 2000, 500, has_lapsed=True, is_missing=False)
    holding = WorkerSeen(OWNER, 3000, 500, has_lapsed=False, is_missing=False)

    assert Suspicions().dead_among([lapsed], 0.0) == [lapsed]
    vigil = Suspicions()
    vigil.dead_among([holding], 0.0)
    assert vigil.dead_among([beaten], 0.1) == []
    assert vigil.dead_among([beaten], 0.5) == []
    assert vigil.dead_among([beaten], 0.6) == [beaten]
    vigil = Suspicions()
    assert vigil.dead_among([holding], 0.0) == []
    assert vigil.dead_among([holding], 0.5) == [holding]


async def test_the_host_of_a_worker_is_set_meanwhile(postgres_url, monkeypatch):
    """Between two beats, too, the time is the database's, whatever happens to the host's clock."""
    async with opened(postgres_url) as store:
        right = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: right() + 3_600_000_000_000)
        ahead_ms = store.clock.now_ms() - right() // 1_000_000

    assert abs(ahead_ms) < 1000


def test_a_clock_is_set_half_way():
    """A clock that asks another takes its answer for right half-way between asking and hearing."""
    clock = OffsetClock(host_ms=lambda: 5_000)
    clock.set(1_000_000, asked=uptime() - 2)

    assert abs(clock.now_ms() - 1_001_000) <= 20
