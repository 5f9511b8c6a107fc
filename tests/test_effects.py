"""What a step's effect promises when the call is cut off in its middle."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Misuse,
    OutcomeUnknown,
    PromiseState,
    Retry,
    RunFailed,
    StepFailed,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.errors import InvalidId, NotEncodable
from tests.crew import Outside, calls, charges, worker_process
from tests.runs import QUICK, reached
from tests.stores import eventually

called: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_counts():
    called.clear()


@pytest.fixture
def outside(tmp_path):
    return Outside(tmp_path)


async def row(client: Client, key: str) -> Any:
    """Return a row of the run's journal."""
    return next(promise for promise in await client.journal("run") if promise.key == key)


async def killed_in_the_middle(client: Client, url: str, outside: Outside, what: str) -> None:
    """Let a worker process begin to do something, and kill it before it is done."""
    outside.hold(what)
    with worker_process(url) as worker:
        await outside.noted(f"{what} begins")
        worker.kill()
    outside.let_go(what)


async def test_pure_runs_again(store_url, outside):
    """A pure step whose process was killed in the middle of the call is called again."""
    async with connect(store_url) as client:
        await client.start(calls, str(outside.folder), "pure", id="run")
        await killed_in_the_middle(client, store_url, outside, "call")
        with worker_process(store_url):
            assert await client.result("run") == "call"

    assert outside.notes == {"call begins": 2, "call ends": 1}


async def test_idempotent_runs_again_with_the_same_key(store_url, outside):
    """An idempotent step gets one key: on each takeover after a crash the same."""
    async with connect(store_url) as client:
        await client.start(charges, str(outside.folder), id="run")
        await killed_in_the_middle(client, store_url, outside, "charge")
        with worker_process(store_url):
            assert await client.result("run") == "charged"

    (key,) = outside.notes.keys() - {"charge begins", "charge ends"}
    assert outside.notes == {key: 2, "charge begins": 2, "charge ends": 1}


async def test_idempotent_gets_the_same_key_at_each_attempt(store_url):
    """Retries of a step get one key, and every step, also of the same function, its own."""
    keys: list[str] = []

    async def pay(cents: int, idempotency_key: str) -> None:
        keys.append(idempotency_key)
        if len(keys) < 3:
            raise ConnectionError("try again")

    @durable
    async def pays(ctx: Context) -> None:
        quick = Retry(max_attempts=3, initial=timedelta(0))
        await ctx.step(pay, 5, effect="idempotent", retry=quick)
        await ctx.map(pay, [5])
        await ctx.step(pay, 5)

    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, id="run")
        await client.result("run")

    first, second, third, item, last = keys
    assert first == second == third
    assert len({first, item, last}) == 3


async def test_once_is_never_called_twice(store_url, outside):
    """A once step whose process was killed in the middle of the call is unknown, and stays so."""
    async with connect(store_url) as client:
        await client.start(calls, str(outside.folder), "once", id="run")
        await killed_in_the_middle(client, store_url, outside, "call")
        intent = await row(client, "act.0")
        with worker_process(store_url):
            answer = await client.result("run")

    assert (intent.state, intent.effect) == (PromiseState.PENDING, "once")
    assert answer.startswith("unknown: the worker that called 'act' ended before it had an outcome")
    assert outside.notes == {"call begins": 1}


async def test_the_intent_is_committed_before_the_call(store_url):
    """When a once step is called, its intent is in the journal for everybody to see."""
    seen: list[Any] = []

    async with connect(store_url) as client:

        async def look() -> str:
            seen.append((await row(client, "look.0")).state)
            return "looked"

        @durable
        async def looks(ctx: Context) -> str:
            return await ctx.step(look, effect="once")

        async with client.work([looks], options=QUICK):
            await client.start(looks, id="run")
            assert await client.result("run") == "looked"
            assert (await row(client, "look.0")).state is PromiseState.RESOLVED

    assert seen == [PromiseState.PENDING]


async def stuck() -> None:
    called["stuck"] += 1
    await asyncio.Event().wait()


async def breaks() -> None:
    called["breaks"] += 1
    raise ConnectionResetError("the line went dead")


async def leaves() -> None:
    called["leaves"] += 1
    raise SystemExit(3)


