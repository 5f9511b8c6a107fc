"""A failure is data: recorded once, the same exception live and on every replay."""

import asyncio
import json
import math
import sys
import threading
from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from substrate import (
    Context,
    Misuse,
    PromiseState,
    Retry,
    RunFailed,
    RunStatus,
    StepFailed,
    connect,
    durable,
    recorded_error,
)
from substrate.testing import ManualClock
from substrate.values.errors import NotEncodable, RateLimited, Refused
from tests.runs import QUICK, keys, taken_over
from tests.stores import eventually

calls: Counter[str] = Counter()
caught: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    caught.clear()


async def boom(reason: str = "no reason") -> None:
    calls["boom"] += 1
    raise ValueError(reason)


@recorded_error
class OutOfStock(Exception):
    """Nothing of it is left."""


@recorded_error
class Picky(Exception):
    """An exception whose args do not make it again."""

    def __init__(self, item: str, count: int) -> None:
        super().__init__(f"{count} of {item}")


class Detailed(Exception):
    details: ClassVar = {"shelf": 4}


def face(error: BaseException) -> tuple[Any, ...]:
    """Return all that a program can see of an exception."""
    fields = {name: repr(value) for name, value in vars(error).items()}
    return type(error), str(error), error.args, fields


def failing(work: Any) -> Any:
    """Return a durable function that notes the exception of `work`, then waits for `go`."""

    @durable(name="fails")
    async def fails(ctx: Context) -> str:
        try:
            await work(ctx)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            caught.append(face(error))
        await ctx.receive("go")
        return "it went on"

    return fails


async def detailed() -> None:
    raise Detailed("no shelf")


async def out_of_stock() -> None:
    raise OutOfStock("owl", 3)


async def picky() -> None:
    raise Picky("owl", 3)


async def broken_words() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    raise Silent


async def leaves() -> None:
    sys.exit(3)


async def cancels() -> None:
    raise asyncio.CancelledError


def runs_dry() -> None:
    next(iter(()))


async def unencodable() -> Any:
    calls["unencodable"] += 1
    return {"fields": [object()]}


@durable
async def inner_fails(ctx: Context) -> None:
    await ctx.step(boom, "inside")


@durable
async def inner_is_out(ctx: Context) -> None:
    await ctx.step(out_of_stock)


FAILURES = {
    "a step": lambda ctx: ctx.step(boom, "loudly"),
    "a plain step": lambda ctx: ctx.step(json.loads, "{", name="loads"),
    "details": lambda ctx: ctx.step(detailed),
    "a recorded error": lambda ctx: ctx.step(out_of_stock),
    "a recorded error that cannot be made again": lambda ctx: ctx.step(picky),
    "an error without words": lambda ctx: ctx.step(broken_words),
    "SystemExit": lambda ctx: ctx.step(leaves),
    "SystemExit in a thread": lambda ctx: ctx.step(sys.exit, 3, name="leaves"),
    "StopIteration in a thread": lambda ctx: ctx.step(runs_dry),
    "a cancellation of its own": lambda ctx: ctx.step(cancels),
    "a result that is no JSON": lambda ctx: ctx.step(unencodable),
    "a call": lambda ctx: ctx.call(inner_fails),
    "a call with a recorded error": lambda ctx: ctx.call(inner_is_out),
    "a gather": lambda ctx: ctx.gather(ctx.step(boom, "0"), ctx.step(boom, "1")),
    "SystemExit in a branch": lambda ctx: ctx.gather(ctx.step(leaves), ctx.step(cancels)),
    "an expired signal": lambda ctx: ctx.receive("never", timeout=0),
    "an unknown outcome": lambda ctx: ctx.step(boom, effect="once"),
}


@pytest.mark.parametrize("work", FAILURES.values(), ids=FAILURES)
async def test_the_same_exception_live_and_on_replay(sqlite_url, work):
    """Type, message, args and fields of a failure are the same on replay, and the run goes on."""
    async with taken_over(sqlite_url, failing(work)) as client:
        assert await client.result("run") == "it went on"
        states = {promise.state for promise in await client.journal("run")}

    live, replayed = caught
    assert live == replayed
    assert states & {PromiseState.REJECTED, PromiseState.EXPIRED}


