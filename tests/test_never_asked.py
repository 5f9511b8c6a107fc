"""A call in doubt that new code does not ask for is not forgotten: the run is paused."""

import asyncio
from typing import Any

import pytest

from substrate import Client, Context, Durable, RunPaused, WorkerOptions, connect, durable
from substrate.values.records import PromiseState
from tests.runs import QUICK
from tests.stores import eventually

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()


async def charge(cents: int) -> str:
    calls.append("charge")
    await asyncio.sleep(60)
    return "never"


async def bill(cents: int) -> str:
    calls.append("bill")
    return "billed"


@durable(name="order")
async def old(ctx: Context) -> Any:
    return await ctx.step(charge, 5, effect="once")


@durable(name="order")
async def renamed(ctx: Context) -> Any:
    return await ctx.step(bill, 5, effect="once")


@durable(name="order")
async def renews(ctx: Context) -> Any:
    return ctx.continue_as()


async def begin(client: Client) -> None:
    """Have a worker leave in the middle of the charge."""
    async with client.work([old], options=WorkerOptions(shutdown_grace=0.01)):
        await client.start(old, id="o/1")
        assert await eventually(lambda: asyncio.sleep(0, calls))


async def paused(client: Client, function: Durable[..., Any]) -> str:
    """Go on with this code; return why the run is paused."""
    async with client.work([function], options=QUICK):
        with pytest.raises(RunPaused) as caught:
            await client.result("o/1")
    return str(caught.value)


@pytest.mark.parametrize("function", [renamed, renews])
async def test_it_is_paused_and_named(store_url, function):
    """Code that has lost a call in doubt does not end its run: a person is told, and decides."""
    async with connect(store_url) as client:
        await begin(client)
        told = await paused(client, function)
        rows = {each.key: each.state for each in await client.journal("o/1")}

    assert "'charge.0' was called as step 'charge', nobody knows whether it happened" in told
    assert rows["charge.0"] is PromiseState.PENDING


async def test_the_code_that_asks_is_told(store_url):
    """Resumed under the code that asks for it, the run hears that nobody knows."""
    async with connect(store_url) as client:
        await begin(client)
        await paused(client, renamed)
        await client.resume("o/1")
        async with client.work([old], options=QUICK):
            with pytest.raises(Exception, match="it may have happened"):
                await client.result("o/1")

    assert calls == ["charge", "bill"]


async def test_a_person_lets_it_go(store_url):
    """Accepted, it is closed as unknown, and the run ends with what the new code gives."""
    async with connect(store_url) as client:
        await begin(client)
        await paused(client, renamed)
        await client.resume("o/1", accept="charge.0", by="ann")
        async with client.work([renamed], options=QUICK):
            assert await client.result("o/1") == "billed"
        rows = {each.key: each.state for each in await client.journal("o/1")}

    assert rows["charge.0"] is PromiseState.REJECTED
    assert PromiseState.PENDING not in rows.values()
    assert calls == ["charge", "bill"]
