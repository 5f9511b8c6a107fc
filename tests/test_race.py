"""A race has one winner, by the journal's order, the same on every replay; the others are ended."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    OutcomeUnknown,
    PromiseState,
    RunFailed,
    RunStatus,
    StepFailed,
    Winner,
    WorkerOptions,
    connect,
    durable,
)
from tests.runs import QUICK, reached
from tests.stores import eventually

calls: Counter[str] = Counter()
told: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()
    told.clear()


async def quick(what: str) -> str:
    calls[what] += 1
    return what


async def when_told(what: str) -> str:
    await told[0].wait()
    return await quick(what)


async def endless() -> None:
    calls["endless"] += 1
    try:
        await asyncio.Event().wait()
    finally:
        calls["ended"] += 1


@durable
async def waits(ctx: Context) -> Any:
    return await ctx.receive("go")


@durable
async def races(ctx: Context) -> list[Any]:
    winner = await ctx.race(
        ctx.step(endless, effect="once"),
        ctx.receive("never"),
        ctx.spawn(waits),
        ctx.call(waits),
        ctx.step(when_told, "quick"),
    )
    assert isinstance(winner, Winner)
    assert winner.index == winner.place
    place, value = winner
    return [place, value, await ctx.receive("after")]


async def test_the_first_wins_and_the_others_are_ended(store_url):
    """The winner's place and value come back, live and replayed; what lost holds nothing more."""
    async with connect(store_url) as client:
        async with client.work([races, waits], options=QUICK):
            told.append(asyncio.Event())
            await client.start(races, id="run")
            for key in ("endless.0", "never.0", "waits.0", "waits.1/go.0"):
                await reached(client, "run", key)
            told[0].set()
            await reached(client, "run", "after.0")

            async def child_has_ended() -> bool:
                return (await client.get("run#waits.0")).status is RunStatus.CANCELLED

            await eventually(child_has_ended)
        async with client.work([races, waits], options=QUICK):
            await client.signal("run", "after", 1)
            assert await client.result("run") == [4, "quick", 1]
        rows = {p.key: p for p in await client.journal("run")}

    assert calls == {"endless": 1, "ended": 1, "quick": 1}
    assert rows["never.0"].state is PromiseState.CANCELLED
    assert rows["waits.0"].state is PromiseState.CANCELLED
    assert rows["waits.1/go.0"].state is PromiseState.CANCELLED
    assert OutcomeUnknown.__name__ in (rows["endless.0"].error or "")


async def test_a_race_that_is_won_while_others_wait(store_url):
    """A run is not let go between a race's first outcome and what the run does with it."""
    runs = [f"run-{i}" for i in range(8)]  # one is let go while another is looked after

    async def last(run_id: str, number: int) -> str:
        for key in (f"never.{number}", f"sleep.{number}"):
            await reached(client, run_id, key)
        return await quick(f"{run_id}/{number}")

    @durable
    async def many_races(ctx: Context) -> int:
        won = 0
        for i in range(12):
            call = ctx.step(last, ctx.run_id, i)
            winner = await ctx.race(ctx.receive("never"), call, ctx.sleep(60))
            won += winner.place
        return won

    eager = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=1))
    async with connect(store_url) as client, client.work([many_races], options=eager):
        for run_id in runs:
            await client.start(many_races, id=run_id)
        async with asyncio.timeout(30):
            assert [await client.result(run_id) for run_id in runs] == [12] * len(runs)
    assert set(calls.values()) == {1}


async def test_the_order_of_the_journal_decides(store_url):
    """Where several have been settled, the lowest seq won, whatever the order of the operands."""

    @durable
    async def both(ctx: Context) -> Any:
        first = ctx.spawn(waits, name="a")
        second = ctx.spawn(waits, name="b")
        return list(await ctx.race(first, second))

    async with connect(store_url) as client:
        async with client.work([both], options=QUICK) as worker:
            await client.start(both, id="run")
            await worker.run_until_idle()
        async with client.work([waits], options=QUICK):
            await client.signal("run#b.0", "go", "b")
            await client.result("run#b.0")
            await client.signal("run#a.0", "go", "a")
            await client.result("run#a.0")
        async with client.work([both], options=QUICK):
            assert await client.result("run") == [1, "b"]


async def test_a_failure_wins_too(store_url):
    """A race that is won by a failure raises it."""

    async def fails() -> None:
        raise ValueError("no")

    @durable
    async def loses(ctx: Context) -> Any:
        try:
            await ctx.race(ctx.receive("never"), ctx.step(fails))
        except StepFailed as error:
            return error.message
        return None

    async with connect(store_url) as client, client.work([loses], options=QUICK):
        await client.start(loses, id="run")
        assert await client.result("run") == "no"


async def test_a_race_of_nobody(store_url):
    """A race without operations is refused."""

    @durable
    async def empty(ctx: Context) -> Any:
        return await ctx.race()

    async with connect(store_url) as client, client.work([empty], options=QUICK):
        await client.start(empty, id="run")
        with pytest.raises(RunFailed, match="a race needs at least one operation"):
            await client.result("run")


async def test_a_race_of_thousands(store_url):
    """One of two thousand branches wins, and every other is cancelled."""

    @durable
    async def many(ctx: Context) -> Any:
        racers = [ctx.step(quick, "last")] + [ctx.step(endless) for _ in range(2000)]
        return list(await ctx.race(*reversed(racers)))

    async with connect(store_url) as client, client.work([many], options=QUICK):
        await client.start(many, id="run")
        assert await client.result("run") == [2000, "last"]
    assert calls["endless"] == calls["ended"]
