"""What a tree of runs has used can be read, and nothing of another tree."""

from substrate import Client, Context, connect, durable
from substrate.engine.function.returns import Measured
from substrate.values.records import JsonText
from tests.runs import QUICK


async def use(amount: int) -> Measured:
    """Use so much."""
    return Measured("done", {"amount": amount})


@durable
async def below(ctx: Context, amount: int) -> None:
    """Use some in a child."""
    await ctx.step(use, amount)


@durable
async def uses(ctx: Context) -> None:
    """Use some here and in two children, and nothing in one step."""
    await ctx.step(use, 1)
    await ctx.step(nothing)
    await ctx.gather(ctx.spawn(below, 2), ctx.spawn(below, 3))


async def nothing() -> None:
    """Use nothing."""


async def amounts(client: Client, prefix: str) -> dict[str, JsonText]:
    """Return what is read, by id."""
    return {str(id_): used for id_, used in await client.store.usages(prefix)}


async def test_usages(store_url):
    """The ids that begin so are found, the run's own and those of its children, and no others."""
    async with connect(store_url) as client, client.work([uses, below], options=QUICK):
        for run_id in ("a", "a/1", "a0"):
            await client.start(uses, id=run_id)
            await client.result(run_id)

        whole = await amounts(client, "a#")
        child = await amounts(client, "a#below.1#")
        none = await amounts(client, "b#")

    assert whole == {
        "a#below.0#use.0": '{"amount":2}',
        "a#below.1#use.0": '{"amount":3}',
        "a#use.0": '{"amount":1}',
    }
    assert child == {"a#below.1#use.0": '{"amount":3}'}
    assert none == {}


async def test_some_are_skipped(store_url):
    """What is skipped is left out, and all else of the tree is there, in order."""
    async with connect(store_url) as client, client.work([uses, below], options=QUICK):
        await client.start(uses, id="a")
        await client.result("a")
        store = client.store

        others = [str(id_) for id_, _ in await store.usages("a#", ("use.", "below.0"))]
        nothing_skipped = await store.usages("a#", ("zzz", "aaa"))

    assert others == ["a#below.1#use.0"]
    assert len(nothing_skipped) == 3


@durable
async def waits(ctx: Context) -> None:
    """Wait for a signal."""
    await ctx.receive("go")


@durable
async def starts(ctx: Context) -> None:
    """Start a child, and end without it."""
    await ctx.spawn(waits).start()


async def test_open_runs(store_url):
    """A run below that has not ended is found, also where the run that started it has."""
    async with connect(store_url) as client, client.work([starts, waits], options=QUICK):
        await client.start(starts, id="a")
        await client.result("a")
        before = [await client.store.has_open_runs(each) for each in ("a#", "a#waits.", "a#x")]
        await client.signal("a#waits.0", "go")
        await client.result("a#waits.0")
        after = await client.store.has_open_runs("a#")

    assert (before, after) == ([True, True, False], False)
