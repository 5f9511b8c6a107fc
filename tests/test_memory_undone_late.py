"""A run that is undone when others have said more takes back its own word, and nobody else's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from substrate import Context, RunFailed, connect, durable
from substrate.values.memory import Space
from tests.runs import QUICK
from tests.stores import eventually

NS = "acme/late"


def year(number: int) -> datetime:
    """Return its first moment."""
    return datetime(number, 1, 1, tzinfo=UTC)


@durable
async def says(ctx: Context, value: str, begin: int, end: int | None) -> None:
    """Say where she lives from one year to another."""
    until = None if end is None else year(end)
    memory = ctx.memory(NS)
    await memory.remember(
        "Anna", "lives in", value, policy="one", valid_from=year(begin), valid_to=until
    )


@durable
async def retracts(ctx: Context) -> None:
    """Say no more where she lives, nor whom she knows."""
    memory = ctx.memory(NS)
    await memory.retract("Anna", "lives in")
    await memory.unlink("Anna", "knows", "Bert")


@durable
async def doubts(ctx: Context) -> None:
    """Say something else, wait, and fail."""
    memory = ctx.memory(NS, undo=True)
    await memory.remember("Anna", "lives in", "Hamm", policy="one", valid_from=year(2005))
    await memory.unlink("Anna", "knows", "Bert")
    await ctx.receive("go")
    raise ValueError("never mind")


@durable
async def links(ctx: Context) -> None:
    """Say whom she knows."""
    await ctx.memory(NS).link("Anna", "knows", "Bert")


@durable
async def looks(ctx: Context) -> list[Any]:
    """Return where she lived in each of some years, and whom she knows."""
    memory = ctx.memory(NS)
    found: list[Any] = []
    for number in (2001, 2003, 2006, 2008):
        facts = await memory.facts("Anna", "lives in", at=year(number))
        found.append([fact.object for fact in facts])
    return [*found, [link.b for link in await memory.links("Anna")]]


@pytest.mark.parametrize(
    "since, known",
    [
        ([(says, "Rome", 2003, 2004)], [["Bonn"], ["Rome"], ["Bonn"], ["Bonn"], ["Bert"]]),
        ([(says, "Rome", 2007, None)], [["Bonn"], ["Bonn"], ["Bonn"], ["Rome"], ["Bert"]]),
        ([(retracts,)], [[], [], [], [], ["Bert"]]),
        ([(links,), (retracts,)], [[], [], [], [], []]),
        ([(retracts,), (says, "Bonn", 2006, None)], [[], [], ["Bonn"], ["Bonn"], ["Bert"]]),
    ],
)
async def test_what_others_said_since(store_url: str, since: Any, known: Any) -> None:
    """What it had closed stands again, but for times of which others have said more or no more."""
    functions: Any = [says, retracts, doubts, links, looks]
    async with connect(store_url) as client, client.work(functions, options=QUICK):

        async def do(function: Any, *args: Any, id: str) -> Any:
            await client.start(function, *args, id=id)
            return await client.result(id)

        await do(says, "Bonn", 2000, None, id="first")
        await do(links, id="linked")
        await client.start(doubts, id="doubts")
        steps = ["doubts#remember.0", "doubts#unlink.0"]

        async def done() -> bool:
            found = await client.store.promises(steps)
            return len([each for each in found.values() if each.settled_at]) == len(steps)

        await eventually(done)
        for number, (function, *args) in enumerate(since):
            await do(function, *args, id=f"since/{number}")
        await client.signal("doubts", "go", 1)
        with pytest.raises(RunFailed):
            await client.result("doubts")
        assert await do(looks, id="looks") == known


@durable
async def doubts_one(ctx: Context, value: str) -> None:
    """Say where she lives since 2005, wait, and fail."""
    memory = ctx.memory(NS, undo=True)
    await memory.remember("Anna", "lives in", value, policy="one", valid_from=year(2005))
    await ctx.receive("go")
    raise ValueError("never mind")


@durable
async def ever(ctx: Context, numbers: list[int]) -> list[str]:
    """Return what was known of where she lives as of each number."""
    memory = ctx.memory(NS)
    found = []
    for n in numbers:
        facts = await memory.facts("Anna", "lives in", as_of=n, at=year(2008))
        found.append("/".join(fact.object for fact in facts))
    return found


@pytest.mark.parametrize("order", ["first second", "second first"])
async def test_two_that_are_undone(store_url: str, order: str) -> None:
    """What one had closed of another's is not put back where that one was undone as well."""
    functions: Any = [says, doubts_one, ever]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        await client.start(says, "Bonn", 2000, None, id="says")
        await client.result("says")
        for id_, value in (("first", "Hamm"), ("second", "Ulm")):
            await client.start(doubts_one, value, id=id_)
            step = f"{id_}#remember.0"

            async def done(step: str = step) -> bool:
                found = await client.store.promises([step])
                return any(each.settled_at for each in found.values())

            await eventually(done)
        known = ["Bonn", "Hamm", "Ulm"]
        for id_ in order.split():
            await client.signal(id_, "go", 1)
            with pytest.raises(RunFailed):
                await client.result(id_)
        last = (await client.store.memory.counter(Space("", NS))).last_n
        await client.start(ever, list(range(1, last + 1)), id="ever")
        found = await client.result("ever")
    assert found[-1] == "Bonn"
    assert set(found) <= set(known)
