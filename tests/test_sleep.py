"""A sleep lasts until the moment that was recorded when it began, whatever comes between."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from substrate import Context, RunStatus, SignalExpired, connect, durable
from substrate.testing import ManualClock
from substrate.values.clock import OffsetClock, from_ms
from substrate.values.codec import decode
from tests.crew import Outside, naps, worker_process
from tests.runs import QUICK, reached
from tests.stores import eventually

HOUR = timedelta(hours=1)


@durable
async def sleeps(ctx: Context, seconds: float) -> list[datetime]:
    before = ctx.now()
    await ctx.sleep(seconds)
    return [before, ctx.now()]


@durable
async def sleeps_until(ctx: Context, when: datetime) -> datetime:
    await ctx.sleep_until(when)
    return ctx.now()


async def test_it_lasts_as_long_as_was_said(store_url):
    """A sleep ends when the clock has come to its moment, and not before."""
    clock = ManualClock()
    async with connect(store_url, clock) as client, client.work([sleeps], options=QUICK):
        await client.start(sleeps, 90, id="run")
        await eventually(lambda: clock.sleepers)
        due = decode((await client.journal("run"))[-1].input or "")["due_at"]
        clock.advance(89.999)
        await eventually(lambda: clock.asked[-1] < 60)
        assert clock.now_ms() == due - 1
        clock.advance(0.001)
        _, after = await client.result("run", sleeps)

    assert after == from_ms(due)


async def test_it_lasts_until_a_moment(store_url):
    """sleep_until ends at its moment; one that has passed is no wait at all."""
    clock = ManualClock()
    moment = from_ms(clock.now_ms()) + HOUR
    async with (
        connect(store_url, clock) as client,
        client.work([sleeps_until], options=QUICK),
    ):
        await client.start(sleeps_until, moment, id="run")
        await eventually(lambda: clock.sleepers)
        clock.advance(HOUR.total_seconds())
        assert await client.result("run", sleeps_until) == moment
        await client.start(sleeps_until, datetime(2020, 1, 1, tzinfo=UTC), id="past")
        assert await client.result("past", sleeps_until) == moment


async def test_the_moment_is_recorded_first(store_url):
    """The moment is committed before the wait, and is what a later worker waits for."""
    clock = ManualClock()
    began = clock.now_ms()
    async with connect(store_url, clock) as client:
        async with client.work([sleeps], options=QUICK):
            await client.start(sleeps, 30, id="run")
            await eventually(lambda: clock.sleepers)
            recorded = (await client.journal("run"))[-1]
        clock.advance(29.999)
        async with client.work([sleeps], options=QUICK) as worker:
            await worker.run_until_idle()
            assert (await client.get("run")).status is RunStatus.SUSPENDED
            clock.advance(0.001)
            await client.result("run")

    assert (recorded.key, recorded.kind, recorded.is_settled) == ("sleep.0", "timer", False)
    assert decode(recorded.input or "") == {"due_at": began + 30_000}


async def test_it_is_kept_over_a_crash(store_url, tmp_path):
    """A sleep whose process was killed ends at its first moment: it does not begin anew."""
    outside = Outside(tmp_path)
    async with connect(store_url) as client:
        await client.start(naps, str(tmp_path), 1.0, id="run")
        with worker_process(store_url) as worker:
            await reached(client, "run", "sleep.0")
            worker.kill()
        with worker_process(store_url):
            await client.result("run")
        rows = {promise.key: promise for promise in await client.journal("run")}

    sleep = rows["sleep.0"]
    assert decode(sleep.input or "")["due_at"] == pytest.approx(sleep.created_at + 1000, abs=50)
    assert decode(sleep.input or "")["due_at"] <= (sleep.settled_at or 0)
    assert outside.notes == {"awake begins": 1, "awake ends": 1}


async def test_sleeps_side_by_side(store_url):
    """Sleeps in gather last as long as the longest of them, and now() is when that ended."""
    clock = ManualClock()

    @durable
    async def both(ctx: Context) -> datetime:
        await ctx.gather(ctx.sleep(10), ctx.sleep(timedelta(seconds=20)), ctx.sleep(-5))
        return ctx.now()

    began = from_ms(clock.now_ms())
    async with connect(store_url, clock) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        await eventually(lambda: clock.sleepers == 2)
        clock.advance(10)
        await eventually(lambda: clock.sleepers == 1)
        clock.advance(10)
        assert await client.result("run", both) == began + timedelta(seconds=20)


class Settable:
    """The machine's clock, which can be set; it counts who waits by it."""

    def __init__(self) -> None:
        self.set_to = OffsetClock()
        self.sleepers = 0

    def now_ms(self) -> int:
        return self.set_to.now_ms()

    async def sleep(self, seconds: float) -> None:
        self.sleepers += 1
        await asyncio.sleep(max(seconds, 0))


async def test_a_clock_that_is_set_back_prolongs_nothing_in_memory(store_url):
    """A warm sleep and a wait's timeout last as long as they should, whatever the clock says."""
    clock = Settable()

    @durable
    async def waits(ctx: Context) -> list[Any]:
        try:
            await ctx.gather(ctx.sleep(1.0), ctx.receive("never", timeout=1.0))
        except SignalExpired:
            return ["expired", ctx.now() >= began + timedelta(seconds=1.0)]
        return []

    async with connect(store_url, clock) as client, client.work([waits], options=QUICK):
        began = from_ms(clock.now_ms())
        await client.start(waits, id="run")
        await eventually(lambda: clock.sleepers == 2)
        clock.set_to.offset_ms -= 3_600_000
        async with asyncio.timeout(10):
            assert await client.result("run") == ["expired", True]
