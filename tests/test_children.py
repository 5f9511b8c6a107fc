"""A child is a run of its own: it crashes, fails and waits without its parent."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    Misuse,
    RunDead,
    RunFailed,
    RunStatus,
    RunTimedOut,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.records import Owner
from tests.crew import Outside, outlives, worker_process
from tests.runs import QUICK, keys, reached
from tests.stores import crash, eventually
from tests.troubled import troubled

COLD = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))
FEW = WorkerOptions(concurrency=2, poll=timedelta(milliseconds=20))

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def work(what: Any) -> Any:
    calls[str(what)] += 1
    return what


@durable
async def finds(ctx: Context, what: int) -> int:
    if what == 13:
        raise LookupError("nothing there")
    return await ctx.step(work, what)


@durable
async def waits(ctx: Context, what: int) -> int:
    await ctx.receive("go")
    return what


@durable
async def asks_one(ctx: Context, what: int) -> Any:
    try:
        return await ctx.spawn(finds, what)
    except RunFailed as error:
        return [type(error).__name__, error.run_id, error.failure.type, error.failure.message]


@durable
async def asks_many(ctx: Context, count: int) -> int:
    found = await ctx.gather(*(ctx.spawn(finds, 100 + i) for i in range(count)))
    return sum(found)


async def test_a_child_is_a_run(store_url):
    """Its id is its parent's, # and the key; its outcome is one row of its parent's journal."""
    async with connect(store_url) as client, client.work([asks_one, finds], options=QUICK):
        await client.start(asks_one, 7, id="run")
        assert await client.result("run") == 7
        child = await client.get("run#finds.0")
        assert await client.result("run#finds.0") == 7
        rows = {p.key: p for p in await client.journal("run")}
        assert await keys(client, "run#finds.0") == ["work.0"]
        listed = [run.id for run in await client.list()]

    assert (child.parent_id, child.root_id, child.status) == ("run", "run", RunStatus.DONE)
    assert (rows["finds.0"].id, rows["finds.0"].kind, rows["finds.0"].value) == (
        "run#finds.0",
        "child",
        "7",
    )
    assert listed == ["run"]


async def test_a_childs_failure_is_data(store_url):
    """What a child raises comes to its parent as an exception that holds the child's error."""
    async with connect(store_url) as client, client.work([asks_one, finds], options=QUICK):
        await client.start(asks_one, 13, id="run")
        told = await client.result("run")

    assert told == ["RunFailed", "run#finds.0", "LookupError", "nothing there"]


@pytest.mark.parametrize("limits", [QUICK, FEW, COLD], ids=["usual", "few places", "cold"])
async def test_many_children(store_url, limits):
    """A parent gets what each of its children found, whether it waits warm or suspended."""
    async with connect(store_url) as client, client.work([asks_many, finds], options=limits):
        await client.start(asks_many, 30, id="run")
        assert await client.result("run") == sum(range(100, 130))
    assert set(calls.values()) == {1}


async def test_a_thousand_children_wake_their_parent_once(store_url):
    """A suspended parent is made ready by the last of its children, not by each of them."""

    @durable
    async def asks_afar(ctx: Context) -> int:
        far = (ctx.spawn(finds, 100 + i, queue="far") for i in range(1000))
        return sum(await ctx.gather(*far))

    async with connect(store_url) as client:
        async with client.work([asks_afar], options=QUICK) as worker:
            await client.start(asks_afar, id="run")
            await worker.run_until_idle()
            assert (await client.get("run")).status is RunStatus.SUSPENDED
        async with client.work([finds], queue="far", options=QUICK) as worker:
            await worker.run_until_idle()
            run = await client.get("run")
            assert (run.status, run.epoch) == (RunStatus.READY, 1)
        async with client.work([asks_afar], options=QUICK):
            assert await client.result("run") == sum(range(100, 1100))
            assert (await client.get("run")).epoch == 2


async def test_a_child_on_another_queue(store_url):
    """A child may run on another queue, and so on another worker."""

    @durable
    async def sends_away(ctx: Context) -> int:
        return await ctx.spawn(finds, 5, queue="far", name="there")

    async with connect(store_url) as client, client.work([sends_away, finds], options=QUICK):
        await client.start(sends_away, id="run")
        await reached(client, "run", "there.0")
        assert (await client.get("run#there.0")).status is RunStatus.READY
        async with client.work([finds], queue="far", options=QUICK):
            assert await client.result("run") == 5


async def test_a_handle(store_url):
    """A child that was started is known by its id, and is awaited later, or never."""

    @durable
    async def starts(ctx: Context) -> list[Any]:
        first = await ctx.spawn(waits, 1).start()
        await ctx.spawn(waits, 2, name="forgotten").start()
        between = await ctx.step(work, "between")
        return [first.id, between, await first]

    async with connect(store_url) as client, client.work([starts, waits], options=COLD):
        await client.start(starts, id="run")
        await reached(client, "run", "work.0")
        await client.signal("run#waits.0", "go")
        assert await client.result("run") == ["run#waits.0", "between", 1]
        assert (await client.get("run#forgotten.0")).status.has_ended is False
        await client.signal("run#forgotten.0", "go")
        assert await client.result("run#forgotten.0") == 2


