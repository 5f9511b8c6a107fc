"""An operation that was made and never awaited is no silent nothing: the run is paused by it."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from substrate import (
    Context,
    Misuse,
    RunFailed,
    RunPaused,
    RunStatus,
    connect,
    durable,
)
from substrate.agent.tool import tool
from tests.runs import QUICK, keys, reached, taken_over

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def charge(cents: int) -> str:
    calls.append(cents)
    return f"paid {cents}"


@durable
async def kid(ctx: Context) -> str:
    calls.append("kid")
    return "kid"


async def gathers(ctx: Context) -> None:
    ctx.gather(ctx.step(charge, 1), ctx.step(charge, 2))  # type: ignore[unused-coroutine]


async def maps(ctx: Context) -> None:
    ctx.map(charge, [1, 2])  # type: ignore[unused-coroutine]


async def races(ctx: Context) -> None:
    ctx.race(ctx.step(charge, 1), ctx.sleep(9))  # type: ignore[unused-coroutine]


async def steps(ctx: Context) -> None:
    ctx.step(charge, 7, effect="once")


async def spawns(ctx: Context) -> None:
    ctx.spawn(kid)


async def starts(ctx: Context) -> None:
    ctx.spawn(kid).start()  # type: ignore[unused-coroutine]


async def sleeps(ctx: Context) -> None:
    ctx.sleep(3600)


async def waits(ctx: Context) -> None:
    ctx.receive("go")


async def polls(ctx: Context) -> None:
    ctx.poll("go")


async def calls_one(ctx: Context) -> None:
    ctx.call(kid)


async def settles(ctx: Context) -> None:
    ctx.step(charge, 1).settled()


async def in_a_scope(ctx: Context) -> None:
    ctx.scope("inside").step(charge, 1)


async def one_of_two(ctx: Context) -> None:
    ctx.step(charge, 1)
    await ctx.step(charge, 2)


FORGOTTEN = {
    steps: ["charge.0"],
    spawns: ["kid.0"],
    starts: ["kid.0"],
    sleeps: ["sleep.0"],
    waits: ["go.0"],
    polls: ["go.0"],
    calls_one: ["kid.0"],
    gathers: ["charge.0", "charge.1"],
    maps: ["charge.0/0", "charge.0/1"],
    races: ["charge.0", "sleep.0"],
    settles: ["charge.0"],
    in_a_scope: ["inside.0/charge.0"],
    one_of_two: ["charge.0"],
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "forgets, named", FORGOTTEN.items(), ids=[each.__name__ for each in FORGOTTEN]
)
async def test_the_run_is_paused(store_url, forgets, named):
    """Whatever was made and not awaited, the run is paused and names it; it is not done."""

    @durable
    async def order(ctx: Context) -> str:
        await forgets(ctx)
        return "paid"

    async with connect(store_url) as client, client.work([order, kid], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(RunPaused) as caught:
            await client.result("run")
        rows = await keys(client, "run")

    failure = caught.value.failure
    assert (failure.type, failure.details["keys"]) == ("NeverAwaited", named)
    assert f"order() ({__file__}:" in failure.message
    assert f"has returned and never awaited {', '.join(named)}, so that was" in failure.message
    assert set(rows) - {"run"} == ({"charge.1"} if forgets is one_of_two else set())
    assert calls == ([2] if forgets is one_of_two else [])


async def test_a_refusal_that_was_swallowed_is_told(store_url):
    """Where operations were refused and the code went on all the same, the pause says by what."""

    @durable
    async def order(ctx: Context) -> str:
        with suppress(Exception):
            await ctx.gather(ctx.step(charge, 1), ctx.map(charge, [2, 3]))  # type: ignore[arg-type]
        return "paid"

    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(RunPaused) as caught:
            await client.result("run")

    failure = caught.value.failure
    assert failure.details["keys"] == ["charge.1/0", "charge.1/1"]
    assert "it was refused, and the code has swallowed that: a combinator takes" in failure.message
    assert "await it, or give it to gather" not in failure.message
    assert calls == []


async def test_it_goes_on_once_the_code_is_mended(store_url):
    """With the await put in, the run goes on from its journal: what was done is not done again."""

    @durable(name="order")
    async def forgetful(ctx: Context) -> str:
        first = await ctx.step(charge, 1)
        ctx.step(charge, 2)
        return first

    @durable(name="order")
    async def mended(ctx: Context) -> str:
        return f"{await ctx.step(charge, 1)}, {await ctx.step(charge, 2)}"

    async with connect(store_url) as client:
        async with client.work([forgetful], options=QUICK):
            await client.start(forgetful, id="run")
            for _ in range(2):
                with pytest.raises(RunPaused, match=r"never awaited charge\.1"):
                    await client.result("run")
                await client.resume("run")
        async with client.work([mended], options=QUICK):
            assert await client.result("run") == "paid 1, paid 2"

    assert calls == [1, 2]


async def test_what_was_recorded_and_is_forgotten_now(store_url):
    """A recorded operation that newer code makes and does not await pauses the run alike."""

    @durable(name="order")
    async def whole(ctx: Context) -> str:
        paid = await ctx.step(charge, 1)
        await ctx.receive("go")
        return paid

    @durable(name="order")
    async def forgetful(ctx: Context) -> str:
        ctx.step(charge, 1)
        await ctx.receive("go")
        return "done"

    async with taken_over(store_url, whole, forgetful) as client:
        with pytest.raises(RunPaused, match=r"never awaited charge\.0"):
            await client.result("run")


async def test_the_failure_of_the_function_wins(store_url):
    """A function that raises fails with what it raised, whatever it has made before."""

    @durable
    async def order(ctx: Context) -> None:
        ctx.step(charge, 1)
        raise ValueError("sold out")

    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(RunFailed, match="ValueError: sold out"):
            await client.result("run")


async def test_in_a_call_and_in_its_branches(store_url):
    """A called function that forgets pauses the run, and its siblings in flight are recorded."""

    @durable
    async def inner(ctx: Context, *, forgets: bool) -> str:
        pending = ctx.step(charge, 1)
        return "forgot" if forgets else await pending

    @durable
    async def order(ctx: Context) -> list[Any]:
        return list(await ctx.gather(ctx.call(inner, forgets=False), ctx.call(inner, forgets=True)))

    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(RunPaused) as caught:
            await client.result("run")
        rows = await keys(client, "run")

    assert caught.value.failure.details == {"function": "inner", "keys": ["inner.1/charge.0"]}
    assert "inner.1" not in rows
    assert "inner.0/charge.0" in rows


async def test_in_a_child(store_url):
    """A child that forgets is paused itself; its parent waits for it."""

    @durable
    async def child(ctx: Context) -> str:
        ctx.step(charge, 1)
        return "done"

    @durable
    async def order(ctx: Context) -> str:
        return await ctx.spawn(child)

    async with connect(store_url) as client, client.work([order, child], options=QUICK):
        await client.start(order, id="run")
        await reached(client, "run", "child.0")
        with pytest.raises(RunPaused, match=r"child\(\)"):
            await client.result("run#child.0")
        assert (await client.get("run")).status in (RunStatus.RUNNING, RunStatus.SUSPENDED)


async def test_in_an_undo(store_url):
    """An undo that forgets pauses the run, which goes on with that undo once it is mended."""

    @durable(name="give_back")
    async def forgetful(ctx: Context, cents: int) -> None:
        ctx.step(charge, -cents)

    @durable(name="give_back")
    async def mended(ctx: Context, cents: int) -> None:
        await ctx.step(charge, -cents)

    def orders(undo: Any) -> Any:
        @durable
        async def order(ctx: Context) -> None:
            await ctx.step(charge, 1, undo=undo)
            raise ValueError("sold out")

        return order

    async with connect(store_url) as client:
        first = orders(forgetful)
        async with client.work([first, forgetful], options=QUICK):
            await client.start(first, id="run")
            with pytest.raises(RunPaused, match=r"give_back\(\)"):
                await client.result("run")
        async with client.work([orders(mended), mended], options=QUICK):
            await client.resume("run")
            with pytest.raises(RunFailed, match="sold out"):
                await client.result("run")

    assert calls == [1, -1]


async def test_before_another_generation(store_url):
    """A generation that has forgotten something does not go on as the next."""

    @durable
    async def renews(ctx: Context, left: int) -> Any:
        ctx.step(charge, left)
        return ctx.continue_as(left - 1)

    async with connect(store_url) as client, client.work([renews], options=QUICK):
        await client.start(renews, 3, id="run")
        with pytest.raises(RunPaused, match=r"never awaited charge\.0"):
            await client.result("run")


async def test_another_generation_that_is_not_returned(store_url):
    """A continuation that is made and not returned pauses the run; mended, it goes on."""

    @durable(name="renews")
    async def forgets(ctx: Context, left: int) -> Any:
        await ctx.step(charge, left)
        ctx.continue_as(left - 1)

    @durable(name="renews")
    async def mended(ctx: Context, left: int) -> Any:
        await ctx.step(charge, left)
        following = ctx.continue_as(0)  # another was meant first: one is returned, that counts
        if left > 0:
            following = ctx.continue_as(left - 1)
        return following if left else "over"

    async with connect(store_url) as client:
        async with client.work([forgets], options=QUICK):
            await client.start(forgets, 1, id="run")
            with pytest.raises(
                RunPaused, match=r"renews\(\) .*write `return ctx.continue_as"
            ) as told:
                await client.result("run")
        assert told.value.failure.type == "NeverReturned"
        async with client.work([mended], options=QUICK):
            await client.resume("run")
            with pytest.raises(RunPaused, match="returned something else"):
                await client.result("run")
    assert calls == [1, 0]


async def test_in_a_tool(sqlite_url):
    """A tool with a ctx that forgets pauses the run of its agent."""

    @tool
    async def collect(ctx: Context, cents: int) -> str:
        """Collect an amount."""
        ctx.step(charge, cents)
        return "collected"

    durable_tool = collect.as_durable()

    @durable
    async def agent(ctx: Context) -> Any:
        return await ctx.call(durable_tool, "c1", "collect", {"cents": 5})

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, id="run")
        with pytest.raises(RunPaused, match=r"collect\(\) .* never awaited collect.0/charge.0"):
            await client.result("run")


async def test_in_what_a_tool_returns(sqlite_url):
    """A tool that returns an operation and has not awaited it pauses the run, at its own line."""

    @tool
    async def collect(ctx: Context, cents: int) -> str:
        """Collect."""
        return ctx.step(charge, cents)  # type: ignore[return-value]

    durable_tool = collect.as_durable()

    @durable
    async def run(ctx: Context) -> Any:
        return await ctx.call(durable_tool, "c1", "collect", {"cents": 5})

    async with connect(sqlite_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        with pytest.raises(RunPaused, match=r"collect\(\) \(.*test_never_awaited\.py:\d+\)"):
            await client.result("run")

    assert calls == []


async def test_it_is_neither_true_nor_false(store_url):
    """An operation that is asked whether it is true is no yes: the run fails before it goes on."""

    @durable
    async def run(ctx: Context) -> str:
        is_approved = ctx.receive("approval", bool)
        if not is_approved:
            return "no"
        return await ctx.step(charge, 5)

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        with pytest.raises(RunFailed, match=r"'approval\.0' was not awaited.*write `await`"):
            await client.result("run")

    assert calls == []


async def test_what_was_refused_is_told_once(store_url):
    """An operation whose await or combinator was refused with an error is not told again."""

    @durable
    async def order(ctx: Context) -> str:
        told = []
        for wrong in (
            lambda: asyncio.wait_for(ctx.step(charge, 1), 5),
            lambda: asyncio.gather(ctx.step(charge, 1), ctx.step(charge, 2)),
            lambda: ctx.gather(ctx.step(charge, 1), ctx.scope("other").step(charge, 2)),
            lambda: ctx.gather(ctx.step(charge, 1), 5),
        ):
            try:
                await wrong()
            except Misuse as error:
                told.append(str(error)[:20])
        return f"told {len(told)} times"

    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        assert await client.result("run") == "told 4 times"
    assert calls == []


async def test_many_are_counted(sqlite_url):
    """Of many operations the first are named, and the others counted."""

    @durable
    async def order(ctx: Context) -> None:
        for cents in range(100):
            ctx.step(charge, cents)

    async with connect(sqlite_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(RunPaused, match=r"charge\.0, .*, charge\.4 and 95 more, so that"):
            await client.result("run")


async def test_what_lives_on_by_itself(store_url):
    """A child that was started, and a loser of a race, are not forgotten."""

    @durable
    async def order(ctx: Context) -> str:
        await ctx.spawn(kid).start()
        won = await ctx.race(ctx.step(charge, 1), ctx.sleep(3600))
        return str(won.value)

    async with connect(store_url) as client, client.work([order, kid], options=QUICK):
        await client.start(order, id="run")
        assert await client.result("run") == "paid 1"
