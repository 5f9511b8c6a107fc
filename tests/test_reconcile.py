"""A `once` call without a recorded outcome is asked about: late enough, and once."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    Done,
    NotDone,
    OutcomeUnknown,
    Retry,
    RunFailed,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from tests.runs import QUICK, reached
from tests.stores import eventually

calls: Counter[str] = Counter()
found: dict[str, Any] = {}
keys: list[str] = []
go = threading.Event()
GONE = WorkerOptions(poll=QUICK.poll, shutdown_grace=timedelta(0))


@pytest.fixture(autouse=True)
def _afresh():
    calls.clear()
    found.clear()
    keys.clear()


async def pay(cents: int) -> str:
    calls["pay"] += 1
    if found.get("stuck") and calls["pay"] == 1:
        await asyncio.Event().wait()
    if found.get("raises") and calls["pay"] <= found["raises"]:
        raise ConnectionResetError("cut off")
    return f"paid {cents}"


def look(cents: int, idempotency_key: str) -> Any:
    calls["look"] += 1
    assert cents == 5
    assert len(idempotency_key) == 36
    return found["answer"]


@durable
async def buys(ctx: Context, attempts: int = 1) -> str:
    retry = Retry(max_attempts=attempts, initial=timedelta(0))
    try:
        return await ctx.step(pay, 5, effect="once", reconcile=look, timeout=30, retry=retry)
    except OutcomeUnknown:
        return "unknown"
    except StepFailed as error:
        return f"failed: {error.type}"


ANSWERS = [
    (Done("paid before"), "paid before", 1),
    (NotDone(), "paid 5", 2),
    (None, "unknown", 1),
]


@pytest.mark.parametrize("answer, result, paid", ANSWERS, ids=["done", "not done", "unknown"])
async def test_after_a_lost_worker(store_url, answer, result, paid):
    """Nobody asks before the call must be over: its timeout and a lease after it began."""
    clock = ManualClock()
    found.update(stuck=True, answer=answer)
    async with connect(store_url, clock) as client:
        async with client.work([buys], options=GONE):
            await client.start(buys, id="run")
            await eventually(lambda: calls["pay"])
        async with client.work([buys], options=WorkerOptions(poll=QUICK.poll)):
            await eventually(lambda: clock.sleepers)
            clock.advance(39.9)
            assert calls["look"] == 0
            clock.advance(0.1)
            assert await client.result("run") == result

    assert calls == {"pay": paid, "look": 1}


@pytest.mark.parametrize(
    "answer, attempts, result, paid",
    [
        (Done("paid before"), 1, "paid before", 1),
        (NotDone(), 1, "failed: ConnectionResetError", 1),
        (NotDone(), 2, "paid 5", 2),
        (None, 3, "unknown", 1),
    ],
    ids=["done", "not done", "not done, tried again", "unknown"],
)
async def test_after_an_error(store_url, answer, attempts, result, paid):
    """A call that raised is over: what it came to is asked at once, and decides on a retry."""
    found.update(raises=1, answer=answer)
    async with connect(store_url) as client, client.work([buys], options=QUICK):
        await client.start(buys, attempts, id="run")
        assert await client.result("run") == result
    assert calls == {"pay": paid, "look": 1}


async def test_only_for_once(store_url):
    """A step that leaves nothing to find out takes no reconcile."""

    @durable
    async def wrong(ctx: Context) -> None:
        await ctx.step(pay, 5, reconcile=look)

    async with connect(store_url) as client, client.work([wrong], options=QUICK):
        await client.start(wrong, id="run")
        with pytest.raises(RunFailed, match="reconcile= is for effect='once'"):
            await client.result("run")
    assert not calls


async def test_the_wait_holds_nothing(store_url):
    """While the call may still be under way, the run is suspended like any that waits."""
    clock = ManualClock()
    found.update(stuck=True, answer=Done("paid before"))
    async with connect(store_url, clock) as client:
        async with client.work([buys], options=GONE):
            await client.start(buys, id="run")
            await reached(client, "run", "pay.0")
            await eventually(lambda: calls["pay"])
        async with client.work([buys], options=WorkerOptions(poll=QUICK.poll)) as worker:
            await worker.run_until_idle()
            assert worker.running == 0
            assert await client.store.next_due_at() == clock.now_ms() + 40_000
            clock.advance(40)
            assert await client.result("run") == "paid before"


def slow_pay(cents: int, idempotency_key: str) -> str:
    calls["pay"] += 1
    keys.append(idempotency_key)
    if calls["pay"] == 1:
        go.wait(20)
        if found.get("raises"):
            raise ConnectionResetError("cut off")
    return f"paid {calls['pay']}"


@durable
async def buys_in_a_thread(ctx: Context, seconds: float) -> str:
    retry = Retry(max_attempts=3, initial=timedelta(0))
    try:
        return await ctx.step(
            slow_pay, 5, effect="once", reconcile=look, timeout=seconds, retry=retry
        )
    except OutcomeUnknown as error:
        return f"unknown: {error.message}"


@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_a_thread_is_waited_for(store_url, how):
    """Nobody asks or tries again before a call in a thread has returned; its own outcome counts."""
    go.clear()
    found.update(answer=NotDone(), raises=how == "raises")
    async with connect(store_url) as client, client.work([buys_in_a_thread], options=QUICK):
        await client.start(buys_in_a_thread, 0.05, id="run")

        async def is_in_doubt() -> bool:
            rows = [p for p in await client.journal("run") if p.kind == "step"]
            return any("in_doubt" in (row.attempts or "") for row in rows)

        await eventually(is_in_doubt)
        assert calls == {"pay": 1}
        go.set()
        result = await client.result("run")

    if how == "returns":
        assert (result, calls) == ("paid 1", {"pay": 1})
    else:
        assert (result, calls) == ("paid 2", {"pay": 2, "look": 1})


THREAD_ANSWERS = [
    (Done("paid before"), "paid before", 1),
    (NotDone(), "unknown: the worker that called 'slow_pay' ended", 1),
    (NotDone(is_closed=True), "paid 2", 2),
]


@pytest.mark.parametrize("answer, result, paid", THREAD_ANSWERS, ids=["done", "not", "closed"])
async def test_a_lost_thread_may_still_do_it(store_url, answer, result, paid):
    """Of a call in a thread that may be alive only "done" is believed, or that its key is closed.

    What is called then has another key.
    """
    clock = ManualClock()
    go.clear()
    found.update(answer=answer)
    async with connect(store_url, clock) as client:
        async with client.work([buys_in_a_thread], options=GONE):
            await client.start(buys_in_a_thread, 30, id="run")
            await eventually(lambda: calls["pay"])
        async with client.work([buys_in_a_thread], options=WorkerOptions(poll=QUICK.poll)):
            await eventually(lambda: clock.sleepers)
            clock.advance(39.9)
            assert calls["look"] == 0
            clock.advance(0.1)
            told = await client.result("run")
        go.set()

    assert told.startswith(result)
    assert calls == {"pay": paid, "look": 1}
    assert len(set(keys)) == paid


async def test_a_reconcile_that_does_not_end(store_url):
    """What is asked has as long as the step, and then cannot tell."""
    found.update(raises=1)

    async def look_for_ever(cents: int) -> None:
        await asyncio.Event().wait()

    @durable
    async def buys_blindly(ctx: Context) -> str:
        try:
            return await ctx.step(pay, 5, effect="once", reconcile=look_for_ever, timeout=0.1)
        except OutcomeUnknown as error:
            return error.message

    async with connect(store_url) as client, client.work([buys_blindly], options=QUICK):
        await client.start(buys_blindly, id="run")
        assert "reconcile raised TimeoutError" in await client.result("run")
