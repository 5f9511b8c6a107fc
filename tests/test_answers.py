"""An answer reaches the question that it was given to: waits of one name take in order of keys."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, PromiseState, SignalExpired, WorkerOptions, connect, durable
from substrate.store.connect import open_store
from substrate.testing import ManualClock
from substrate.values.codec import decode, encode
from substrate.values.ids import Key, place_of
from tests.runs import QUICK, reached
from tests.stores import eventually, signal
from tests.troubled import troubled

SLOW = WorkerOptions(poll=timedelta(seconds=30))
COLD = WorkerOptions(
    idle_timeout=timedelta(0), poll=timedelta(milliseconds=20), lease=timedelta(seconds=1)
)

gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh_gates():
    gates.clear()


async def gated(name: str) -> str:
    await gates.setdefault(name, asyncio.Event()).wait()
    return name


async def at_once(name: str) -> str:
    return name


@durable
async def four(ctx: Context) -> Any:
    return await ctx.gather(*(ctx.receive("ok") for _ in range(4)))


@durable
async def asks(ctx: Context, what: int) -> list[Any]:
    await ctx.step(at_once, f"{what}")
    return [what, await ctx.receive("ask")]


@durable
async def twelve(ctx: Context) -> Any:
    return await ctx.map(asks, list(range(12)))


@pytest.mark.parametrize("limits", [QUICK, COLD])
async def test_four_answers_to_four_questions(store_url, limits):
    """Answers that come one by one go to the first that is still open, in memory or let go."""
    async with connect(store_url) as client, client.work([four], options=limits) as worker:
        await client.start(four, id="run")
        await worker.run_until_idle()
        for answer in (1, 2, 3):
            await client.signal("run", "ok", answer)
            await worker.run_until_idle()
        await client.signal("run", "ok", 4)
        assert await client.result("run") == [1, 2, 3, 4]


async def test_answers_that_come_at_once(store_url):
    """Answers sent while no worker lives are handed out in order when one comes."""
    async with connect(store_url) as client:
        async with client.work([four], options=QUICK):
            await client.start(four, id="run")
            await reached(client, "run", "ok.3")
        for answer in (1, 2, 3, 4):
            await client.signal("run", "ok", answer)
        async with client.work([four], options=QUICK):
            assert await client.result("run") == [1, 2, 3, 4]


async def test_every_answer_to_another_worker(store_url):
    """Between two answers the run moves to another worker, and each still finds its question."""
    async with connect(store_url) as client:
        await client.start(twelve, id="run")
        for answer in range(12):
            async with client.work([twelve, asks], options=QUICK):
                await reached(client, "run", "asks.0/11/ask.0")
                if answer:
                    await reached(client, "run", f"asks.0/{answer - 1}")
            await client.signal("run", "ask", answer)
        async with client.work([twelve, asks], options=QUICK):
            assert await client.result("run") == [[i, i] for i in range(12)]


async def test_ordinals_are_numbers(store_url):
    """The tenth wait of a name comes after the second, whatever the order of their text."""

    @durable
    async def eleven(ctx: Context) -> Any:
        return await ctx.gather(*(ctx.receive("ask") for _ in range(11)))

    async with connect(store_url) as client:
        async with client.work([eleven], options=QUICK):
            await client.start(eleven, id="run")
            await reached(client, "run", "ask.10")
        for answer in range(11):
            await client.signal("run", "ask", answer)
        async with client.work([eleven], options=QUICK):
            assert await client.result("run") == list(range(11))


@durable
async def deep(ctx: Context, levels: int) -> Any:
    """Wait below so many calls: a replay comes to it so many turns of the event loop later."""
    if levels == 0:
        return await ctx.receive("ask")
    (found,) = await ctx.gather(ctx.call(deep, levels - 1))  # a task of its own
    return found


@durable
async def shallow(ctx: Context) -> Any:
    return await ctx.receive("ask")


@durable
async def deep_and_shallow(ctx: Context) -> Any:
    return await ctx.gather(ctx.call(deep, 8), ctx.call(shallow))


async def test_a_wait_that_the_replay_has_not_reached_is_open(store_url):
    """A later wait takes nothing while an earlier one is open by the journal's rows alone."""
    functions = [deep_and_shallow, deep, shallow]
    first = "/".join(["deep.0"] * 9)
    async with connect(store_url) as client:
        async with client.work(functions, options=QUICK):
            await client.start(deep_and_shallow, id="run")
            await reached(client, "run", f"{first}/ask.0")
            await reached(client, "run", "shallow.0/ask.0")
        await client.signal("run", "ask", 1)
        async with client.work(functions, options=QUICK):
            await reached(client, "run", "deep.0")
            await client.signal("run", "ask", 2)
            assert await client.result("run") == [1, 2]


