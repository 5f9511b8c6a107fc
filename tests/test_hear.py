"""What a run hears it hears once; none recorded is none on replay; it ends with nothing unread."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, RunCancelled, RunEnded, RunFailed, connect, durable
from substrate.values.ids import RunId
from tests.runs import QUICK, keys, reached
from tests.stores import eventually
from tests.troubled import troubled

HASTY = replace(QUICK, shutdown_grace=timedelta(0))

calls: Counter[str] = Counter()
gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()
    gates.clear()


async def think(what: str) -> str:
    """Stand for a model call: it may be held back by a gate of its name."""
    calls[what] += 1
    if what in gates:
        await gates[what].wait()
    return what


@durable
async def chats(ctx: Context, turns: int) -> list[Any]:
    """Hear, think, hear again: until nothing new was said and the turns are over."""
    said: list[Any] = []
    turn = 0
    while True:
        heard = await ctx.hear("message")
        said += heard
        if turn >= turns and not heard:
            return said
        said.append(await ctx.step(think, f"turn {turn}"))
        turn += 1


@durable
async def deaf(ctx: Context) -> str:
    """Hear once, before the last call."""
    await ctx.hear("message")
    calls["driven"] += 1
    return await ctx.step(think, "turn 0")


async def test_it_hears_what_has_come_in_order(store_url):
    """All that was sent under the name comes at once, oldest first, and in one row."""
    async with connect(store_url) as client:
        await client.start(chats, 1, id="run")
        for number in (1, 2, 3):
            await client.signal("run", "message", number)
        await client.signal("run", "other", "not this")
        async with client.work([chats], options=QUICK):
            assert await client.result("run") == [1, 2, 3, "turn 0"]
        assert await keys(client, "run") == ["heard.0", "think.0", "run"]


async def test_nothing_leaves_no_row(store_url):
    """A look that finds nothing is not recorded, and costs no change of the run."""
    async with connect(store_url) as client, client.work([chats], options=QUICK):
        await client.start(chats, 3, id="run")
        await client.result("run")
        assert await keys(client, "run") == ["think.0", "think.1", "think.2", "run"]
        assert (await client.get("run")).last_seq == 5


async def test_none_recorded_is_none_on_replay(store_url):
    """A replay does not hear at an earlier turn what came only later."""
    gates["turn 1"] = asyncio.Event()
    async with connect(store_url) as client:
        async with client.work([chats], options=HASTY):
            await client.start(chats, 2, id="run")
            await eventually(lambda: calls["turn 1"])
        await client.signal("run", "message", "late")
        gates["turn 1"].set()
        async with client.work([chats], options=QUICK):
            said = await client.result("run")
        first, *_ = await client.journal("run")

    assert first.key == "think.0"
    assert said.index("late") > said.index("turn 0")
    assert calls["turn 0"] == 1


@durable
async def quick(ctx: Context) -> str:
    return await ctx.step(think, "inside")


@durable
async def endless(ctx: Context) -> Any:
    await ctx.step(think, "inside")
    return await ctx.receive("never")


async def with_calls(ctx: Context) -> None:
    await ctx.gather(ctx.call(quick), ctx.call(quick))


async def with_a_race(ctx: Context) -> None:
    await ctx.race(ctx.call(endless), ctx.step(think, "wins"))


async def with_a_child(ctx: Context) -> None:
    await ctx.spawn(quick).start()


@pytest.mark.parametrize("before", [with_calls, with_a_race, with_a_child])
async def test_what_was_left_behind_is_not_later(store_url, before):
    """Killed after a look in vain, a run looks anew, whatever rows lie behind it."""
    gates["held"] = asyncio.Event()

    @durable
    async def run(ctx: Context) -> Any:
        await before(ctx)
        heard = await ctx.hear("message")
        await ctx.step(think, "held")
        return heard

    async with connect(store_url) as client:
        async with client.work([run, quick, endless], options=HASTY):
            await client.start(run, id="run")
            await eventually(lambda: calls["held"])
            if before is with_a_child:
                await client.result("run#quick.0")  # its row is the newest of all
        await client.signal("run", "message", "now")
        gates.clear()
        async with client.work([run, quick, endless], options=QUICK):
            assert await client.result("run") == ["now"]


async def test_what_was_made_before_and_awaited_after_is_later(store_url):
    """An operation recorded after a look says that it was made, whenever it took its key."""
    gates["held"] = asyncio.Event()

    @durable
    async def run(ctx: Context) -> Any:
        mine = ctx.step(think, "mine")
        heard = await ctx.hear("message")
        await mine
        await ctx.step(think, "held")
        return heard

    async with connect(store_url) as client:
        async with client.work([run], options=HASTY):
            await client.start(run, id="run")
            await eventually(lambda: calls["held"])
        await client.signal("run", "message", "late")
        gates.clear()
        async with client.work([run], options=QUICK):
            assert await client.result("run") == []


async def test_a_message_during_the_last_call_is_heard(store_url):
    """A run does not end over a message: it is driven again, and nothing it did is done again."""
    gates["turn 0"] = asyncio.Event()

    @durable
    async def ends_twice(ctx: Context) -> list[Any]:
        said = await ctx.hear("message")
        said.append(await ctx.step(think, "turn 0"))
        while heard := await ctx.hear("message"):
            said += [*heard, await ctx.step(think, "answers")]
        calls["returned"] += 1
        return said

    async with troubled(store_url) as (client, store), client.work([ends_twice], options=QUICK):
        await client.start(ends_twice, id="run")
        await eventually(lambda: calls["turn 0"])
        held = store.hold("inbox")
        gates["turn 0"].set()
        await eventually(lambda: store.held["inbox"])  # it has looked, in vain, for the last time
        await client.signal("run", "message", "wait")
        held.set()
        assert await client.result("run") == ["turn 0", "wait", "answers"]
        assert store.calls["finish"] == 2
        assert await client.store.inbox(RunId("run")) == []

    assert calls == {"turn 0": 1, "answers": 1, "returned": 2}


async def test_it_hears_after_a_restart(store_url):
    """A message that came while no worker lived is heard by the run that is resumed."""
    gates["turn 0"] = asyncio.Event()
    async with connect(store_url) as client:
        async with client.work([chats], options=HASTY):
            await client.start(chats, 1, id="run")
            await eventually(lambda: calls["turn 0"])
        await client.signal("run", "message", "hello")
        gates["turn 0"].set()
        async with client.work([chats], options=QUICK):
            assert "hello" in await client.result("run")


async def test_a_message_that_is_never_heard_does_not_spin(store_url, caplog):
    """Who ends a second time without having heard anything new ends; the log names the signal."""
    gates["turn 0"] = asyncio.Event()

    async with connect(store_url) as client, client.work([deaf], options=QUICK):
        with caplog.at_level(logging.WARNING, "ostinato"):
            await client.start(deaf, id="run")
            await eventually(lambda: calls["turn 0"])
            await client.signal("run", "message", "hello?")
            gates["turn 0"].set()
            assert await client.result("run") == "turn 0"
        assert [each.value for each in await client.store.inbox(RunId("run"))] == ['"hello?"']
        with pytest.raises(RunEnded):
            await client.signal("run", "message", "still there?")

    assert calls == {"turn 0": 1, "driven": 2}
    assert "without having heard all signals of message" in caplog.text


async def test_who_never_hears_ends_at_once(store_url):
    """A function that never hears is not concerned: its end asks nothing of its inbox."""

    @durable
    async def plain(ctx: Context) -> str:
        return await ctx.step(think, "once")

    async with troubled(store_url) as (client, store), client.work([plain], options=QUICK):
        await client.start(plain, id="run")
        await client.signal("run", "message", "whatever")
        assert await client.result("run") == "once"
    assert store.calls["finish"] == 0
    assert store.calls["inbox"] == 0


async def test_a_child_ends_the_same_way(store_url):
    """A child's end wakes its parent only when it has heard what it was sent."""
    gates["turn 0"] = asyncio.Event()

    @durable
    async def parent(ctx: Context) -> Any:
        return await ctx.spawn(chats, 1, name="child")

    async with connect(store_url) as client, client.work([parent, chats], options=QUICK):
        await client.start(parent, id="run")
        await eventually(lambda: calls["turn 0"])
        await client.signal("run#child.0", "message", "psst")
        gates["turn 0"].set()
        assert "psst" in await client.result("run")


