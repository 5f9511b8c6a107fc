"""Where operations of a run meet, what each of them promises still holds."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    NotDone,
    Retry,
    RunCancelled,
    RunFailed,
    RunStatus,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from tests.runs import QUICK, reached
from tests.stores import eventually

did: list[str] = []
calls: Counter[str] = Counter()
GONE = WorkerOptions(poll=QUICK.poll, shutdown_grace=timedelta(0))
COLD = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))
CALM = WorkerOptions(poll=QUICK.poll, shutdown_grace=timedelta(seconds=1))


@pytest.fixture(autouse=True)
def _afresh():
    did.clear()
    calls.clear()


async def note(what: str) -> str:
    did.append(what)
    return what


async def mark() -> None:
    did.append("a")


@durable
async def waits(ctx: Context) -> Any:
    return await ctx.receive("go")


@durable
async def races_children(ctx: Context) -> Any:
    winner = await ctx.race(ctx.spawn(waits, name="a"), ctx.spawn(waits, name="b"))
    return [winner.value, await ctx.receive("after")]


async def test_losers_of_a_suspended_race_are_ended(store_url):
    """A race whose winner came while the run was suspended ends its losers all the same."""
    functions = [races_children, waits]
    async with connect(store_url) as client, client.work(functions, options=QUICK) as worker:
        await client.start(races_children, id="run")
        await worker.run_until_idle()
        await client.signal("run#a.0", "go", 1)
        await worker.run_until_idle()
        await reached(client, "run", "after.0")
        await worker.run_until_idle()
        assert (await client.get("run#b.0")).status is RunStatus.CANCELLED


async def test_a_losing_wait_takes_no_signal(store_url):
    """A signal that the loser of a race would have taken is there for who asks next."""

    @durable
    async def races(ctx: Context) -> Any:
        winner = await ctx.race(ctx.receive("a"), ctx.receive("b"))
        other = "ba"[winner.place]
        return [winner.value, await ctx.receive(other, timeout=1)]

    async with connect(store_url) as client:
        await client.start(races, id="run")
        await client.signal("run", "a", "A")
        await client.signal("run", "b", "B")
        async with client.work([races], options=QUICK):
            assert sorted(await client.result("run")) == ["A", "B"]


async def test_what_a_poll_returned_is_recorded(store_url):
    """Two polls side by side see the same when they are replayed, an empty list too."""
    seen: list[Any] = []

    @durable
    async def both(ctx: Context) -> Any:
        seen.append(await ctx.gather(ctx.poll("x"), ctx.poll("x")))
        await ctx.receive("go")
        return None

    async with connect(store_url) as client:
        await client.start(both, id="run")
        await client.signal("run", "x", 1)
        async with client.work([both], options=QUICK) as worker:
            await reached(client, "run", "go.0")
            await worker.run_until_idle()
            await client.signal("run", "x", 2)
            await client.signal("run", "go")
            await client.result("run")
    assert seen[0] == seen[1]


async def test_two_polls_race(store_url):
    """A race of two polls has a winner."""

    @durable
    async def both(ctx: Context) -> Any:
        return list(await ctx.gather(ctx.poll("x"), ctx.poll("x")))

    async with connect(store_url) as client:
        await client.start(both, id="run")
        await client.signal("run", "x", 1)
        async with client.work([both], options=QUICK):
            result = await client.result("run")
            rows = {p.key: p for p in await client.journal("run")}
    assert sorted(result) == [[], [1]]
    assert {"x.0", "x.1"} <= rows.keys()


async def test_the_second_call_is_waited_for_too(store_url):
    """A call made anew after a reconcile is as long in doubt as the first was."""
    clock = ManualClock()

    async def pay() -> str:
        calls["pay"] += 1
        await asyncio.Event().wait()
        return "paid"

    def look() -> Any:
        calls["look"] += 1
        return NotDone()

    @durable
    async def buys(ctx: Context) -> Any:
        return await ctx.step(pay, effect="once", reconcile=look, timeout=30)

    async with connect(store_url, clock) as client:
        async with client.work([buys], options=GONE):
            await client.start(buys, id="run")
            await eventually(lambda: calls["pay"] == 1)
        clock.advance(100)
        async with client.work([buys], options=GONE):
            await eventually(lambda: calls["pay"] == 2)
        assert calls["look"] == 1
        async with client.work([buys], options=GONE) as worker:  # the second began just now
            await worker.run_until_idle()
            assert calls == {"pay": 2, "look": 1}


@durable
async def takes_back(ctx: Context) -> None:
    await ctx.step(note, "undone")


@durable
async def takes_back_tomorrow(ctx: Context) -> None:
    await ctx.sleep(86400)
    await ctx.step(note, "undone")


async def test_an_earlier_attempt_may_have_happened(store_url):
    """A step is undone when any of its attempts may have happened, whatever the last one says."""

    async def book() -> None:
        calls["book"] += 1
        if calls["book"] == 1:
            raise ConnectionResetError("no answer; it may have happened")
        raise ConnectionRefusedError("nobody is there")

    @durable
    async def fails(ctx: Context) -> None:
        retry = Retry(max_attempts=2, initial=timedelta(0))
        await ctx.step(book, undo=takes_back, effect="idempotent", retry=retry)

    async with connect(store_url) as client, client.work([fails, takes_back], options=QUICK):
        await client.start(fails, id="run")
        with pytest.raises(RunFailed):
            await client.result("run")
    assert did == ["undone"]


async def test_an_attempt_of_a_lost_worker_may_have_happened(store_url):
    """The same, where the earlier attempt was that of a worker that was lost."""

    async def book() -> None:
        calls["book"] += 1
        if calls["book"] == 1:
            await asyncio.Event().wait()
        raise ConnectionRefusedError("nobody is there")

    @durable
    async def fails(ctx: Context) -> None:
        await ctx.step(book, undo=takes_back, effect="idempotent")

    async with connect(store_url) as client:
        async with client.work([fails, takes_back], options=GONE):
            await client.start(fails, id="run")
            await eventually(lambda: calls["book"] == 1)
        async with client.work([fails, takes_back], options=QUICK):
            with pytest.raises(RunFailed):
                await client.result("run")
    assert did == ["undone"]


async def test_what_is_known_not_to_have_happened_is_not_undone(store_url):
    """A call that its reconcile says was not made is not undone."""

    async def pay() -> None:
        raise ConnectionResetError("no answer")

    @durable
    async def fails(ctx: Context) -> None:
        await ctx.step(pay, undo=takes_back, effect="once", reconcile=NotDone)

    async with connect(store_url) as client, client.work([fails, takes_back], options=QUICK):
        await client.start(fails, id="run")
        with pytest.raises(RunFailed):
            await client.result("run")
    assert did == []


async def test_a_transaction_whose_end_nobody_heard_is_undone(store_url):
    """A transactional step that was committed and then cancelled before it heard is undone."""
    committed = asyncio.Event()

    def writes(tx: Any) -> str:
        return "written"

    @durable
    async def works(ctx: Context) -> None:
        await ctx.step(writes, undo=takes_back, effect="transactional")
        await ctx.receive("go")

    async with connect(store_url) as client:
        transact = client.store.transact

        async def unheard(*args: Any) -> Any:
            stands = await transact(*args)
            committed.set()
            await asyncio.Event().wait()
            return stands

        client.store.transact = unheard
        async with client.work([works, takes_back], options=QUICK):
            await client.start(works, id="run")
            await committed.wait()
            await client.cancel("run")
            with pytest.raises(RunCancelled):
                await client.result("run")
    assert did == ["undone"]


async def test_a_short_rest_of_a_test_with_its_own_clock(store_url):
    """What only waits for a step's next attempt is let go at once, however short its wait."""
    clock = ManualClock()

    async def flaky() -> str:
        calls["flaky"] += 1
        if calls["flaky"] == 1:
            raise OSError("no")
        return "yes"

    @durable
    async def works(ctx: Context) -> Any:
        return await ctx.step(flaky, retry=Retry())

    async with connect(store_url, clock) as client, client.work([works], options=CALM) as worker:
        await client.start(works, id="run")
        async with asyncio.timeout(10):
            await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED
        clock.advance(1)
        assert await client.result("run") == "yes"


