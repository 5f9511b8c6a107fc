"""A signal is kept until it is taken, taken once, oldest first; no wake-up is lost."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    PromiseState,
    RunEnded,
    RunNotFound,
    SignalExpired,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.codec import decode
from substrate.values.ids import RunId
from tests.runs import QUICK, reached
from tests.stores import eventually
from tests.troubled import troubled

SLOW_TICK = WorkerOptions(poll=timedelta(seconds=30))


@durable
async def waits(ctx: Context, timeout: float | None = None) -> Any:
    try:
        return await ctx.receive("go", timeout=timeout)
    except SignalExpired as error:
        return f"expired: {error}"


@durable
async def collects(ctx: Context, count: int) -> list[Any]:
    return [await ctx.receive("mail") for _ in range(count)]


async def test_an_early_signal_waits_for_its_waiter(store_url):
    """A signal that is sent before anybody waits, or drives the run, is there when it is wanted."""
    async with connect(store_url) as client:
        await client.start(waits, id="run")
        assert await client.signal("run", "go", {"yes": [1, None]}) is True
        async with client.work([waits], options=QUICK):
            assert await client.result("run") == {"yes": [1, None]}


async def test_a_waiter_is_woken_at_once(store_url):
    """A signal sent in the worker's own process wakes its run without waiting for a tick."""
    async with connect(store_url) as client, client.work([waits], options=SLOW_TICK):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        await client.signal("run", "go", 1)
        async with asyncio.timeout(5):
            assert await client.result("run") == 1


async def test_a_signal_that_comes_while_the_waiter_looks(store_url):
    """A signal that is sent after the inbox was read, and before the wait begins, wakes it."""
    async with troubled(store_url) as (client, store), client.work([waits], options=SLOW_TICK):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        held = store.hold("inbox")
        client._workers[0].wake(RunId("run"))
        await eventually(lambda: store.held["inbox"])
        await client.signal("run", "go", "in between")
        held.set()
        async with asyncio.timeout(5):
            assert await client.result("run") == "in between"


async def test_a_waiter_is_woken_from_elsewhere(store_url):
    """A signal sent through another connection is noticed by the worker's tick."""
    async with (
        connect(store_url) as other,
        connect(store_url) as client,
        client.work([waits], options=QUICK),
    ):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        await other.signal("run", "go", 2)
        assert await other.result("run") == 2


async def test_each_is_taken_once_oldest_first(store_url):
    """Signals of one name are taken in the order in which they were sent, each by one wait."""
    async with connect(store_url) as client:
        await client.start(collects, 4, id="run")
        for number in range(3):
            await client.signal("run", "mail", number)
        async with client.work([collects], options=QUICK):
            await reached(client, "run", "mail.3")
            await client.signal("run", "mail", 3)
            assert await client.result("run") == [0, 1, 2, 3]


async def test_a_dedup_counts_once(store_url):
    """A second signal with the same name and dedup is not kept; another name's is."""

    @durable
    async def takes(ctx: Context) -> list[Any]:
        found = [await ctx.receive("mail"), await ctx.receive("other")]
        try:
            await ctx.receive("mail", timeout=0)
        except SignalExpired:
            found.append("no more")
        return found

    async with connect(store_url) as client:
        await client.start(takes, id="run")
        sent = [
            await client.signal("run", "mail", "first", dedup="a"),
            await client.signal("run", "mail", "again", dedup="a"),
            await client.signal("run", "other", "other", dedup="a"),
        ]
        async with client.work([takes], options=QUICK):
            assert await client.result("run") == ["first", "other", "no more"]

    assert sent == [True, False, True]


async def test_waits_on_different_names(store_url):
    """Waits side by side take the signals of their own names only, whichever come first."""

    @durable
    async def asks(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("left"), ctx.receive("right"), ctx.receive("left"))

    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, id="run")
        await reached(client, "run", "right.0")
        await client.signal("run", "right", "r")
        await client.signal("run", "left", "l1")
        await client.signal("run", "left", "l2")
        one, two, three = await client.result("run")

    assert two == "r"
    assert {one, three} == {"l1", "l2"}


