"""A call that would hit a limit waits before it goes out; what one run is told, all keep."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest

from substrate.models.limits.limiter import PATIENCE_S, RateLimiter, need_of
from substrate.models.messages import Reply, StopReason, Usage, UserMessage
from substrate.models.model import Model, disconnect
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.values.clock import from_ms
from substrate.values.errors import ModelError, Overloaded, QuotaExhausted, RateLimited
from tests.llm_providers import HELLO, SETUPS, complete, served
from tests.llm_servers import Answer, llmock, refusal, stream

MODEL = "groq:openai/gpt-oss-120b"


def limits(clock: ManualClock, requests: tuple[int, int, str], tokens=(6000, 6000, "0s")) -> dict:
    """Return the headers that tell of these limits: left, whole, and when it is whole."""
    named = {"requests": requests, "tokens": tokens}
    headers = {"date": from_ms(clock.now_ms()).strftime("%a, %d %b %Y %H:%M:%S GMT")}
    for resource, (left, whole, reset) in named.items():
        headers[f"x-ratelimit-remaining-{resource}"] = str(left)
        headers[f"x-ratelimit-limit-{resource}"] = str(whole)
        headers[f"x-ratelimit-reset-{resource}"] = reset
    return headers


def next_wait(clock: ManualClock) -> float:
    """Return how far to move a clock for the next of those that wait."""
    return max(min(due_ms for due_ms, _ in clock._sleepers) - clock.now_ms(), 1) / 1000


async def called(
    limiter: RateLimiter,
    request: Request = HELLO,
    outcome: ModelError | None = None,
    model: str = MODEL,
) -> None:
    """Make a call that ends like this."""
    with suppress(type(outcome) if outcome else ()):
        async with limiter.call(model, request):
            if outcome:
                raise outcome


async def entered(limiter: RateLimiter, clock: ManualClock, request: Request = HELLO) -> float:
    """Enter, moving the clock as far as it is waited for; return how far that was."""
    start, task = clock.now_ms(), asyncio.create_task(called(limiter, request))
    while not task.done():
        await asyncio.sleep(0)
        if clock.sleepers:
            clock.advance(clock.asked[-1])
    await task
    return (clock.now_ms() - start) / 1000


async def test_nothing_heard():
    """A model of which nothing was heard never waits."""
    clock = ManualClock()

    assert await entered(RateLimiter(clock), clock) == 0


async def test_a_wait_is_told():
    """Who looks on is told once how long a call waits, and of one that goes out at once nothing."""
    clock, told = ManualClock(), []
    limiter = RateLimiter(clock)
    async with limiter.call(MODEL, HELLO, on_wait=told.append):
        pass
    await called(limiter, outcome=RateLimited("no", retry_after=7))

    async def call() -> None:
        async with limiter.call(MODEL, HELLO, on_wait=told.append):
            pass

    task = asyncio.create_task(call())
    while not task.done():
        await asyncio.sleep(0)
        if clock.sleepers:
            clock.advance(clock.asked[-1] / 2)  # so that it waits more than once

    assert told == [pytest.approx(7, abs=0.1)]


async def test_used_up():
    """A limit that is used up is waited for, as long as one call takes to come back."""
    clock = ManualClock()
    limiter = RateLimiter(clock)

    limiter.observe(MODEL, limits(clock, (0, 30, "59.999s")))

    assert await entered(limiter, clock) == pytest.approx(2.05, abs=0.01)


async def test_one_after_the_other():
    """Calls that wait for one limit go out in the order in which they came, each in its turn."""
    clock = ManualClock()
    limiter, start, gone = RateLimiter(clock), clock.now_ms(), []
    limiter.observe(MODEL, limits(clock, (0, 30, "59.999s")))

    async def go(name: str) -> None:
        async with limiter.call(MODEL, HELLO):
            gone.append((name, round((clock.now_ms() - start) / 1000)))

    tasks = [asyncio.create_task(go(name)) for name in ("first", "second", "third")]
    await asyncio.sleep(0)
    asked = [round(each) for each in clock.asked]
    while not all(task.done() for task in tasks):
        if clock.sleepers:
            clock.advance(next_wait(clock))
        await asyncio.sleep(0)

    assert asked == [2, 4, 6], "each knows how long it is until its turn"
    assert gone == [("first", 2), ("second", 4), ("third", 6)]


async def test_calls_in_flight_count():
    """Calls that went out count at once, before any answer says so."""
    clock = ManualClock()
    limiter = RateLimiter(clock)

    limiter.observe(MODEL, limits(clock, (2, 60, "57.999s")))
    waits = [await entered(limiter, clock) for _ in range(3)]

    assert waits == [0, 0, pytest.approx(1.05, abs=0.02)]


async def test_tokens():
    """A call that needs more tokens than are left waits for just those."""
    clock = ManualClock()
    limiter = RateLimiter(clock)
    short = Request("", [UserMessage.of("Hello")], max_output_tokens=8)
    long = Request("", [UserMessage.of("word " * 2400)], max_output_tokens=100)

    limiter.observe(MODEL, limits(clock, (9, 9, "0s"), tokens=(1000, 6000, "49.999s")))

    assert need_of(long) == pytest.approx(3000, abs=50), "its text, and what is around it"
    assert await entered(limiter, clock, short) == 0
    assert await entered(limiter, clock, long) == pytest.approx(21.5, abs=0.5)


async def test_larger_than_the_whole_limit():
    """A call that is larger than a whole limit goes out when all of it is there."""
    clock = ManualClock()
    limiter = RateLimiter(clock)
    huge = Request("", [UserMessage.of("word " * 24000)])

    limiter.observe(MODEL, limits(clock, (9, 9, "0s"), tokens=(3000, 6000, "29.999s")))

    assert await entered(limiter, clock, huge) == pytest.approx(30, abs=0.1)


def test_cached_tokens_are_not_needed():
    """What the last reply had in its cache takes nothing from a limit."""
    usage = Usage(3000, 10, cached_tokens=2000, cache_write_tokens=500, cost_usd=Decimal(0))
    reply = Reply((), StopReason.END, "groq", "m", usage)

    need = need_of(Request("", [UserMessage.of("word " * 2400), reply]))
    assert need == pytest.approx(500, abs=100)


async def test_one_is_told_and_all_wait():
    """A model that asks one call to wait is asked by no other of the process until then."""
    clock = ManualClock()
    limiter = RateLimiter(clock)

    with suppress(Overloaded):
        async with limiter.call(MODEL, HELLO):
            await called(limiter, outcome=RateLimited("no", retry_after=7))
            raise Overloaded("no", retry_after=3)

    assert await entered(limiter, clock) == pytest.approx(7.05)
    assert await entered(limiter, clock) == 0


async def test_an_empty_account_is_not_waited_for():
    """A quota that is exhausted, and an overload that asks for no wait, hold up nobody."""
    clock = ManualClock()
    limiter = RateLimiter(clock)

    await called(limiter, outcome=QuotaExhausted("no"))
    await called(limiter, outcome=Overloaded("no"))

    assert await entered(limiter, clock) == 0


async def test_a_long_wait_is_the_steps():
    """A wait of more than five minutes is refused with its length, for the step's retry to take."""
    clock = ManualClock()
    limiter = RateLimiter(clock)
    await called(limiter, outcome=RateLimited("no", retry_after=PATIENCE_S + 40))

    with pytest.raises(RateLimited, match="was not asked") as caught:
        await called(limiter)

    assert caught.value.retry_after == pytest.approx(PATIENCE_S + 40, abs=0.1)
    assert clock.asked == []


