"""Code that swallows the order to end holds up nobody but itself."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

from substrate import Context, RunStatus, WorkerOptions, connect, durable
from tests.runs import QUICK, reached
from tests.stores import eventually

LIMITS = WorkerOptions(lease=1, poll=0.02, shutdown_grace=0.2)

refused: list[str] = []
let_go: list[bool] = []


@pytest.fixture(autouse=True)
def _afresh():
    refused.clear()
    let_go.clear()


async def fetch(page: int = 0) -> int:
    return page


@durable
async def kid(ctx: Context) -> str:
    return "kid"


async def steps(ctx: Context) -> Any:
    return await ctx.step(fetch)


async def gathers(ctx: Context) -> Any:
    return await ctx.gather(ctx.step(fetch), ctx.step(fetch))


async def races(ctx: Context) -> Any:
    return await ctx.race(ctx.step(fetch), ctx.sleep(9))


async def maps(ctx: Context) -> Any:
    return await ctx.map(fetch, [1, 2])


async def starts(ctx: Context) -> Any:
    return await ctx.spawn(kid).start()


async def hears(ctx: Context) -> Any:
    return await ctx.hear("news")


async def calls_one(ctx: Context) -> Any:
    return await ctx.call(kid)


@pytest.mark.parametrize(
    "operate",
    [steps, gathers, races, maps, starts, hears, calls_one],
    ids=lambda each: each.__name__,
)
async def test_in_a_loop(sqlite_url, caplog, operate):
    """After a cancel, other runs go on, the log says it once, and the worker closes in time."""

    @durable
    async def swallows(ctx: Context) -> None:
        with suppress(BaseException):
            await ctx.receive("go")
        while not let_go:
            try:
                await operate(ctx)
            except BaseException as error:  # noqa: BLE001 - what careless code does
                refused.append(type(error).__name__)

    @durable
    async def beside(ctx: Context) -> str:
        return str(await ctx.step(fetch, 7))

    async with connect(sqlite_url) as client:
        loop = asyncio.get_running_loop()
        with caplog.at_level(logging.WARNING, "ostinato"):
            async with client.work([swallows, beside, kid], options=LIMITS):
                await client.start(swallows, id="run")
                await reached(client, "run", "go.0")
                await client.cancel("run")
                await eventually(lambda: len(refused) > 12)
                await client.start(beside, id="beside")
                assert await client.result("beside") == "7"
                before = loop.time()
            took = loop.time() - before
        let_go.append(True)

    told = [each.message for each in caplog.records if "swallows the order" in each.message]
    assert len(told) == 1
    assert "run run swallows the order to end" in told[0]
    assert took < 0.2 + 2 + 1  # the grace, the wait for what was cancelled, and some
    assert len(refused) < 100  # and it does not keep the processor busy


async def test_a_cleanup_is_not_slowed_down(store_url, caplog):
    """A few operations in a `finally` are refused at once, and nothing is logged of them."""

    @durable
    async def tidies(ctx: Context) -> None:
        try:
            await ctx.receive("go")
        finally:
            for page in range(4):
                try:
                    await ctx.step(fetch, page)
                except BaseException as error:  # noqa: BLE001 - what careless code does
                    refused.append(type(error).__name__)

    async with connect(store_url) as client, client.work([tidies], options=QUICK):
        await client.start(tidies, id="run")
        await reached(client, "run", "go.0")
        await client.cancel("run")

        async def is_cancelled() -> bool:
            return (await client.get("run")).status is RunStatus.CANCELLED

        await eventually(is_cancelled)

    assert refused == ["Cancelled"] * 4
    assert "swallows" not in caplog.text
