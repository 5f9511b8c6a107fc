"""Cancel and deadlines end a run and everything below it, and reach a step in flight."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    PromiseState,
    RunCancelled,
    RunEnded,
    RunNotFound,
    RunStatus,
    RunTimedOut,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.clock import from_ms
from tests.runs import QUICK, reached
from tests.stores import eventually

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def endless(what: str) -> None:
    calls[f"{what} begins"] += 1
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        calls[f"{what} is cancelled"] += 1
        raise


@durable
async def works(ctx: Context, effect: str) -> None:
    await ctx.step(endless, "step", effect=effect)


@durable
async def waits(ctx: Context) -> Any:
    return await ctx.receive("go", timeout=3600)


@durable
async def parent(ctx: Context) -> Any:
    return await ctx.gather(ctx.spawn(waits), ctx.spawn(works, "pure"), ctx.spawn(middle))


@durable
async def middle(ctx: Context) -> Any:
    return await ctx.spawn(waits)


@pytest.mark.parametrize("effect", ["pure", "once"])
async def test_it_reaches_a_step_in_flight(store_url, effect):
    """The step is cancelled, the run ends as cancelled, and an effect counts as unknown."""
    async with connect(store_url) as client, client.work([works], options=QUICK):
        await client.start(works, effect, id="run")
        await eventually(lambda: calls["step begins"])
        await client.cancel("run")
        with pytest.raises(RunCancelled, match="'run' failed: RunCancelled"):
            await client.result("run")
        rows = {p.key: p for p in await client.journal("run")}
        run = await client.get("run")

    assert calls == {"step begins": 1, "step is cancelled": 1}
    assert (run.status, rows["run"].state) == (RunStatus.CANCELLED, PromiseState.CANCELLED)
    if effect == "once":
        assert "OutcomeUnknown" in (rows["endless.0"].error or "")


async def test_it_reaches_everything_below(store_url):
    """Children and their children end, those that wait and those at work, warm or suspended."""
    ids = ["run", "run#waits.0", "run#works.0", "run#middle.0", "run#middle.0#waits.0"]
    functions = [parent, waits, works, middle]
    cold = WorkerOptions(idle_timeout=QUICK.lease * 0, poll=QUICK.poll)
    async with connect(store_url) as client, client.work(functions, options=cold):
        await client.start(parent, id="run")
        await reached(client, "run", "middle.0")
        await reached(client, "run#middle.0", "waits.0")
        await reached(client, "run#middle.0#waits.0", "go.0")
        await eventually(lambda: calls["step begins"])
        await client.cancel("run")

        async def all_ended() -> bool:
            return all([(await client.get(id_)).status.has_ended for id_ in ids])

        await eventually(all_ended)
        statuses = {(await client.get(id_)).status for id_ in ids}
        gate = (await client.journal("run#waits.0"))[-1]

    assert statuses == {RunStatus.CANCELLED}
    assert (gate.key, gate.state) == ("go.0", PromiseState.CANCELLED)


async def test_a_run_without_a_worker(store_url):
    """A run that nobody drives is cancelled by the next worker, which calls nothing of it."""
    async with connect(store_url) as client:
        await client.start(works, "pure", id="run")
        assert (await client.cancel("run")).cancel_requested
        async with client.work([works], options=QUICK):
            with pytest.raises(RunCancelled):
                await client.result("run")
    assert not calls


async def test_an_end_that_comes_first_wins(store_url):
    """A run that has ended stays what it came to, and cancelling it again says nothing else."""

    @durable
    async def quick(ctx: Context) -> str:
        return "done"

    async with connect(store_url) as client, client.work([quick], options=QUICK):
        await client.start(quick, id="run")
        assert await client.result("run") == "done"
        assert (await client.cancel("run")).status is RunStatus.DONE
        assert await client.result("run") == "done"
        with pytest.raises(RunNotFound, match="nobody"):
            await client.cancel("nobody")


async def test_a_spawn_that_races_a_cancel(store_url):
    """A child that is spawned while its tree is being cancelled is cancelled too."""

    @durable
    async def spawns(ctx: Context) -> None:
        for _ in range(1000):
            await ctx.spawn(waits).start()

    async with connect(store_url) as client, client.work([spawns, waits], options=QUICK):
        await client.start(spawns, id="run")
        await reached(client, "run", "waits.5")
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")

        async def open_runs() -> list[Any]:
            found = []
            for status in (RunStatus.READY, RunStatus.RUNNING, RunStatus.SUSPENDED):
                found += await client.list(status)
            return found

        async def none_is_open() -> bool:
            return not await open_runs()

        await eventually(none_is_open)


async def test_a_thread_is_not_waited_for(store_url):
    """A plain function cannot be stopped: the run ends without it, and its result is discarded."""
    go, over = threading.Event(), threading.Event()

    def stuck() -> str:
        calls["stuck"] += 1
        go.wait(20)
        over.set()
        return "late"

    @durable
    async def blocks(ctx: Context) -> str:
        return await ctx.step(stuck)

    async with connect(store_url) as client, client.work([blocks], options=QUICK):
        await client.start(blocks, id="run")
        await eventually(lambda: calls["stuck"])
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")
        go.set()
        await eventually(over.is_set)
        keys = [p.key for p in await client.journal("run")]

    assert keys == ["run"]


async def test_a_runs_time_is_over(store_url):
    """A run that has not ended when its time is over fails with RunTimedOut, at work or waiting."""
    clock = ManualClock()
    async with connect(store_url, clock) as client:
        async with client.work([works, waits], options=QUICK) as worker:
            await client.start(works, "pure", id="works", timeout=60)
            await client.start(waits, id="waits", timeout=60)
            await eventually(lambda: calls["step begins"])
            await eventually(lambda: clock.sleepers)
            execution = worker.execution_of((await client.get("waits")).id)
            assert execution is not None
            await execution.wakeups.suspend()
            clock.advance(60)
            for id_ in ("works", "waits"):
                with pytest.raises(RunTimedOut):
                    await client.result(id_)
        runs = [await client.get(id_) for id_ in ("works", "waits")]
        outcome = await client.store.promise(runs[0].id)

    assert [run.status for run in runs] == [RunStatus.FAILED] * 2
    assert outcome is not None
    assert outcome.state is PromiseState.EXPIRED


async def test_a_deadline_before_the_beginning(store_url):
    """A run whose time is over before it was to begin ends then, and is never called."""
    clock = ManualClock()
    at = from_ms(clock.now_ms()) + timedelta(days=1)
    async with connect(store_url, clock) as client, client.work([works], options=QUICK) as worker:
        await client.start(works, "pure", id="run", at=at, timeout=60)
        await worker.run_until_idle()
        clock.advance(60)
        with pytest.raises(RunTimedOut):
            await client.result("run")
    assert not calls


async def test_a_dead_letter_is_discarded(store_url):
    """A failed run can be given up for good: it is cancelled, and its history stays."""

    @durable
    async def fails(ctx: Context) -> None:
        raise ValueError("no")

    async with connect(store_url) as client, client.work([fails], options=QUICK):
        await client.start(fails, id="run")
        with pytest.raises(Exception, match="ValueError: no"):
            await client.result("run")
        assert (await client.discard("run")).status is RunStatus.CANCELLED
        with pytest.raises(RunEnded, match="only a dead, failed or paused run"):
            await client.discard("run")
        assert "ValueError" in ((await client.journal("run"))[-1].error or "")
        with pytest.raises(RunCancelled, match="run was discarded; before, ValueError: no"):
            await client.result("run")