@pytest.mark.parametrize(
    "call, reason",
    [
        (stuck, "'stuck' raised TimeoutError: 'stuck' had not ended after 0.02 s"),
        (breaks, "'breaks' raised ConnectionResetError: the line went dead"),
        (leaves, "'leaves' raised SystemExit: 3"),
    ],
)
async def test_once_that_raises_is_unknown(store_url, call, reason):
    """A once step that times out or raises is unknown: it is not retried, and the run may go on."""

    @durable
    async def tries(ctx: Context) -> str:
        patient = Retry(max_attempts=5, initial=timedelta(0))
        try:
            await ctx.step(call, effect="once", timeout=0.02, retry=patient)
        except OutcomeUnknown as error:
            return error.message
        return "known"

    async with connect(store_url) as client, client.work([tries], options=QUICK):
        await client.start(tries, id="run")
        assert (await client.result("run")).startswith(reason)

    assert called.total() == 1


@pytest.mark.parametrize("misuse", [NotEncodable, Misuse, InvalidId])
async def test_once_that_misuses_the_kit_inside_is_unknown(store_url, misuse):
    """What a once step raises after its effect leaves it unknown, errors of the kit included."""

    async def charges_and_tells(cents: int) -> None:
        called["charge"] += 1
        async with connect(store_url) as other:
            if misuse is NotEncodable:
                await other.signal("other", "x", {1})
            elif misuse is InvalidId:
                await other.signal("other", "a b", 1)
            raise Misuse("not like this")

    @durable
    async def undoes(ctx: Context, cents: int) -> None:
        called["undone"] += 1

    @durable
    async def order(ctx: Context) -> None:
        await ctx.step(charges_and_tells, 5, effect="once")

    @durable
    async def undoable(ctx: Context) -> None:
        await ctx.step(charges_and_tells, 5, effect="once", undo=undoes)

    async with (
        connect(store_url) as client,
        client.work([order, undoable, undoes], options=QUICK),
    ):
        await client.start(order, id="run")
        with pytest.raises(RunFailed, match=f"OutcomeUnknown: .*raised {misuse.__name__}: "):
            await client.result("run")
        await client.start(undoable, id="undoable")
        with pytest.raises(RunFailed, match="OutcomeUnknown"):
            await client.result("undoable")

    assert called == {"charge": 2, "undone": 1}


async def test_an_error_that_proves_the_call_never_left(store_url):
    """An error of safe_on lets a once step be tried again, and fails it plainly in the end."""

    async def refused() -> None:
        called["refused"] += 1
        raise ConnectionRefusedError("nobody is there")

    @durable
    async def tries(ctx: Context) -> list[Any]:
        quick = Retry(max_attempts=3, initial=timedelta(0))
        try:
            await ctx.step(refused, effect="once", retry=quick)
        except StepFailed as error:
            return [type(error).__name__, error.type, error.attempts]
        return []

    async with connect(store_url) as client, client.work([tries], options=QUICK):
        await client.start(tries, id="run")
        assert await client.result("run") == ["StepFailed", "ConnectionRefusedError", 3]

    assert called["refused"] == 3


async def test_a_once_step_that_rests_is_not_unknown(store_url):
    """Between two attempts that never left, a once step is known not to have happened."""
    clock = ManualClock()

    async def refused_twice() -> str:
        called["tries"] += 1
        if called["tries"] < 3:
            raise ConnectionRefusedError("nobody is there")
        return "sent"

    @durable
    async def sends(ctx: Context) -> str:
        return await ctx.step(refused_twice, effect="once", retry=Retry(max_attempts=3))

    async with connect(store_url, clock) as client:
        async with client.work([sends], options=QUICK):
            await client.start(sends, id="run")
            await eventually(lambda: clock.sleepers)
            resting = await row(client, "refused_twice.0")
        clock.advance(60)
        async with client.work([sends], options=QUICK):
            await eventually(lambda: clock.sleepers)
            clock.advance(60)
            assert await client.result("run") == "sent"
        attempts = json.loads((await row(client, "refused_twice.0")).attempts)

    assert resting.state is PromiseState.PENDING
    assert len(attempts) == 2
    assert called["tries"] == 3