async def test_an_open_wait_comes_first(store_url):
    """What an open wait of the name wants is not heard by who only looks."""

    @durable
    async def hears(ctx: Context) -> Any:
        await ctx.receive("go")
        return await ctx.hear("message")

    @durable
    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.receive("message", int), ctx.call(hears))

    async with connect(store_url) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        await reached(client, "run", "hears.0/go.0")
        await reached(client, "run", "message.0")
        await client.signal("run", "message", "text")
        await eventually(lambda: _is_refused(client))
        await client.signal("run", "go")
        await reached(client, "run", "hears.0")
        await client.signal("run", "message", 7)
        assert await client.result("run") == [7, []]


async def _is_refused(client: Any) -> bool:
    return await client.store.inbox(RunId("run")) == []


async def test_it_cannot_race(store_url):
    """A look that may leave no row is refused in a race."""

    @durable
    async def races(ctx: Context) -> Any:
        return await ctx.race(ctx.hear("message"), ctx.sleep(1))

    async with connect(store_url) as client, client.work([races], options=QUICK):
        await client.start(races, id="run")
        with pytest.raises(RunFailed, match=r"ctx\.hear never waits"):
            await client.result("run")


async def test_a_cancel_during_the_end_is_heeded(store_url):
    """A run that is asked to end before it is driven again for a message is cancelled."""
    gates["turn 0"] = asyncio.Event()
    async with troubled(store_url) as (client, store), client.work([deaf], options=QUICK):
        await client.start(deaf, id="run")
        await eventually(lambda: calls["turn 0"])
        await client.signal("run", "message", "wait")
        held = store.hold("finish")
        gates["turn 0"].set()
        await eventually(lambda: store.held["finish"])
        await client.cancel("run")
        held.set()
        with pytest.raises(RunCancelled):
            await client.result("run")
    assert calls["driven"] == 1