async def test_it_expires(store_url):
    """A wait that nobody answers in time raises SignalExpired, live and on replay."""
    clock = ManualClock()

    @durable
    async def asks(ctx: Context) -> list[str]:
        told = []
        try:
            await ctx.receive("answer", timeout=timedelta(minutes=2))
        except SignalExpired as error:
            told.append(str(error))
        await ctx.receive("go")
        return told

    async with connect(store_url, clock) as client:
        async with client.work([asks], options=QUICK):
            await client.start(asks, id="run")
            await eventually(lambda: clock.sleepers)
            clock.advance(119)
            await eventually(lambda: clock.asked[-1] == 1.0)
            clock.advance(1)
            await reached(client, "run", "go.0")
        async with client.work([asks], options=QUICK):
            await client.signal("run", "go")
            assert await client.result("run") == ["no signal 'answer' came to 'run' in 120 s"]
        states = {promise.key: promise.state for promise in await client.journal("run")}

    assert states["answer.0"] is PromiseState.EXPIRED


async def test_a_late_signal_is_kept_for_the_next_wait(store_url):
    """A signal that comes after its wait has expired is there for the next of that name."""

    @durable
    async def asks(ctx: Context) -> Any:
        try:
            await ctx.receive("answer", timeout=0)
        except SignalExpired:
            await ctx.receive("go")
        return await ctx.receive("answer")

    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, id="run")
        await reached(client, "run", "go.0")
        await client.signal("run", "answer", "late")
        await client.signal("run", "go")
        assert await client.result("run") == "late"


async def test_the_deadline_is_kept_by_another_worker(store_url):
    """A wait's deadline is recorded when it begins: a takeover does not prolong it."""
    clock = ManualClock()
    began = clock.now_ms()
    async with connect(store_url, clock) as client:
        async with client.work([waits], options=QUICK):
            await client.start(waits, 30.0, id="run")
            await eventually(lambda: clock.sleepers)
            recorded = (await client.journal("run"))[-1]
        clock.advance(31)
        async with client.work([waits], options=QUICK):
            assert (await client.result("run")).startswith("expired: no signal 'go'")

    assert decode(recorded.input or "") == {"due_at": began + 30_000}


@dataclass(frozen=True)
class Vote:
    who: str
    yes: bool


async def test_a_value_has_the_type_asked_for(store_url):
    """A typed wait gives the value as that type; what is none is refused, and the wait goes on."""

    @durable
    async def polls(ctx: Context) -> list[Any]:
        votes = [await ctx.receive("vote", Vote), await ctx.receive("vote", Vote)]
        assert all(isinstance(vote, Vote) for vote in votes)
        return [*(vote.who for vote in votes), await ctx.receive("vote", int | None)]

    async with connect(store_url) as client, client.work([polls], options=QUICK):
        await client.start(polls, id="run")
        await client.signal("run", "vote", {"who": "ann", "yes": True})
        await client.signal("run", "vote", {"who": "bob"})
        await client.signal("run", "vote", {"who": "cyd", "yes": False})
        await client.signal("run", "vote", None)
        assert await client.result("run") == ["ann", "cyd", None]
        second = next(p for p in await client.journal("run") if p.key == "vote.1")

    (refused,) = decode(second.attempts or "[]")
    assert refused["type"] == "Refused"
    assert "Vote" in refused["message"]


async def test_who_cannot_be_signalled(store_url):
    """A run that is unknown or has ended takes no signal, and its sender is told."""
    async with connect(store_url) as client, client.work([waits], options=QUICK):
        with pytest.raises(RunNotFound, match="no run 'nobody'"):
            await client.signal("nobody", "go")
        await client.start(waits, id="run")
        await client.signal("run", "go")
        await client.result("run")
        with pytest.raises(RunEnded, match="'run' is done"):
            await client.signal("run", "go")


async def test_no_wake_up_is_lost(store_url):
    """With many senders at once, on two connections, every signal is taken by exactly one wait."""
    count = 100
    async with (
        connect(store_url) as other,
        connect(store_url) as client,
        client.work([collects], options=QUICK),
    ):
        await client.start(collects, count, id="run")
        senders = [
            (client, other)[i % 2].signal("run", "mail", i, dedup=str(i)) for i in range(count)
        ]
        await asyncio.gather(*senders)
        async with asyncio.timeout(30):
            taken = Counter(await client.result("run"))

    assert taken == Counter(range(count))
