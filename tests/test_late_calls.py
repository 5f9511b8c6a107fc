"""A call that nobody may make any more is not begun, and what may not go on does not."""

import asyncio
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    Effect,
    OutcomeUnknown,
    PromiseState,
    Retry,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.agent.tool import tool
from substrate.engine.run.attempts import last_record
from substrate.engine.step.step import LONGEST_CALL, Step
from tests.late import charged_behind
from tests.runs import QUICK, reached
from tests.stores import eventually
from tests.troubled import troubled

calls: Counter[str] = Counter()
ONE_THREAD = WorkerOptions(
    lease=QUICK.lease, poll=QUICK.poll, shutdown_grace=QUICK.shutdown_grace, threads=1
)


@pytest.fixture(autouse=True)
def _afresh():
    calls.clear()


@pytest.mark.parametrize("where", ["on the loop", "in a thread", "in its middle"])
async def test_a_stopped_process_goes_on(store_url, tmp_path, where):
    """What another worker has asked about, and made, is not made by one that stood still."""
    assert await charged_behind(store_url, tmp_path, where) == 1


async def test_a_new_intent(store_url):
    """A call that is late while the lease holds is announced anew; that was no failed attempt."""
    seen: list[tuple[float, Any]] = []

    async def block() -> None:
        time.sleep(0.4)

    async with connect(store_url) as client:

        async def pay() -> str:
            row = next(p for p in await client.journal("run") if p.key == "pay.0")
            seen.append((client.store.clock.now_ms() - last_record(row).began_at, row.attempts))
            return "paid"

        @durable
        async def pays(ctx: Context) -> Any:
            return await ctx.gather(
                ctx.step(block, effect="once"), ctx.step(pay, effect="once", timeout=0.3)
            )

        async with client.work([pays], options=WorkerOptions(poll=QUICK.poll)):
            await client.start(pays, id="run")
            assert await client.result("run") == [None, "paid"]
        (row,) = [p for p in await client.journal("run") if p.key == "pay.0"]

    ((age_ms, _),) = seen
    assert age_ms < 300
    assert row.attempts is None


async def test_a_timeout_in_which_nothing_can_begin(store_url):
    """A call that is late however often it is announced fails as one that never happened."""

    async def pay() -> None:
        calls["pay"] += 1

    @durable
    async def pays(ctx: Context) -> str:
        try:
            await ctx.step(pay, effect="once", timeout=1e-6)  # over before it is announced
        except StepFailed as error:
            return error.type
        return "paid"

    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, id="run")
        assert await client.result("run") == "NotBegun"
    assert not calls


async def test_what_waits_for_a_thread_is_not_announced(store_url):
    """A once call has its intent when a thread is its own: a crash leaves no queue in doubt."""
    go = threading.Event()

    def pay(number: int) -> int:
        calls["pay"] += 1
        go.wait(20)
        return number

    @durable
    async def pays(ctx: Context) -> Any:
        return await ctx.gather(*(ctx.step(pay, i, effect="once") for i in range(4)))

    async with connect(store_url) as client, client.work([pays], options=ONE_THREAD):
        await client.start(pays, id="run")
        await eventually(lambda: calls["pay"])
        announced = [p.key for p in await client.journal("run") if p.kind == "step"]
        go.set()
        assert await client.result("run") == [0, 1, 2, 3]

    assert len(announced) == 1
    assert calls["pay"] == 4


async def test_a_worker_that_ends_begins_none_of_the_queue(store_url):
    """Steps that wait for a thread keep no worker from ending, and are called by the next."""
    go = threading.Event()

    def pay(number: int) -> int:
        calls["pay"] += 1
        go.wait(20)
        return number

    @durable
    async def pays(ctx: Context) -> Any:
        return await ctx.gather(*(ctx.step(pay, i, effect="once") for i in range(4)))

    async with connect(store_url) as client:
        async with client.work([pays], options=ONE_THREAD) as worker:
            await client.start(pays, id="run")
            await eventually(lambda: calls["pay"])
            closing = asyncio.create_task(worker.close())
            await eventually(lambda: worker.is_stopping)
            go.set()
            await closing
        assert calls["pay"] == 1
        async with client.work([pays], options=QUICK):
            assert await client.result("run") == [0, 1, 2, 3]
    assert calls["pay"] == 4


async def test_a_lease_lost_and_regained(store_url):
    """A call in a thread outlives its worker's lease: what it returns is what the step came to."""
    go = threading.Event()

    def pay() -> str:
        calls["pay"] += 1
        go.wait(20)
        return "paid"

    @durable
    async def pays(ctx: Context) -> str:
        return await ctx.step(pay, effect="once")

    async with connect(store_url) as client, client.work([pays], options=QUICK) as worker:
        await client.start(pays, id="run")
        await eventually(lambda: calls["pay"])
        worker.give_leases_up()

        async def is_claimed_anew() -> bool:
            run = await client.get("run")
            return run.epoch == 2 and run.status == "running"

        await eventually(is_claimed_anew)
        go.set()
        assert await client.result("run") == "paid"
    assert calls["pay"] == 1