async def test_a_child_that_crashes_its_workers(store_url):
    """A child that crashes three claims is dead, and its parent goes on with what it is told."""

    @durable
    async def outlives(ctx: Context) -> list[Any]:
        good, bad = ctx.spawn(finds, 1), ctx.spawn(waits, 2, queue="bad")
        try:
            await ctx.gather(good, bad)
        except RunDead as error:
            return [error.run_id, error.failure.type]
        return []

    lane = "bad/waits/1"
    async with connect(store_url) as client:
        async with client.work([outlives, finds], options=QUICK):
            await client.start(outlives, id="run")
            await reached(client, "run", "waits.0")
            for number in range(3):
                await crash(client.store, Owner(f"doomed-{number}"), lane)
            assert await client.result("run") == ["run#waits.0", "RunDead"]
            rows = {p.key: p for p in await client.journal("run")}
        dead = await client.list(RunStatus.DEAD)

    assert rows["finds.0"].value == "1"
    assert [run.id for run in dead] == ["run#waits.0"]


async def test_a_child_that_kills_its_workers(store_url, tmp_path):
    """Three real processes die of it, which its parent was in, too; then it is dead.

    Its parent has what the others found.
    """
    outside = Outside(tmp_path)
    async with connect(store_url) as client:
        await client.start(outlives, str(tmp_path), id="run")
        result = asyncio.create_task(client.result("run"))
        workers = 0
        while not result.done():
            workers += 1
            with worker_process(store_url) as worker:
                await eventually(lambda worker=worker: result.done() or not worker.is_alive)
        dead = await client.list(RunStatus.DEAD)

    assert result.result() == [1, "run#kills.0", 2]
    assert [run.id for run in dead] == ["run#kills.0"]
    assert (outside.notes["killed"], workers) == (3, 4)


async def test_a_childs_deadline(store_url):
    """A child has its own time, never more than its parent's, and its parent is told."""
    clock = ManualClock()

    @durable
    async def hurries(ctx: Context) -> str:
        try:
            await ctx.spawn(waits, 1, timeout=60)
        except RunTimedOut as error:
            return error.run_id
        return "in time"

    async with (
        connect(store_url, clock) as client,
        client.work([hurries, waits], options=QUICK) as worker,
    ):
        await client.start(hurries, id="run")
        await client.start(hurries, id="late", timeout=30)
        await worker.run_until_idle()
        clock.advance(30)
        await worker.run_until_idle()
        assert (await client.get("late#waits.0")).status is RunStatus.FAILED
        with pytest.raises(RunTimedOut):
            await client.result("late")
        clock.advance(30)
        await worker.run_until_idle()
        assert await client.result("run") == "run#waits.0"


async def test_a_circle_of_children(store_url):
    """Children that spawn each other without end are refused, with the cure."""

    @durable
    async def circles(ctx: Context, depth: int) -> Any:
        try:
            return await ctx.spawn(circles, depth + 1)
        except Misuse as error:
            return [depth, str(error)]

    async with connect(store_url) as client, client.work([circles], options=QUICK):
        await client.start(circles, 0, id="run")
        depth, told = await client.result("run")

    assert depth == 32
    assert "children that spawn each other in a circle never end" in told


async def test_a_child_is_started_once(store_url):
    """A parent that crashes after it spawned finds its children again, and starts none twice."""

    @durable
    async def asks_afar(ctx: Context) -> int:
        # Nobody drives them before the crash: a worker knows of itself what it can come to.
        far = (ctx.spawn(finds, 100 + i, queue="far") for i in range(5))
        return sum(await ctx.gather(*far))

    async with troubled(store_url) as (client, store):
        async with client.work([asks_afar], options=QUICK):
            await client.start(asks_afar, id="run")
            await reached(client, "run", "finds.4")
        children = [p.id for p in await client.journal("run") if p.kind == "child"]
        await client.signal("run", "wake_up")
        await crash(store, Owner("doomed"), "default/asks_afar/1")
        async with (
            client.work([finds], queue="far", options=QUICK),
            client.work([asks_afar], options=QUICK),
        ):
            assert await client.result("run") == sum(range(100, 105))
    assert set(calls.values()) == {1}
    assert len(children) == 5


async def test_a_childs_end_races_its_parents_suspend(store_url):
    """Children end while their parent is being let go, over and over, and no wake-up is lost."""

    @durable
    async def chains(ctx: Context, count: int) -> int:
        total = 0
        for i in range(count):
            total += await ctx.spawn(finds, 100 + i)
        return total

    limits = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=1))
    async with connect(store_url) as client, client.work([chains, finds], options=limits):
        await asyncio.gather(*(client.start(chains, 20, id=f"run{n}") for n in range(5)))
        async with asyncio.timeout(60):
            results = [await client.result(f"run{n}") for n in range(5)]
    assert results == [sum(range(100, 120))] * 5
