"""A system that gives no thread makes a step wait, and is no outcome of it."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from substrate import Context, Transaction, connect, durable
from tests.runs import QUICK

MUCH = 1 << 45  # bytes of stack that no system gives to a thread
calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    calls.clear()
    yield
    threading.stack_size(0)


def pay() -> str:
    calls.append("paid")
    return "paid"


def note(tx: Transaction) -> str:
    calls.append("noted")
    return "noted"


async def none_is_given() -> None:
    threading.stack_size(MUCH)


@pytest.mark.parametrize("effect", ["pure", "once", "transactional"])
async def test_a_step_waits_for_a_thread(store_url, caplog, effect):
    """It is called, once, when the system gives a thread again; the log says what it waits for."""

    @durable
    async def run(ctx: Context) -> str:
        await ctx.step(none_is_given)
        return await ctx.step(note if effect == "transactional" else pay, effect=effect)

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        while "steps wait for a thread" not in caplog.text:
            await asyncio.sleep(0.01)
        assert [each.key for each in await client.journal("run")][-1] == "none_is_given.0"
        threading.stack_size(0)
        said = await client.result("run")

    assert [said] == calls


async def test_a_worker_that_waits_for_a_thread_stops(store_url):
    """A worker whose step waits for a thread closes at once, and its run goes on elsewhere."""

    @durable
    async def run(ctx: Context) -> str:
        await ctx.step(none_is_given)
        return await ctx.step(pay, effect="once")

    async with connect(store_url) as client:
        async with client.work([run], options=QUICK):
            await client.start(run, id="run")
            await asyncio.sleep(0.3)
        assert calls == []
        threading.stack_size(0)
        async with client.work([run], options=QUICK):
            assert await client.result("run") == "paid"
    assert calls == ["paid"]