async def test_a_cut_off_gather_is_not_at_work_for_ever(store_url):
    """A run that caught the misuse of a timeout around a gather is let go when it waits."""

    @durable
    async def works(ctx: Context) -> Any:
        try:
            async with asyncio.timeout(0):
                await ctx.gather(ctx.receive("a"), ctx.receive("b"), ctx.receive("c"))
        except Exception as error:  # noqa: BLE001
            did.append(type(error).__name__)
        return await ctx.receive("go")

    async with connect(store_url) as client, client.work([works], options=CALM) as worker:
        await client.start(works, id="run")
        async with asyncio.timeout(10):
            await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED


async def test_an_undo_closes_its_step(store_url):
    """A crash after an undo was recorded leaves no pending row when the run has ended."""

    async def endless() -> None:
        calls["endless"] += 1
        await asyncio.Event().wait()

    @durable
    async def works(ctx: Context) -> None:
        await ctx.step(endless, undo=takes_back)

    async with connect(store_url) as client:
        commit = client.store.commit

        async def lost(batch: Any, **named: Any) -> Any:
            if any(e.promise.key == "endless.0" and e.promise.is_settled for e in batch):
                calls["lost"] += 1
                await asyncio.Event().wait()
            return await commit(batch, **named)

        client.store.commit = lost
        async with client.work([works, takes_back], options=GONE):
            await client.start(works, id="run")
            await eventually(lambda: calls["endless"] == 1)
            await client.cancel("run")
            await eventually(lambda: calls["lost"])
        client.store.commit = commit
        async with client.work([works, takes_back], options=QUICK):
            with pytest.raises(RunCancelled):
                await client.result("run")
            rows = await client.journal("run")
    assert [p.key for p in rows if not p.is_settled] == []