async def test_a_wait_that_the_code_asks_for_no_more(store_url):
    """A wait that only an earlier version of the code had holds up no other for ever."""

    @durable(name="run")
    async def before(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(early), ctx.call(late))

    @durable
    async def early(ctx: Context) -> Any:
        return await ctx.receive("ask")

    @durable
    async def late(ctx: Context) -> Any:
        return await ctx.receive("ask")

    @durable(name="run")
    async def after(ctx: Context) -> Any:
        return await ctx.gather(ctx.step(at_once, "instead"), ctx.call(late))

    async with connect(store_url) as client:
        async with client.work([before], options=QUICK):
            await client.start(before, id="run")
            await reached(client, "run", "early.0/ask.0")
            await reached(client, "run", "late.0/ask.0")
        async with client.work([after], options=QUICK):
            await client.signal("run", "ask", "yes")
            assert await client.result("run") == ["instead", "yes"]
        rows = {row.key: row.state for row in await client.journal("run")}
    assert rows["early.0/ask.0"] is PromiseState.CANCELLED


async def test_a_value_goes_to_the_wait_that_takes_it(store_url):
    """What the first wait refuses by its type the second gets, and nothing is noted."""

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("ask", int), ctx.receive("ask", str))

    async with connect(store_url) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        await reached(client, "run", "ask.1")
        await client.signal("run", "ask", "yes")
        await client.signal("run", "ask", 7)
        assert await client.result("run") == [7, "yes"]
        assert all(row.attempts is None for row in await client.journal("run"))


async def test_a_value_that_nobody_takes_is_refused(store_url):
    """A value that no open wait accepts is noted once, at the first of them; all go on."""

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("ask", int), ctx.receive("ask", list[int]))

    async with connect(store_url) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        await reached(client, "run", "ask.1")
        for value in ("perhaps", {"no": 1}, [1], 7):
            await client.signal("run", "ask", value)
        result = await client.result("run")
        rows = {row.key: row for row in await client.journal("run")}

    assert result == [7, [1]]
    assert [each["type"] for each in decode(rows["ask.0"].attempts or "[]")] == ["Refused"] * 2
    assert rows["ask.1"].attempts is None


async def test_a_loser_gives_back_in_its_old_place(store_url):
    """What a race's loser had taken stands before what came after it."""

    @durable
    async def races(ctx: Context) -> Any:
        winner = await ctx.race(ctx.receive("a"), ctx.receive("b"))
        other = "ba"[winner.place]
        return [winner.value, await ctx.receive(other), await ctx.receive(other)]

    async with connect(store_url) as client:
        await client.start(races, id="run")
        for name, value in (("a", "A"), ("b", "B"), ("a", "A2"), ("b", "B2")):
            await client.signal("run", name, value)
        async with client.work([races], options=QUICK):
            first, *others = await client.result("run")
    assert others == {"A": ["B", "B2"], "B": ["A", "A2"]}[first]


async def test_what_is_given_back_goes_to_who_still_waits(store_url):
    """A signal that a loser gives back is handed to a wait that is open beside the race."""

    @durable
    async def races(ctx: Context) -> Any:
        return (await ctx.race(ctx.receive("x"), ctx.receive("y"))).value

    @durable
    async def takes(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("x"), ctx.receive("y"))

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(races), ctx.call(takes))

    async with connect(store_url) as client:
        async with client.work([both], options=QUICK):
            await client.start(both, id="run")
            for call in ("races.0", "takes.0"):
                await reached(client, "run", f"{call}/x.0")
                await reached(client, "run", f"{call}/y.0")
        for name in ("x", "y"):
            await client.signal("run", name, f"{name}1")
        async with client.work([both], options=QUICK):
            await reached(client, "run", "races.0")
            won = next(row.value for row in await client.journal("run") if row.key == "races.0")
            again = decode(won or "")[0]
            await client.signal("run", again, f"{again}2")
            won, taken = await client.result("run")
    assert taken == {"x1": ["x2", "y1"], "y1": ["x1", "y2"]}[won]