async def test_models_are_apart():
    """The limit of one model is not another's."""
    clock = ManualClock()
    limiter = RateLimiter(clock)
    await called(limiter, outcome=RateLimited("no", retry_after=7), model="groq:another")

    assert await entered(limiter, clock) == 0


class Busy:
    """A provider that answers so many calls a minute, and tells no limits: it says to wait."""

    def __init__(self, clock: ManualClock, a_minute: int) -> None:
        self.clock = clock
        self.a_minute = a_minute
        self.answered: list[int] = []
        self.refused = 0

    async def ask(self) -> None:
        """Answer or refuse, a moment later: others ask in the meantime."""
        await self.clock.sleep(0.8)
        now = self.clock.now_ms()
        lately = [each for each in self.answered if each > now - 60_000]
        if len(lately) >= self.a_minute:
            self.refused += 1
            raise RateLimited("slow", retry_after=(lately[0] + 60_000 - now) / 1000)
        self.answered.append(now)


@pytest.mark.parametrize("calls", [20, 60, 200])
async def test_a_crowd(calls, record_property):
    """A crowd of runs at a provider that tells no limits gets through, none asking often."""
    clock = ManualClock()
    limiter, busy = RateLimiter(clock), Busy(clock, a_minute=15)

    async def run() -> int:
        for attempt in range(1, 100):
            try:
                async with limiter.call(MODEL, HELLO):
                    await busy.ask()
            except RateLimited as error:
                await clock.sleep(error.retry_after)
            else:
                return attempt
        return 100

    tasks = [asyncio.create_task(run()) for _ in range(calls)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if clock.sleepers:
            clock.advance(next_wait(clock))
    attempts = [task.result() for task in tasks]

    record_property(
        f"{calls} runs at 15 calls a minute",
        f"{busy.refused} refusals, at most {max(attempts)} calls for one answer",
    )
    assert max(attempts) <= 6, "the durable retry gives up after six"


@pytest.mark.parametrize("provider", ["anthropic", "groq", "openai"])
async def test_no_limit_is_hit(monkeypatch, provider, record_property):
    """A crowd that has heard of a limit keeps to it: a server that counts refuses no call.

    The server allows 60 calls a minute, all at once if need be: more go out as more come back.
    """
    setup, over = SETUPS[provider], 4
    model = Model(setup.model)
    with llmock("--rpm", "60") as server:
        setup.env(monkeypatch, server.url + setup.mock_path)
        await model.answer(HELLO)
        asks = [replace(HELLO, system=f"You are number {i}.") for i in range(59 + over)]
        await asyncio.gather(*map(model.answer, asks))
        statuses = server.statuses()
        await disconnect()

    record_property(f"{len(statuses)} calls to {provider} at 60 a minute", "0 refusals")
    assert statuses == [200] * (60 + over)


@pytest.mark.parametrize("provider", sorted(SETUPS))
async def test_on_the_wire(monkeypatch, provider):
    """Every adapter passes on what an answer's headers say, and what an error asks for."""
    left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "10"}
    told = stream(*complete(provider))
    told = Answer(told.body, 200, {**told.headers, **left, "x-ratelimit-reset-requests": "2h"})
    model, again = Model(SETUPS[provider].model), Model(f"{provider}:other")
    busy = refusal(429, {"error": {"message": "Slow down."}}, retry_after="900")
    async with served(monkeypatch, provider, told, busy) as server:
        await model.answer(HELLO)
        with suppress(RateLimited):
            await again.answer(HELLO)
        for each in (model, again):
            with pytest.raises(RateLimited, match="was not asked"):
                await each.answer(HELLO)

    assert len(server.bodies) == 2
