"""Whatever a run is made of, and wherever its workers end, it comes to what its code says.

A plan (`tests/plans.py`) is run as a durable function, and what it comes to is compared with what
it means. Between them workers crash at commits drawn at random, or leave, or the run is cancelled;
the clock is moved only when nothing else is left to do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from substrate import Client, RunFailed, RunStatus, WorkerOptions
from substrate.store.connect import open_store
from substrate.store.store import Store
from substrate.testing import ManualClock, Side, kill_at_commit
from substrate.values.errors import StoreUnreachable
from substrate.values.records import Kind
from tests.plans import (
    Node,
    calls,
    interpret,
    meaning,
    named,
    plans,
    sagas_in,
    steps_in,
    undo,
    undone,
)
from tests.stores import database

EXAMPLES = {"sqlite": 50, "postgresql": 20}
"""What comes of a run is decided above the stores, and PostgreSQL takes three times as long."""
SETTINGS = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class End(StrEnum):
    """What befalls a worker: that it crashes, that it leaves, that its run is cancelled."""

    CRASH = "crash"
    LEAVE = "leave"
    CANCEL = "cancel"


class Mishap(NamedTuple):
    """What befalls a worker on one side of its n-th commit."""

    boundary: int
    moment: Side
    end: End


class Cable:
    """A store's connection, which a crash cuts: nothing of that worker gets through any more."""

    def __init__(self, store: Store) -> None:
        self.clock = store.clock
        self.on_followed = store.on_followed  # of the process, and no statement
        self.ends = asyncio.Event()
        self._store = store
        self._is_cut = False

    def __getattr__(self, name: str) -> Any:
        if self._is_cut:
            raise StoreUnreachable("the worker has crashed")
        return getattr(self._store, name)

    def cut(self) -> None:
        self._is_cut = True
        self.ends.set()
        raise StoreUnreachable("the worker crashes")


MISHAPS = st.lists(
    st.builds(
        Mishap, st.integers(1, 25), st.sampled_from(Side), st.sampled_from([End.CRASH, End.LEAVE])
    ),
    max_size=2,
)
LIMITS = st.builds(
    lambda places, warm: WorkerOptions(
        concurrency=places,
        idle_timeout=timedelta(seconds=warm),
        poll=timedelta(milliseconds=10),
        shutdown_grace=timedelta(0),
    ),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([0, 20]),
)


class Stage:
    """Drives one run to its end through a row of workers."""

    def __init__(self, store: Store, clock: ManualClock, options: WorkerOptions) -> None:
        self.store = store
        self.client = Client(store)
        self.clock = clock
        self.options = options

    async def play(self, mishaps: list[Mishap]) -> None:
        for mishap in mishaps:
            await self.act(mishap)
        await self.act(Mishap(0, Side.AFTER, End.LEAVE))

    async def act(self, mishap: Mishap) -> None:
        """Let one worker go on until its mishap, or until the run has ended."""
        cable = Cable(self.store)
        kill = cable.cut if mishap.end is End.CRASH else cable.ends.set
        client = Client(kill_at_commit(cable, mishap.boundary, mishap.moment, kill))
        async with client.work([interpret, undo], options=self.options) as worker:
            while not cable.ends.is_set():
                idle = asyncio.ensure_future(worker.run_until_idle())
                ends = asyncio.ensure_future(cable.ends.wait())
                await asyncio.wait([idle, ends], return_when=asyncio.FIRST_COMPLETED, timeout=5)
                ends.cancel()
                if not (idle.done() or cable.ends.is_set()):
                    raise AssertionError(f"never idle: {await self.standing()}")
                idle.cancel()
                with suppress(asyncio.CancelledError, StoreUnreachable):
                    await idle
                if cable.ends.is_set() and mishap.end is End.CANCEL:
                    await client.cancel("run")
                    cable.ends.clear()
                elif cable.ends.is_set() or not await self.go_on():
                    return

    async def go_on(self) -> bool:
        """Send a signal that is waited for, or move the clock; False when the run has ended."""
        if (await self.client.get("run")).status.has_ended:
            return False
        for run in await self.store.list(RunStatus.SUSPENDED):
            for row in await self.store.journal(run.id):
                is_awaited = row.kind is Kind.SIGNAL and not row.is_settled and row.name != "never"
                if is_awaited and await self.client.signal(run.id, row.name, row.name, dedup="1"):
                    return True
        due = await self.store.next_due_at()
        assert due is not None, f"stuck: {await self.standing()}"
        self.clock.advance(max(0, due - self.clock.now_ms()) / 1000)
        return True

    async def standing(self) -> list[str]:
        """Return how each run and each open promise stands."""
        told = []
        for status in RunStatus:
            for run in await self.store.list(status):
                rows = await self.store.journal(run.id)
                opened = [row.key for row in rows if not row.is_settled]
                told.append(f"{run.id} {run.status} epoch {run.epoch} open {opened}")
        return told

    async def left_over(self) -> list[str]:
        """Return what is not over though the run has ended."""
        await asyncio.sleep(0)
        return [line for line in await self.standing() if not line.endswith("open []")]


