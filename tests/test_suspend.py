"""A run that waits holds nothing: no task, no place, no lease; and no wake-up is lost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, Retry, RunStatus, WorkerOptions, connect, durable
from substrate.testing import ManualClock
from substrate.values.clock import from_ms
from substrate.values.errors import RateLimited
from substrate.values.ids import RunId
from tests.runs import QUICK, keys, reached
from tests.stores import eventually

DAY = timedelta(days=1)
ONE_PLACE = WorkerOptions(concurrency=1, poll=timedelta(milliseconds=20))
COLD = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def note(what: str) -> str:
    calls.append(what)
    return what


@durable
async def ten_days(ctx: Context) -> list[str]:
    seen = [await ctx.step(note, "begin")]
    for day in range(10):
        await ctx.sleep(DAY)
        seen.append(await ctx.step(note, f"day {day}"))
    return seen


@durable
async def asks(ctx: Context) -> Any:
    return await ctx.receive("answer", timeout=timedelta(days=3))


@durable
async def short(ctx: Context) -> str:
    return await ctx.step(note, "short")


async def test_ten_days_in_milliseconds(store_url):
    """A run of ten days is driven by a clock of the test's own: each day once, none early."""
    clock = ManualClock()
    began = clock.now_ms()
    async with (
        connect(store_url, clock) as client,
        client.work([ten_days], options=QUICK) as worker,
    ):
        await client.start(ten_days, id="run")
        await worker.run_until_idle()
        while (due := await client.store.next_due_at()) is not None:
            assert (await client.get("run")).status is RunStatus.SUSPENDED
            clock.advance((due - clock.now_ms()) / 1000)
            await worker.run_until_idle()
        result = await client.result("run")

    assert result == calls == ["begin", *(f"day {day}" for day in range(10))]
    assert clock.now_ms() - began == 10 * 86_400_000


async def test_who_waits_is_let_go(store_url):
    """A run that only waits has left its worker when the warm time is over."""
    async with connect(store_url) as client, client.work([asks], options=COLD) as worker:
        await client.start(asks, id="run")
        await eventually(lambda: worker.running == 0)
        run = await client.get("run")
        await client.signal("run", "answer", "yes")
        assert await client.result("run") == "yes"

    assert (run.status, run.lease_owner, run.crashes) == (RunStatus.SUSPENDED, None, 0)


async def test_who_waits_stays_warm(store_url):
    """A run that waits is kept in memory for the warm time, and goes on there."""
    async with connect(store_url) as client, client.work([asks], options=QUICK) as worker:
        await client.start(asks, id="run")
        await reached(client, "run", "answer.0")
        await client.signal("run", "answer", "yes")
        assert await client.result("run") == "yes"
        assert (await client.get("run")).epoch == 1
    assert worker.running == 0


async def test_a_place_that_is_needed(store_url):
    """A run that only waits makes room for one that is ready, however warm it is."""
    async with connect(store_url) as client, client.work([asks, short], options=ONE_PLACE):
        await client.start(asks, id="waits")
        await reached(client, "waits", "answer.0")
        await client.start(short, id="short")
        async with asyncio.timeout(10):
            assert await client.result("short") == "short"
        assert (await client.get("waits")).status is RunStatus.SUSPENDED
        await client.signal("waits", "answer", 1)
        assert await client.result("waits") == 1


async def test_a_run_at_work_is_not_let_go(store_url):
    """A run is kept while any of its branches works, whatever the others wait for."""
    go = asyncio.Event()

    async def works() -> str:
        await go.wait()
        return "worked"

    @durable
    async def both(ctx: Context) -> list[Any]:
        return await ctx.gather(ctx.step(works), ctx.receive("answer"), ctx.sleep(3600))

    async with connect(store_url) as client, client.work([both], options=COLD) as worker:
        await client.start(both, id="run")
        await reached(client, "run", "sleep.0")
        await reached(client, "run", "answer.0")  # recorded once the inbox was looked into
        execution = worker.execution_of(RunId("run"))
        assert execution is not None
        await execution.wakeups.suspend()
        assert (await client.get("run")).status is RunStatus.RUNNING
        go.set()
        await eventually(lambda: worker.running == 0)
        run = await client.get("run")

    assert run.status is RunStatus.SUSPENDED


async def test_a_branch_between_two_operations_is_at_work(store_url):
    """A run whose last branch has just ended is never let go before its strand goes on."""

    @durable
    async def inner(ctx: Context) -> None:
        await ctx.gather(ctx.step(note, "a"), ctx.step(note, "b"))
        await ctx.map(note, ["c", "d", "e"], limit=2)

    @durable
    async def outer(ctx: Context) -> Any:
        answer, _ = await ctx.gather(ctx.receive("answer"), ctx.call(inner))
        return answer

    async with connect(store_url) as client, client.work([outer], options=COLD) as worker:
        await client.start(outer, id="run")
        await eventually(lambda: worker.running == 0)
        assert sorted(calls) == ["a", "b", "c", "d", "e"]
        assert "inner.0" in await keys(client, "run")
        await client.signal("run", "answer", 1)
        assert await client.result("run") == 1
        assert sorted(calls) == ["a", "b", "c", "d", "e"]


async def test_a_long_rest_is_no_place(store_url):
    """A step whose next attempt is far off is recorded as resting, and its run is let go."""
    clock = ManualClock()

    async def limited() -> str:
        calls.append("asked")
        if len(calls) == 1:
            raise RateLimited("slow down", retry_after=90)
        return "answered"

    @durable
    async def patient(ctx: Context) -> str:
        return await ctx.step(limited, retry=Retry(max_attempts=3, jitter=0))

    async with connect(store_url, clock) as client, client.work([patient], options=QUICK) as worker:
        await client.start(patient, id="run")
        await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED
        clock.advance(89.9)
        await worker.run_until_idle()
        assert calls == ["asked"]
        clock.advance(0.1)
        await worker.run_until_idle()
        assert await client.result("run") == "answered"
    assert calls == ["asked", "asked"]


async def test_a_delayed_start(store_url):
    """A run that is started for later begins then, and not before."""
    clock = ManualClock()
    at = from_ms(clock.now_ms()) + DAY
    async with connect(store_url, clock) as client, client.work([short], options=QUICK) as worker:
        await client.start(short, id="run", at=at)
        await worker.run_until_idle()
        assert calls == []
        clock.advance(DAY.total_seconds())
        assert await client.result("run") == "short"


@pytest.mark.parametrize("count", [60])
async def test_signals_that_race_suspends(store_url, count):
    """Signals are sent while their runs are being let go, over and over, and none is lost."""

    @durable
    async def collects(ctx: Context, many: int) -> list[int]:
        return [await ctx.receive("mail") for _ in range(many)]

    limits = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=1))
    async with (
        connect(store_url) as other,
        connect(store_url) as client,
        client.work([collects], options=limits),
    ):
        for number in range(4):
            await client.start(collects, count, id=f"run{number}")

        async def send(number: int) -> None:
            for i in range(count):
                sender = (client, other)[i % 2]
                await sender.signal(f"run{number}", "mail", i)
                await asyncio.sleep(0.001 * (i % 3))

        await asyncio.gather(*(send(number) for number in range(4)))
        async with asyncio.timeout(60):
            results = [await client.result(f"run{number}") for number in range(4)]

    assert results == [list(range(count))] * 4
