"""What a tree of runs has used can be read, and nothing of another tree."""

from substrate import Client, Context, connect, durable
from substrate.engine.step import Measured
from substrate.values.records import Json
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


async def amounts(client: Client, prefix: str) -> dict[str, Json]:
    """Return what is read, by id."""
    return {str(id_): used for id_, used in await client.store.usages(prefix)}


async def test_usages(store_url):
    """The ids that begin so are found, the run's own and those of its children, and no others."""
    async with connect(store_url) as client, client.work([uses, below], limits=QUICK):
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