@pytest.mark.parametrize("end", ["", "fails"], ids=["done", "undone"])
def test_a_run_comes_to_what_its_code_says(store_url, end):
    """Its result, its calls, its undos and what it leaves behind do not depend on its workers."""

    async def check(stage: Stage, body: list[Node], mishaps: list[Mishap]) -> None:
        await stage.client.start(interpret, body, end, id="run")
        await stage.play(mishaps)
        if end == "fails":
            with pytest.raises(RunFailed, match="ValueError: off"):
                await stage.client.result("run")
        else:
            assert await stage.client.result("run") == [meaning(node) for node in body]
        assert await stage.left_over() == []
        crashes = len(mishaps)
        for kind, name, how in steps_in(body):
            most = 1 if how == "once" else 1 + (kind == "flaky") + crashes
            assert 1 <= calls[name] <= most, name
        assert set(undone) == (sagas_in(body) if end == "fails" else set())
        assert all(times <= 1 + crashes for times in undone.values())

    examine(store_url, check)


def test_a_run_that_is_cancelled_is_undone(store_url):
    """Cancelled at any commit, it leaves nothing open, and what it did is undone, or it is done."""

    async def check(stage: Stage, body: list[Node], mishaps: list[Mishap]) -> None:
        await stage.client.start(interpret, body, id="run")
        cancelling = [mishap._replace(end=End.CANCEL) for mishap in mishaps[:1]]
        await stage.play([*cancelling, *mishaps[1:]])
        status = (await stage.client.get("run")).status
        assert status is RunStatus.DONE or (mishaps and status is RunStatus.CANCELLED)
        assert await stage.left_over() == []
        for _, name, how in steps_in(body):
            assert how != "once" or calls[name] <= 1
        if status is RunStatus.DONE:
            assert not undone
        else:
            assert {name for name in sagas_in(body) if calls[name]} <= set(undone)

    examine(store_url, check)


Check = Callable[[Stage, list[Node], list[Mishap]], Awaitable[None]]


def examine(url: str, check: Check) -> None:
    """Check plans drawn at random, each on an empty store with a clock of its own."""

    async def play(body: list[Node], mishaps: list[Mishap], options: WorkerOptions) -> None:
        calls.clear()
        undone.clear()
        clock = ManualClock()
        store = await open_store(url, clock)
        try:
            for table in ("runs", "promises", "signals", "workers", "blobs"):
                db.rows(f"DELETE FROM {table}")
            await check(Stage(store, clock, options), body, mishaps)
        finally:
            await store.close()

    with asyncio.Runner() as runner, database(url) as db:

        @settings(SETTINGS, max_examples=EXAMPLES[url.partition(":")[0]])
        @given(plans(), MISHAPS, LIMITS)
        def one(plan: list[Node], mishaps: list[Mishap], options: WorkerOptions) -> None:
            runner.run(play(named(plan, count()), mishaps, options))

        one()