async def test_what_a_failed_step_says(store_url):
    """StepFailed carries the type, message, details and number of attempts of its record."""

    @durable
    async def asks(ctx: Context) -> Any:
        try:
            await ctx.step(detailed)
        except StepFailed as error:
            return [error.name, error.type, error.message, error.details, error.attempts]

    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, id="run")
        assert await client.result("run") == [
            "detailed",
            "Detailed",
            "no shelf",
            {"shelf": 4},
            1,
        ]
        (row,) = [p for p in await client.journal("run") if p.key == "detailed.0"]
    assert row.state is PromiseState.REJECTED
    assert 'raise Detailed("no shelf")' in json.loads(row.error or "")["traceback"]


async def test_a_recorded_error_is_caught_as_itself(store_url):
    """A class with @recorded_error comes back with its args, from a step and through a call."""

    @durable
    async def buys(ctx: Context) -> list[Any]:
        found = []
        for pending in (ctx.step(out_of_stock), ctx.call(inner_is_out)):
            try:
                await pending
            except OutOfStock as error:
                found.append(list(error.args))
        await ctx.receive("go")
        return found

    async with taken_over(store_url, buys) as client:
        assert await client.result("run") == [["owl", 3], ["owl", 3]]


async def test_a_recorded_error_that_cannot_be_made_again(store_url):
    """A class that does not take its own args back comes as StepFailed, which says what it was."""

    @durable
    async def buys(ctx: Context) -> Any:
        try:
            await ctx.step(picky)
        except StepFailed as error:
            return [error.type, error.message]

    async with connect(store_url) as client, client.work([buys], options=QUICK):
        await client.start(buys, id="run")
        assert await client.result("run") == ["Picky", "3 of owl"]


async def test_gather_waits_for_all_branches(store_url):
    """Gather raises the failure of the lowest index, the others in it, after all have ended."""
    first = asyncio.Event()

    async def late(text: str) -> None:
        await first.wait()
        calls[text] += 1
        raise ValueError(text)

    async def early(text: str) -> None:
        calls[text] += 1
        first.set()
        raise ValueError(text)

    async def good() -> str:
        await first.wait()
        return "good"

    @durable
    async def gathers(ctx: Context) -> Any:
        try:
            await ctx.gather(ctx.step(late, "a"), ctx.step(good), ctx.step(early, "b"))
        except StepFailed as error:
            return [error.message, [other.message for other in error.others]]

    async with connect(store_url) as client, client.work([gathers], options=QUICK):
        await client.start(gathers, id="run")
        assert await client.result("run") == ["a", ["b"]]
        assert sorted(await keys(client, "run")) == ["early.0", "good.0", "late.0", "run"]


async def test_map_waits_for_all_items(store_url):
    """Map runs every item, with a limit too, and raises the failure of the lowest index."""

    async def odd(number: int) -> int:
        calls["odd"] += 1
        if number % 2:
            raise ValueError(f"odd {number}")
        return number

    @durable
    async def maps(ctx: Context) -> Any:
        try:
            await ctx.map(odd, range(100), limit=7)
        except StepFailed as error:
            return [error.message, len(error.others)]

    async with connect(store_url) as client, client.work([maps], options=QUICK):
        await client.start(maps, id="run")
        assert await client.result("run") == ["odd 1", 49]

    assert calls["odd"] == 100


async def test_a_limit_is_kept_and_used(store_url):
    """Map with a limit has as many items under way as that, and never more."""
    under_way: Counter[str] = Counter()

    async def one(number: int) -> None:
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        await asyncio.sleep(0)
        under_way["now"] -= 1

    @durable
    async def maps(ctx: Context) -> None:
        await ctx.map(one, range(20), limit=3)

    async with connect(store_url) as client, client.work([maps], options=QUICK):
        await client.start(maps, id="run")
        await client.result("run")

    assert under_way["most"] == 3