async def test_a_cancelled_branch_takes_nothing(store_url):
    """A loser that is ended while its signal is on its way to it leaves that to the next wait."""

    @durable
    async def races(ctx: Context) -> Any:
        await ctx.race(ctx.receive("x"), ctx.step(gated, "race"))
        return await ctx.receive("x")

    async with troubled(store_url) as (client, store), client.work([races], options=QUICK):
        await client.start(races, id="run")
        await reached(client, "run", "x.0")
        held = store.hold("inbox")
        await client.signal("run", "x", "once")
        await eventually(lambda: store.held["inbox"])
        gates["race"].set()
        await reached(client, "run", "gated.0")
        held.set()
        async with asyncio.timeout(10):
            assert await client.result("run") == "once"


async def test_a_poll_leaves_what_a_wait_wants(store_url):
    """A poll takes only what no open wait of the name accepts."""

    @durable
    async def polls(ctx: Context) -> Any:
        await ctx.step(gated, "poll")
        return await ctx.poll("ask")

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("ask", str), ctx.call(polls))

    async with connect(store_url) as client, client.work([both], options=SLOW):
        await client.start(both, id="run")
        await reached(client, "run", "ask.0")
        other = await open_store(store_url)  # so that the worker does not hear of them
        for value in (1, "mine", 2):
            await other.send_signal(signal("run", "ask", encode(value), str(value)))
        await other.close()
        gates["poll"].set()
        assert await client.result("run") == ["mine", [1, 2]]


async def test_a_signal_that_is_there_beats_the_timeout(store_url):
    """A wait whose time is over when its worker comes back takes what has come; else it expires."""
    clock = ManualClock()

    @durable
    async def one(ctx: Context) -> Any:
        try:
            return await ctx.receive("ask", timeout=60)
        except SignalExpired:
            return "expired"

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(one), ctx.call(one))

    async with connect(store_url, clock) as client:
        async with client.work([both], options=QUICK):
            await client.start(both, id="run")
            await reached(client, "run", "one.0/ask.0")
            await reached(client, "run", "one.1/ask.0")
        await client.signal("run", "ask", "came")
        clock.advance(61)
        async with client.work([both], options=QUICK):
            assert await client.result("run") == ["came", "expired"]


async def test_a_timeout_of_the_first_leaves_the_second_its_answer(store_url):
    """A wait that has expired is open no more: what comes later is for the next one."""
    clock = ManualClock()

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(hasty), ctx.receive("ask"))

    @durable
    async def hasty(ctx: Context) -> Any:
        try:
            return await ctx.receive("ask", timeout=1)
        except SignalExpired:
            return "expired"

    async with connect(store_url, clock) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        await reached(client, "run", "hasty.0/ask.0")
        await reached(client, "run", "ask.0")
        await eventually(lambda: clock.sleepers)
        clock.advance(2)
        await reached(client, "run", "hasty.0")
        await client.signal("run", "ask", "late")
        assert await client.result("run") == ["expired", "late"]


async def test_a_cancel_while_answers_are_handed_out(store_url):
    """A run that is asked to end in the middle of a take ends, and leaves nothing open."""
    async with troubled(store_url) as (client, store), client.work([four], options=QUICK):
        await client.start(four, id="run")
        await reached(client, "run", "ok.3")
        held = store.hold("take_signals")
        await client.signal("run", "ok", 1)
        await eventually(lambda: store.held["take_signals"])
        await client.cancel("run")
        held.set()
        async with asyncio.timeout(10):
            await eventually(lambda: has_ended(client))
        assert not [row for row in await client.journal("run") if not row.is_settled]


async def has_ended(client: Any) -> bool:
    return (await client.get("run")).status.has_ended


def test_the_order_of_keys():
    """Scopes come first, then ordinals, both as numbers."""
    keys = [
        "ask.2",
        "ask.10",
        "tools.0/collect.0/ask.0",
        "tools.0/collect.1/ask.0",
        "tools.0/collect.10/ask.0",
        "tools.2/collect.0/ask.0",
        "work.0/2/ask.0",
        "work.0/10/ask.0",
    ]
    assert sorted(map(Key, reversed(keys)), key=place_of) == keys