async def test_a_cancel_before_the_call_began(store_url):
    """A run that is cancelled while an intent is being committed knows that nothing was called."""

    async def pay() -> None:
        calls["pay"] += 1

    @durable
    async def pays(ctx: Context) -> None:
        await ctx.step(pay, effect="once", undo=repays)

    @durable
    async def repays(ctx: Context) -> None:
        calls["undo"] += 1

    async with troubled(store_url) as (client, store):
        held = store.hold("commit")
        async with client.work([pays, repays], options=QUICK):
            await client.start(pays, id="run")
            await eventually(lambda: store.held["commit"])
            await client.cancel("run")
            await asyncio.sleep(0.2)  # the worker hears of it at its tick
            held.set()

            async def has_ended() -> bool:
                return (await client.get("run")).status.has_ended

            await eventually(has_ended)
        rows = {p.key: p.state for p in await client.journal("run")}

    assert rows["pay.0"] is PromiseState.CANCELLED
    assert not calls


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.PURE])
def test_a_call_with_an_intent_always_ends(effect):
    """A step that has an intent has a timeout, 60 s unless it says another; others have none."""
    step = Step(name="pay", call=print, effect=effect)
    assert step.limit == (LONGEST_CALL if effect is Effect.ONCE else None)
    assert Step(name="pay", call=print, effect=effect, timeout=5).limit == 5


async def test_its_timeout_is_in_the_intent(store_url):
    """How long a call may last is recorded before it: later code, with another, goes by that."""
    go = asyncio.Event()

    async def pay() -> None:
        calls["pay"] += 1
        await go.wait()

    @durable
    async def pays(ctx: Context) -> None:
        await ctx.gather(
            ctx.step(pay, effect="once"),
            ctx.step(pay, effect="once", timeout=timedelta(minutes=5)),
        )

    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, id="run")
        await eventually(lambda: calls["pay"] == 2)
        rows = [p for p in await client.journal("run") if p.kind == "step"]
        go.set()
        await client.result("run")

    assert [last_record(row).timeout for row in rows] == [60_000, 300_000]


def test_a_tool_ends_too():
    """A tool that declares nothing is a once step, and so is cut off after 60 s."""

    @tool
    def send(text: str) -> str:
        """Send a text."""
        return text

    assert Step(name=send.name, call=send.function, effect=send.effect).limit == LONGEST_CALL


async def test_a_plain_function_that_returns_a_coroutine(store_url):
    """Its coroutine is a part of the call: made once, and never begun after the timeout."""
    go = threading.Event()

    async def later(what: str) -> str:
        calls[what] += 1
        return what

    def quick() -> Any:
        return later("quick")

    def slow() -> Any:
        go.wait(20)
        return later("slow")

    @durable
    async def both(ctx: Context) -> Any:
        first = await ctx.step(quick, effect="once")
        try:
            return [first, await ctx.step(slow, effect="once", timeout=0.05)]
        except OutcomeUnknown:
            go.set()
            return [first, "unknown"]

    async with connect(store_url) as client, client.work([both], options=QUICK):
        await client.start(both, id="run")
        assert await client.result("run") == ["quick", "unknown"]
    assert calls == {"quick": 1}


async def test_a_thread_that_never_returns(store_url):
    """A step whose call is waited for stays open, keeps up nothing else, and no worker's end."""
    go = threading.Event()
    asked: list[int] = []

    def stuck() -> None:
        calls["stuck"] += 1
        go.wait(30)

    async def look() -> None:
        asked.append(1)

    @durable
    async def waits(ctx: Context) -> None:
        retry = Retry(max_attempts=3, initial=timedelta(0))
        await ctx.step(stuck, effect="once", timeout=0.05, reconcile=look, retry=retry)

    @durable
    async def other(ctx: Context) -> str:
        return await ctx.step(str, "other")

    limits = WorkerOptions(
        lease=QUICK.lease, poll=QUICK.poll, shutdown_grace=timedelta(milliseconds=100)
    )
    async with connect(store_url) as client:
        async with client.work([waits, other], options=limits):
            await client.start(waits, id="run")
            await reached(client, "run", "stuck.0")

            async def is_waited_for() -> bool:
                (row,) = [p for p in await client.journal("run") if p.kind == "step"]
                return "in_doubt" in (row.attempts or "")

            await eventually(is_waited_for)
            await client.start(other, id="other")
            assert await client.result("other") == "other"
        states = [p.state for p in await client.journal("run") if p.kind == "step"]
        go.set()

    assert states == [PromiseState.PENDING]
    assert calls["stuck"] == 1
    assert not asked