async def test_a_thousand_branches_and_one_failure(sqlite_url):
    """One failing branch of a thousand costs none of the others."""

    async def one_fails(number: int) -> int:
        if number == 500:
            raise ValueError("the one")
        return number

    @durable
    async def maps(ctx: Context) -> Any:
        try:
            await ctx.map(one_fails, range(1000))
        except StepFailed as error:
            return [error.message, len(error.others)]

    async with connect(sqlite_url) as client, client.work([maps], options=QUICK):
        await client.start(maps, id="run")
        assert await client.result("run") == ["the one", 0]
        states = Counter(promise.state for promise in await client.journal("run"))
    assert states == {PromiseState.RESOLVED: 1000, PromiseState.REJECTED: 1}


@pytest.mark.parametrize(
    "error, told",
    [
        (ValueError("no"), "ValueError: no"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (OutOfStock("owl"), "OutOfStock: owl"),
    ],
)
async def test_a_run_that_fails(store_url, error, told):
    """What a function raises, even to end the process, fails its run alone; result() says it."""

    @durable
    async def fails(ctx: Context) -> None:
        raise error

    @durable
    async def works(ctx: Context) -> str:
        return "fine"

    async with connect(store_url) as client, client.work([fails, works], options=QUICK):
        await client.start(fails, id="fails")
        with pytest.raises(RunFailed, match=f"run 'fails' failed: {told}"):
            await client.result("fails")
        run = await client.get("fails")
        await client.start(works, id="works")

        assert await client.result("works") == "fine"
    assert (run.status, run.crashes) == (RunStatus.FAILED, 0)


async def test_a_result_that_is_no_json_fails_the_run(store_url):
    """A run that returns what JSON cannot hold fails, and says what it may return."""

    @durable
    async def returns(ctx: Context) -> Any:
        return object()

    async with connect(store_url) as client, client.work([returns], options=QUICK):
        await client.start(returns, id="run")
        with pytest.raises(RunFailed, match=r"NotEncodable: value is object .* return None, bool"):
            await client.result("run")


async def test_a_step_result_that_is_no_json(store_url):
    """A step whose result JSON cannot hold is rejected with a remedy, and not called again."""

    @durable
    async def steps(ctx: Context) -> Any:
        try:
            await ctx.step(unencodable, retry=Retry(max_attempts=3))
        except StepFailed as error:
            return [error.type, error.message]

    async with connect(store_url) as client, client.work([steps], options=QUICK):
        await client.start(steps, id="run")
        kind, message = await client.result("run")

    assert kind == NotEncodable.__name__
    assert "value['fields'][0] is object" in message
    assert "return None, bool" in message
    assert calls["unencodable"] == 1


# Retries


@durable
async def retries(ctx: Context, policy: str) -> Any:
    return await ctx.step(flaky, policy, retry=POLICIES[policy])


class Again(Exception):
    """Worth another attempt."""


class GiveUp(Again):
    """Worth none."""


async def flaky(policy: str) -> int:
    calls[policy] += 1
    raise RAISED[policy]


SECOND = timedelta(seconds=1)
POLICIES = {
    "grows": Retry(max_attempts=4, initial=SECOND, factor=3, max_delay=5 * SECOND, jitter=0),
    "gives up": Retry(max_attempts=4, jitter=0, give_up_on=(GiveUp,)),
    "only these": Retry(max_attempts=4, jitter=0, retry_on=(KeyError,)),
    "asked to wait": Retry(max_attempts=2, jitter=0),
    "cannot succeed": Retry(max_attempts=4, jitter=0),
}
RAISED = {
    "grows": Again("still"),
    "gives up": GiveUp("enough"),
    "only these": ValueError("another"),
    "asked to wait": RateLimited("slow down", retry_after=70),
    "cannot succeed": Refused("no"),
}
DELAYS = {
    "grows": [1, 3, 5],
    "gives up": [],
    "only these": [],
    "asked to wait": [70],
    "cannot succeed": [],
}


ENDLESS = {
    "no end": {"max_attempts": math.inf},
    "no number": {"max_attempts": None},
    "no attempt": {"max_attempts": 0},
    "too much chance": {"jitter": 2},
    "shrinking": {"factor": 0.5},
}


@pytest.mark.parametrize("policy", ENDLESS)
def test_a_policy_that_cannot_work(policy):
    """A retry that would never end, or makes no sense, is refused where it is written."""
    with pytest.raises(Misuse):
        Retry(**ENDLESS[policy])


@pytest.mark.parametrize("policy", POLICIES)
async def test_retries_wait_as_their_policy_says(store_url, policy):
    """A step is tried as often, after as long a wait, as its policy and its error say."""
    clock = ManualClock()
    async with connect(store_url, clock) as client, client.work([retries], options=QUICK):
        await client.start(retries, policy, id="run")
        for attempt, delay in enumerate(DELAYS[policy], 1):
            await eventually(lambda: clock.sleepers)
            assert calls[policy] == attempt
            clock.advance(delay - 0.001)
            assert clock.sleepers == 1
            clock.advance(0.001)
            await eventually(lambda attempt=attempt: calls[policy] > attempt)
        with pytest.raises(RunFailed, match="StepFailed"):
            await client.result("run")
        (row,) = [p for p in await client.journal("run") if p.key == "flaky.0"]

    attempts = json.loads(row.attempts or "[]")
    error = RAISED[policy]
    assert [attempt["waited_ms"] for attempt in attempts] == [1000 * s for s in DELAYS[policy]]
    assert {(a["type"], a["message"]) for a in attempts} <= {(type(error).__name__, str(error))}


async def test_a_step_that_recovers(store_url):
    """The attempts that failed before a success are kept in the journal, with their errors."""

    async def third_time() -> str:
        calls["tries"] += 1
        if calls["tries"] < 3:
            raise Again(f"try {calls['tries']}")
        return "done"

    @durable
    async def recovers(ctx: Context) -> str:
        quick = Retry(max_attempts=3, initial=timedelta(0))
        return await ctx.step(third_time, retry=quick)

    async with connect(store_url) as client, client.work([recovers], options=QUICK):
        await client.start(recovers, id="run")
        assert await client.result("run") == "done"
        (row,) = [p for p in await client.journal("run") if p.key == "third_time.0"]

    assert [a["message"] for a in json.loads(row.attempts or "[]")] == ["try 1", "try 2"]


# Timeouts


async def test_a_coroutine_that_takes_too_long(store_url):
    """A coroutine function is cancelled at its timeout, at each attempt, and may be retried."""

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            calls["cancelled"] += 1

    @durable
    async def waits(ctx: Context) -> Any:
        quick = Retry(max_attempts=2, initial=timedelta(0))
        try:
            await ctx.step(stuck, timeout=0.02, retry=quick)
        except StepFailed as error:
            return [error.type, error.message, error.attempts]

    async with connect(store_url) as client, client.work([waits], options=QUICK):
        await client.start(waits, id="run")
        assert await client.result("run") == [
            "TimeoutError",
            "'stuck' had not ended after 0.02 s",
            2,
        ]
    assert calls["cancelled"] == 2


async def test_a_plain_function_that_takes_too_long(store_url):
    """A plain function's result is discarded at its timeout, though it runs on in its thread."""
    let_go, ended = threading.Event(), threading.Event()

    def stuck() -> str:
        let_go.wait(30)
        ended.set()
        return "too late"

    @durable
    async def waits(ctx: Context) -> Any:
        try:
            await ctx.step(stuck, timeout=0.02)
        except StepFailed as error:
            return error.message

    async with connect(store_url) as client, client.work([waits], options=QUICK):
        await client.start(waits, id="run")
        assert await client.result("run") == "'stuck' had not ended after 0.02 s"
        let_go.set()
        await asyncio.to_thread(ended.wait, 30)
        rows = {promise.key: promise.state for promise in await client.journal("run")}
    assert rows["stuck.0"] is PromiseState.REJECTED