async def test_a_call_after_a_rest_is_unknown_when_cut_off(store_url):
    """An attempt that follows a rest has an intent of its own: cut off, it is unknown again."""
    clock = ManualClock()

    async def refused_then_stuck() -> None:
        called["tries"] += 1
        if called["tries"] == 1:
            raise ConnectionRefusedError("nobody is there")
        await asyncio.Event().wait()

    @durable
    async def sends(ctx: Context) -> str:
        try:
            await ctx.step(refused_then_stuck, effect="once", retry=Retry(max_attempts=3))
        except OutcomeUnknown:
            return "unknown"
        return "known"

    impatient = QUICK.__class__(lease=QUICK.lease, poll=QUICK.poll, shutdown_grace=timedelta(0))
    async with connect(store_url, clock) as client:
        async with client.work([sends], options=impatient):
            await client.start(sends, id="run")
            await eventually(lambda: clock.sleepers)
            clock.advance(60)
            await eventually(lambda: called["tries"] == 2)
        async with client.work([sends], options=QUICK):
            assert await client.result("run") == "unknown"

    assert called["tries"] == 2


async def test_a_graceful_end_leaves_nothing_unknown(store_url, outside):
    """A worker that is asked to end lets a once step in flight come to its outcome."""
    outside.hold("call")
    async with connect(store_url) as client:
        await client.start(calls, str(outside.folder), "once", id="run")
        with worker_process(store_url) as worker:
            await outside.noted("call begins")
            worker.ask_to_end()
            outside.let_go("call")
            assert worker.end() == 0
        settled = await row(client, "act.0")
        with worker_process(store_url):
            assert await client.result("run") == "call"

    assert settled.state is PromiseState.RESOLVED
    assert outside.notes == {"call begins": 1, "call ends": 1}


async def test_a_graceful_end_with_other_branches(store_url):
    """While a worker drains, no branch begins a step, and none cuts off the step of another."""
    let_go = asyncio.Event()

    async def pay() -> str:
        called["pay"] += 1
        await let_go.wait()
        return "paid"

    async def quick() -> None:
        called["quick"] += 1
        await draining.wait()

    async def next_one() -> None:
        called["next"] += 1

    draining = asyncio.Event()

    @durable
    async def beside(ctx: Context) -> None:
        await ctx.step(quick)
        await ctx.step(next_one)

    @durable
    async def pays(ctx: Context) -> Any:
        return await ctx.gather(ctx.step(pay, effect="once"), ctx.call(beside))

    async with connect(store_url) as client:
        async with client.work([pays], options=QUICK) as worker:
            await client.start(pays, id="run")
            await eventually(lambda: called["pay"] and called["quick"])
            closing = asyncio.create_task(worker.close())
            draining.set()
            await reached(client, "run", "beside.0/quick.0")
            let_go.set()
            await closing
        states = {p.key: p.state for p in await client.journal("run")}
        before = called.copy()
        async with client.work([pays], options=QUICK):
            assert await client.result("run") == ["paid", None]

    assert states["pay.0"] is PromiseState.RESOLVED
    assert before == {"pay": 1, "quick": 1}
    assert called == {"pay": 1, "quick": 1, "next": 1}


async def test_a_graceful_end_in_the_middle_of_a_map(store_url):
    """While a worker drains, a map with a limit begins no other item."""
    let_go = [asyncio.Event() for _ in range(3)]

    async def item(number: int) -> int:
        called[f"item {number}"] += 1
        await let_go[number].wait()
        return number

    @durable
    async def maps(ctx: Context) -> Any:
        return await ctx.map(item, range(3), limit=2)

    async with connect(store_url) as client:
        async with client.work([maps], options=QUICK) as worker:
            await client.start(maps, id="run")
            await eventually(lambda: called["item 1"])
            closing = asyncio.create_task(worker.close())
            await eventually(lambda: worker.is_stopping)
            let_go[0].set()
            await reached(client, "run", "item.0/0")
            let_go[1].set()
            await closing
        before = called.copy()
        let_go[2].set()
        async with client.work([maps], options=QUICK):
            assert await client.result("run") == [0, 1, 2]

    assert before == {"item 0": 1, "item 1": 1}
    assert set(called.values()) == {1}
