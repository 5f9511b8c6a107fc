"""Long values are kept whole, hold up no other run, and end at a size that is said."""

import asyncio
import time
from typing import Any

import pytest

from substrate import Context, OutcomeUnknown, RunFailed, RunPaused, WorkerOptions, connect, durable
from substrate.store.blobs import digest_in, inflate, offloaded, open_blob
from substrate.store.rows import compare
from substrate.values.codec import LONGEST
from substrate.values.errors import NotEncodable
from substrate.values.ids import Key, PromiseId, RunId
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Fence,
    JsonText,
    Kind,
    Owner,
    Promise,
    PromiseState,
    Written,
)
from tests.runs import QUICK, keys, taken_over

CALM = WorkerOptions(poll=QUICK.poll)
calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


def rows(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "raw": b"0123456789" * 5, "none": None} for n in range(count)]


async def stops(of: asyncio.Task[Any]) -> tuple[float, float]:
    """Return for how long the event loop stood still at most, and how long it all took."""
    began = before = time.monotonic()
    longest = 0.0
    while not of.done():
        await asyncio.sleep(0.002)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest, before - began


async def test_a_long_value_holds_up_nobody(store_url):
    """While a long value is written, stored and read back, the event loop goes on."""
    value = rows(60_000)

    async def read() -> list[dict[str, Any]]:
        return value

    @durable
    async def reads(ctx: Context) -> int:
        return len(await ctx.step(read))

    async with connect(store_url) as client, client.work([reads], options=QUICK):
        await client.start(reads, id="run")
        longest, whole = await stops(asyncio.create_task(client.result("run")))

    assert longest < 0.6 * whole


async def test_long_values_come_back(store_url):
    """Long values come back live and on a replay: of steps, calls, children, gathers, arguments."""
    value = rows(2000)
    seen: list[bool] = []

    async def read() -> list[dict[str, Any]]:
        calls.append("read")
        return value

    @durable
    async def passes(ctx: Context, it: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return it

    @durable
    async def reads(ctx: Context, it: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = await ctx.step(read)
        second, third = await ctx.gather(ctx.step(read), ctx.call(passes, first))
        won = await ctx.race(ctx.step(read), ctx.receive("never"))
        seen.append([first, second, third, won.value, it] == [value] * 5)
        await ctx.receive("go")
        return third

    async with taken_over(store_url, reads, None, value) as client:
        assert await client.result("run", reads) == value

    assert seen == [True, True]
    assert calls == ["read"] * 3


async def test_a_value_that_is_too_long(store_url):
    """A `once` call whose result is too long is made once; the run is paused, and says so."""

    async def charge() -> str:
        calls.append("charge")
        return "x" * LONGEST

    @durable
    async def pays(ctx: Context) -> str:
        try:
            await ctx.step(charge, effect="once")
        except OutcomeUnknown as error:
            return error.message
        return "kept"

    async with connect(store_url) as client:
        async with client.work([pays], options=CALM):
            await client.start(pays, id="run")
            with pytest.raises(RunPaused, match="put it into a file or an object store"):
                await client.result("run")
            await client.resume("run")
        async with client.work([pays], options=CALM):
            told = await client.result("run")

    assert told.startswith("'charge': the call was made, and its result cannot be kept: the value")
    assert calls == ["charge"]


async def test_what_else_may_be_too_long(sqlite_url):
    """An argument, a signal and a run's own result that are too long are refused, sizes told."""

    @durable
    async def makes(ctx: Context, it: str) -> str:
        return it * LONGEST

    async with connect(sqlite_url) as client, client.work([makes], options=QUICK):
        with pytest.raises(NotEncodable, match="is 67 MB of JSON, and a value ends at 67 MB"):
            await client.start(makes, "x" * LONGEST, id="big")
        await client.start(makes, "x", id="run")
        with pytest.raises(RunFailed, match="a value ends at 67 MB"):
            await client.result("run")
        assert await keys(client, "run") == ["run"]


async def test_an_outcome_that_is_read_back():
    """A long outcome that lies in a blob is known again as ours, and another's as another's."""
    value = JsonText('"' + "x" * 100_000 + '"')
    promise = Promise(
        id=PromiseId("run#a.0"),
        run_id=RunId("run"),
        key=Key("a.0"),
        kind=Kind.STEP,
        name="a",
        state=PromiseState.RESOLVED,
        created_at=0,
        settled_at=1,
        epoch=1,
        value=value,
    )
    light = await offloaded(Checkpoint(Fence(RunId("run"), 0, 1, Owner("me")), promise))
    row = inflate(light.promise, {blob.hash: open_blob(blob.data) for blob in light.blobs})

    assert digest_in(light.promise.value) is not None
    assert row == promise
    assert isinstance(compare(light, row), Written)
    other = Promise(**{**{f: getattr(row, f) for f in row.__slots__}, "value": JsonText('"y"')})
    assert isinstance(compare(light, other), Adopted)
