"""A provider that is away is waited for, durably and with growing gaps; nothing is a dead end."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from substrate import Client, RunPaused, RunStatus, WorkerOptions, connect
from substrate.agent.budget import budget
from substrate.agent.stop import answered, any_of
from substrate.agent.tool import tool
from substrate.engine.run.attempts import FIRST_KEPT, LAST_KEPT
from substrate.models.messages import Reply, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.values.codec import decode
from substrate.values.errors import (
    Misuse,
    ModelError,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TransportFailed,
)
from substrate.values.ids import RunId
from substrate.values.retry import Retry
from tests.loops import TASK, make_agent, row

COLD = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))
HOUR = 3600.0
DAY = 24 * HOUR

CommitResult = Callable[[float], Reply | ModelError]


class Provider:
    """A provider in virtual time: what it says depends on how many seconds have passed."""

    def __init__(self, clock: ManualClock, outcome: CommitResult) -> None:
        self.asked: list[float] = []
        self._clock = clock
        self._began = clock.now_ms()
        self._outcome = outcome

    @property
    def now(self) -> float:
        """The seconds that have passed."""
        return (self._clock.now_ms() - self._began) / 1000

    @property
    def gaps(self) -> list[float]:
        """The seconds between one call and the next."""
        return [b - a for a, b in zip(self.asked, self.asked[1:], strict=False)]

    def model(self, **given) -> Model:
        """Return the model that asks it."""

        def script(request: Request) -> Reply:
            self.asked.append(self.now)
            said = self._outcome(self.now)
            if isinstance(said, ModelError):
                raise said
            return said

        return Model("scripted:away", script=script, **given)


async def drive(client: Client, clock: ManualClock, agent) -> None:
    """Drive the run from one wait to the next, each time in another worker, to where it stands."""
    for _ in range(400):
        async with client.work([agent], options=COLD) as worker:
            await worker.run_until_idle()
        if not await go_on(client, clock):
            return
    raise AssertionError("it waits for ever")


async def drive_by_one(client: Client, clock: ManualClock, agent) -> None:
    """Drive the run so by a worker that stays, which takes a fifth of the time."""
    async with client.work([agent], options=COLD) as worker:
        for _ in range(400):
            await worker.run_until_idle()
            if not await go_on(client, clock):
                return
    raise AssertionError("it waits for ever")


async def go_on(client: Client, clock: ManualClock) -> bool:
    """Let the time come that the run is suspended until; return whether there is one."""
    if (due := await client.store.next_due_at()) is None:
        return False
    assert (await client.get("a/1")).status is RunStatus.SUSPENDED
    clock.advance(max(due - clock.now_ms(), 0) / 1000)
    return True


def back_after(seconds: float, error: Callable[[], ModelError]) -> CommitResult:
    """Return a provider that fails for so long."""
    return lambda now: error() if now < seconds else say("At last.")


@pytest.mark.parametrize(
    "error",
    [
        lambda: Overloaded("529, overloaded"),
        lambda: TransportFailed("connection refused"),
        lambda: RateLimited("429, no word of when"),
        lambda: RateLimited("429", retry_after=1),
    ],
    ids=["overloaded", "refused", "limited", "limited-1s"],
)
async def test_hours_away(store_url, error):
    """A provider that is away for six hours is asked again until it is back, ever less often."""
    clock = ManualClock()
    provider = Provider(clock, back_after(6 * HOUR, error))
    agent = make_agent(provider.model())
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        answer = await client.result("a/1", agent)

    assert answer.text == "At last."
    assert provider.asked[0] == 0
    assert 6 * HOUR <= provider.asked[-1] <= 6.3 * HOUR
    assert max(provider.gaps) <= 15 * 60 + 1
    assert len(provider.asked) < 50


async def test_the_row_stays_small(sqlite_url):
    """The row keeps the first attempts and the last, numbered, however many there were."""
    clock = ManualClock()
    provider = Provider(clock, back_after(12 * HOUR, lambda: Overloaded("busy " * 50)))
    agent = make_agent(provider.model())
    async with connect(sqlite_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        attempts = decode((await row(client, "model.0")).attempts)

    failed = len(provider.asked) - 1
    assert failed > 40
    first, last = range(1, FIRST_KEPT + 1), range(failed - LAST_KEPT + 1, failed + 1)
    assert [each["n"] for each in attempts] == [*first, *last]


async def test_patience_ends(store_url):
    """When patience is over the run is paused, and says so; resumed, it is patient again."""
    clock = ManualClock()
    provider = Provider(clock, back_after(60 * HOUR, lambda: Overloaded("busy")))
    agent = make_agent(provider.model())
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive_by_one(client, clock, agent)
        with pytest.raises(RunPaused, match=r"busy; tried \d+ times since 20"):
            await client.result("a/1", agent)
        first = provider.asked[-1]
        await client.resume("a/1")
        await drive_by_one(client, clock, agent)
        second = provider.asked[-1]
        await client.resume("a/1")
        await drive_by_one(client, clock, agent)
        answer = await client.result("a/1", agent)

    assert DAY <= first <= DAY + HOUR
    assert 2 * DAY <= second <= 2 * DAY + 2 * HOUR
    assert answer.text == "At last."


@pytest.mark.parametrize("patience, asked", [(0, 1), (10, 5), (timedelta(minutes=2), 8)])
async def test_a_model_says_how_patient(sqlite_url, patience, asked):
    """How long a run waits is the model's to say, in seconds or as a timedelta; 0 is not at all."""
    clock = ManualClock()
    provider = Provider(clock, lambda now: Overloaded("busy"))
    agent = make_agent(provider.model(patience=patience))
    async with connect(sqlite_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        with pytest.raises(RunPaused):
            await client.result("a/1", agent)

    assert abs(len(provider.asked) - asked) <= 1


@pytest.mark.parametrize("patience", [-1, float("inf"), float("nan"), timedelta(days=9999)])
def test_a_patience_that_cannot_be(patience):
    """A patience that is negative, or has no end, is refused where it is written."""
    with pytest.raises(Misuse, match=r"patience=|no duration"):
        Model("scripted:a", script=["Hi."], patience=patience)


@pytest.mark.parametrize("error", [RateLimited, QuotaExhausted, Overloaded])
@pytest.mark.parametrize("seconds", [7200.0, 3 * DAY])
async def test_a_named_wait_is_waited(store_url, error, seconds):
    """A wait that the provider names is waited for to the end, and uses up no patience."""
    clock = ManualClock()
    provider = Provider(clock, back_after(seconds, lambda: error("later", retry_after=seconds)))
    agent = make_agent(provider.model(patience=60))
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        answer = await client.result("a/1", agent)

    assert answer.text == "At last."
    first, again = provider.asked
    assert first + seconds <= again <= first + seconds + 30


async def test_an_empty_account_is_not_waited_for(sqlite_url):
    """A quota of which nobody says when it is renewed pauses the run at once."""
    clock = ManualClock()
    provider = Provider(clock, lambda now: QuotaExhausted("pay first"))
    agent = make_agent(provider.model())
    async with connect(sqlite_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        with pytest.raises(RunPaused, match="pay first"):
            await client.result("a/1", agent)

    assert len(provider.asked) == 1


async def test_a_person_need_not_wait(store_url):
    """A signal of the step's name asks for the next attempt at once; the series goes on."""
    clock = ManualClock()

    def outcome(now: float) -> Reply | ModelError:
        return say("At last.") if now >= 180 else Overloaded("busy", retry_after=DAY)

    provider = Provider(clock, outcome)
    agent = make_agent(provider.model())
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        for _ in range(3):
            async with client.work([agent], options=COLD) as worker:
                await worker.run_until_idle()
            clock.advance(60)
            await client.signal("a/1", "model")
        async with client.work([agent], options=COLD):
            answer = await client.result("a/1", agent)
        attempts = decode((await row(client, "model.0")).attempts)
        left = await client.store.inbox(RunId("a/1"))

    assert answer.text == "At last."
    assert provider.asked == [0, 60, 120, 180]
    assert [each["waited_ms"] for each in attempts] == [60_000] * 3
    assert left == []


async def test_a_signal_to_a_warm_run(sqlite_url):
    """A run that waits in memory is asked to try at once, too."""
    clock = ManualClock()
    provider = Provider(clock, back_after(60, lambda: Overloaded("busy", retry_after=DAY)))
    agent = make_agent(provider.model())
    async with connect(sqlite_url, clock) as client, client.work([agent]):
        await client.start(agent, TASK, id="a/1")
        async with asyncio.timeout(10):
            while not clock.sleepers:
                await asyncio.sleep(0)
        clock.advance(60)
        await client.signal("a/1", "model")
        assert (await client.result("a/1", agent)).text == "At last."

    assert provider.asked == [0, 60]


async def test_many_do_not_come_back_at_once(sqlite_url):
    """Runs that were told the same wait come back one after the other."""
    policy = Retry(max_attempts=9, jitter=0.3)
    error = RateLimited("later", retry_after=1800)
    delays = {policy.delay(error, 1).total_seconds() for _ in range(64)}

    assert len(delays) > 32
    assert 1800 <= min(delays) <= max(delays) <= 1830


def test_a_thousandth_attempt():
    """The wait before an attempt of any number is the longest there is, not an overflow."""
    policy = Retry(max_attempts=5000, factor=3, jitter=0)

    assert policy.delay(Overloaded("busy"), 4999) == policy.max_delay


PAID = Usage(1000, 500, cost_usd=Decimal("0.01"))


CALLS = replace(say(call("look")), usage=PAID)


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "one owl"


def cut_off(usage: Usage | None = PAID) -> TransportFailed:
    """Return the error of an answer that was paid for and never arrived whole."""
    return TransportFailed("the stream ended in the middle", usage=usage)


async def test_what_was_thrown_away_counts(store_url):
    """Attempts that cost something and failed are on the bill, over suspensions and workers."""
    clock = ManualClock()
    whole = replace(say("At last."), usage=PAID)
    provider = Provider(clock, lambda now: whole if len(provider.asked) > 3 else cut_off())
    agent = make_agent(provider.model())
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        async with client.work([agent], options=COLD) as worker:
            await worker.run_until_idle()
        waiting = decode((await row(client, "model.0")).usage)
        await drive(client, clock, agent)
        answer = await client.result("a/1", agent)
        usage = decode((await row(client, "model.0")).usage)

    assert waiting["cost_usd"] == "0.01"
    assert answer.usage.cost_usd == Decimal("0.04")
    assert (usage["cost_usd"], usage["input_tokens"]) == ("0.04", 4000)
    assert usage["model"] == "scripted:away"


async def test_a_budget_sees_the_bill(sqlite_url):
    """What was thrown away leaves less of a budget, and the run ends within it."""
    clock = ManualClock()
    replies = iter([*[cut_off()] * 3, CALLS, replace(say("So far."), usage=PAID)])
    provider = Provider(clock, lambda now: next(replies))
    agent = make_agent(provider.model(), [look], any_of(answered(), budget(usd=0.10)))
    async with connect(sqlite_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        answer = await client.result("a/1", agent)

    assert (answer.reason, answer.text) == ("budget", "So far.")
    assert answer.detail == "$0.0400 of $0.10 spent; the rest is kept"
    assert answer.usage.cost_usd == Decimal("0.05")


@pytest.mark.parametrize("error", [cut_off, lambda: ModelMistake("no such tool")])
async def test_what_costs_is_not_tried_all_day(sqlite_url, error):
    """An answer that costs and is of no use is asked for a few times; then a person decides."""
    clock = ManualClock()
    provider = Provider(clock, lambda now: error())
    agent = make_agent(provider.model())
    async with connect(sqlite_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await drive(client, clock, agent)
        assert (await client.get("a/1")).status is RunStatus.PAUSED
        paused = (await row(client, "model.0")).usage
        await client.resume("a/1")
        await drive(client, clock, agent)
        again = (await row(client, "model.0")).usage

    assert len(provider.asked) == 12
    if error is cut_off:
        assert decode(paused)["cost_usd"] == "0.06"
        assert decode(again)["cost_usd"] == "0.12"


async def test_a_killed_worker_forgets_nothing(store_url):
    """An attempt that failed is recorded before the next is made, however short the wait."""
    clock = ManualClock()
    provider = Provider(clock, lambda now: cut_off())
    agent = make_agent(provider.model())
    async with connect(store_url, clock) as client, client.work([agent]):
        await client.start(agent, TASK, id="a/1")
        async with asyncio.timeout(10):
            while not clock.sleepers:
                await asyncio.sleep(0)
        waiting = await row(client, "model.0")

    assert [each["type"] for each in decode(waiting.attempts)] == ["TransportFailed"]
    assert decode(waiting.usage)["cost_usd"] == "0.01"
