"""A model that cannot answer is passed over for one that can; what that took is recorded."""

from dataclasses import replace
from decimal import Decimal

import pytest

from substrate import Context, connect, durable
from substrate.agent.stop import answered, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.transcript import Transcript
from substrate.agent.turn import ask, begin, finish
from substrate.models.cheapest import cheapest
from substrate.models.fallback import Candidate, first_answer
from substrate.models.fallback_reason import FallbackReason
from substrate.models.frame import frame
from substrate.models.limits.breaker import FIRST_REST_S, OPENS_AFTER, Breakers
from substrate.models.messages import PassedOver, Reply, StopReason, Usage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import say
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.values.codec import decode
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    Misuse,
    ModelError,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TransportFailed,
    Unusable,
)
from tests.llm_providers import HELLO, SETUPS, complete, served
from tests.llm_servers import refusal, stream

ALL = frozenset(FallbackReason)
REFUSAL = replace(say("I won't."), stop=StopReason.REFUSAL, usage=Usage(9, cost_usd=Decimal("0.5")))


class Asked:
    """Models that answer or fail as told, and who was asked in which order."""

    def __init__(self, breakers: Breakers | None = None) -> None:
        self.breakers = breakers or Breakers(ManualClock())
        self.order: list[str] = []

    def one(self, model: str, outcome: Reply | ModelError, on=ALL) -> Candidate:
        """Return a candidate with this outcome."""

        async def ask() -> Reply:
            self.order.append(model)
            if isinstance(outcome, ModelError):
                raise outcome
            return outcome

        return Candidate(model, frozenset(on), ask, model)

    async def answer(self, *candidates: Candidate) -> Reply:
        """Ask them."""
        return await first_answer(candidates, self.breakers)


@pytest.mark.parametrize(
    "error, reason",
    [
        (QuotaExhausted("no"), FallbackReason.QUOTA),
        (RateLimited("no", retry_after=90), FallbackReason.QUOTA),
        (ContextOverflow("no"), FallbackReason.CONTEXT),
        (Refused("no"), FallbackReason.REFUSED),
        (ModelMistake("no"), FallbackReason.INVALID),
        (Unusable("no"), FallbackReason.UNUSABLE),
    ],
)
async def test_passed_over_at_once(error, reason):
    """A failure that another model may not share is answered by the next, which says why."""
    asked = Asked()

    reply = await asked.answer(asked.one("a:1", error), asked.one("b:2", say("So.")))

    assert reply.text == "So."
    assert reply.passed_over == (PassedOver("a:1", reason.value, "no"),)
    assert asked.order == ["a:1", "b:2"]


@pytest.mark.parametrize("error", [BadRequest("no"), RateLimited("no", retry_after=5)])
async def test_not_passed_over(error):
    """A caller's mistake is its own, and a wait of seconds is waited for."""
    asked = Asked()

    with pytest.raises(type(error)):
        await asked.answer(asked.one("a:1", error), asked.one("b:2", say("So.")))

    assert asked.order == ["a:1"]


@pytest.mark.parametrize("error", [Overloaded("busy"), TransportFailed("gone")])
async def test_overload_is_tried_again_first(error):
    """An overload is first raised, to be tried again; the second in a row is passed over."""
    asked = Asked()
    pair = asked.one("a:1", error), asked.one("b:2", say("So."))

    for _ in range(OPENS_AFTER - 1):
        with pytest.raises(type(error)):
            await asked.answer(*pair)
    reply = await asked.answer(*pair)

    assert reply.passed_over == (PassedOver("a:1", "overloaded", str(error)),)


@pytest.mark.parametrize("wait_s", [None, 1.0, 5.0])
async def test_a_limit_without_an_end(wait_s):
    """A short wait is waited for once; a limit that is met again after it goes to the next."""
    clock = ManualClock()
    asked = Asked(Breakers(clock))
    limited = RateLimited("429", retry_after=wait_s)
    pair = asked.one("a:1", limited), asked.one("b:2", say("So."))

    with pytest.raises(RateLimited):
        await asked.answer(*pair)
    clock.advance((wait_s or 0) + 0.7)
    reply = await asked.answer(*pair)

    assert reply.passed_over == (PassedOver("a:1", "quota", "429"),)
    assert (await asked.answer(*pair)).passed_over[0].message.startswith("it rests")
    assert asked.order == ["a:1", "a:1", "b:2", "b:2"]


async def test_a_crowd_meets_one_limit():
    """Many calls that are refused in one moment are no reason to leave a model."""
    clock = ManualClock()
    asked = Asked(Breakers(clock))
    limited = asked.one("a:1", RateLimited("429", retry_after=1))
    well, other = asked.one("a:1", say("Back.")), asked.one("b:2", say("So."))

    for _ in range(64):
        with pytest.raises(RateLimited):
            await asked.answer(limited, other)
    clock.advance(1.1)

    assert (await asked.answer(well, other)).text == "Back."


async def test_what_cannot_be_used_is_said(caplog):
    """A model with a dead key is passed over, for minutes without being asked, and it is logged."""
    clock = ManualClock()
    asked = Asked(Breakers(clock))
    dead, other = asked.one("a:1", Unusable("401, no such key")), asked.one("b:2", say("So."))

    replies = [await asked.answer(dead, other) for _ in range(3)]

    assert [reply.passed_over[0].reason for reply in replies] == ["unusable"] * 3
    assert asked.order == ["a:1", "b:2", "b:2", "b:2"]
    (warned,) = [each.message for each in caplog.records]
    assert warned == "a:1 cannot be used, and others answer in its place: 401, no such key"


async def test_what_was_thrown_away_counts():
    """The next reply counts what the first had used in vain; a failure, what all of them had."""
    asked = Asked()
    took = Usage(100, 50, cost_usd=Decimal("0.5"))
    cut = ModelMistake("no such tool", usage=took)
    answer = replace(say("So."), usage=took)

    reply = await asked.answer(asked.one("a:1", cut), asked.one("b:2", answer))
    with pytest.raises(ModelMistake) as caught:
        await asked.answer(asked.one("a:1", cut), asked.one("b:2", ModelMistake("no", usage=took)))

    assert reply.usage == took + took
    assert reply.passed_over[0].usage == took
    assert caught.value.usage == took + took


async def test_a_long_overload_is_passed_over_at_once():
    """An overload that asks for more than half a minute is not waited for where another can."""
    asked = Asked()
    busy = Overloaded("busy", retry_after=60)

    reply = await asked.answer(asked.one("a:1", busy), asked.one("b:2", say("So.")))

    assert (reply.text, asked.order) == ("So.", ["a:1", "b:2"])


async def test_the_breaker():
    """An open breaker spares the call, until its rest is over and one call tries it."""
    clock = ManualClock()
    asked = Asked(Breakers(clock))
    dead = asked.one("a:1", QuotaExhausted("no", retry_after=FIRST_REST_S))
    alive, other = asked.one("a:1", say("Back.")), asked.one("b:2", say("So."))

    await asked.answer(dead, other)
    rested = await asked.answer(dead, other)
    clock.advance(FIRST_REST_S + 1)
    assert (await asked.answer(dead, other)).text == "So."
    clock.advance(FIRST_REST_S + 1)
    assert (await asked.answer(alive, other)).text == "Back."
    assert (await asked.answer(alive, other)).text == "Back."

    assert asked.order == ["a:1", "b:2", "b:2", "a:1", "b:2", "a:1", "a:1"]
    assert rested.passed_over[0].message.startswith("it rests")


def test_one_trial_at_a_time():
    """After the rest one caller may try; the others are told to go elsewhere until it reports."""
    clock = ManualClock()
    breakers = Breakers(clock)
    for _ in range(OPENS_AFTER):
        breakers.failed("a:1", FallbackReason.OVERLOADED, Overloaded("no"))
    clock.advance(FIRST_REST_S + 1)

    assert [breakers.open_for("a:1") for _ in range(3)] == [None, "overloaded", "overloaded"]
    breakers.succeeded("a:1")
    assert breakers.open_for("a:1") is None


def test_rests_grow():
    """A model that fails its trial rests for longer."""
    clock = ManualClock()
    breakers = Breakers(clock)
    for _ in range(OPENS_AFTER + 1):
        breakers.failed("a:1", FallbackReason.OVERLOADED, Overloaded("no"))

    clock.advance(FIRST_REST_S + 1)

    assert breakers.open_for("a:1") is FallbackReason.OVERLOADED


async def test_the_last_is_always_asked():
    """Where there is nobody else, a model is asked whatever its breaker says."""
    asked = Asked()
    pair = asked.one("a:1", QuotaExhausted("a")), asked.one("b:2", QuotaExhausted("b"))

    for _ in range(2):
        with pytest.raises(QuotaExhausted):
            await asked.answer(*pair)

    assert asked.order == ["a:1", "b:2", "b:2"]


async def test_reasons():
    """A model is asked after its own reasons only."""
    asked = Asked()
    reply = await asked.answer(
        asked.one("a:1", ContextOverflow("long")),
        asked.one("b:2", say("Not me."), on={FallbackReason.QUOTA}),
        asked.one("c:3", say("So."), on={FallbackReason.CONTEXT}),
    )

    assert (reply.text, asked.order) == ("So.", ["a:1", "c:3"])


async def test_most_hopeful_failure():
    """Where all fail, the failure that passes soonest is raised, for the retry to go on with."""
    asked = Asked()
    later, sooner = RateLimited("b", retry_after=600), RateLimited("c", retry_after=90)

    with pytest.raises(RateLimited) as caught:
        await asked.answer(
            asked.one("a:1", QuotaExhausted("a")), asked.one("b:2", later), asked.one("c:3", sooner)
        )

    assert caught.value is sooner


async def test_refusals_are_counted():
    """A refusal is passed over, and what it took is counted with what the answer took."""
    asked = Asked()
    answer = replace(say("So."), usage=Usage(1, cost_usd=Decimal(1)))

    reply = await asked.answer(asked.one("a:1", REFUSAL), asked.one("b:2", answer))

    assert reply.usage == Usage(10, cost_usd=Decimal("1.5"))
    assert reply.passed_over == (PassedOver("a:1", "refused", "I won't.", REFUSAL.usage),)
    assert Reply.from_json(reply.to_json(), reply.usage) == reply


@pytest.mark.parametrize("outcome", [REFUSAL, Overloaded("no"), QuotaExhausted("no")])
async def test_a_refusal_is_better_than_nothing(outcome):
    """A refusal is the answer where the others refuse too, or fail; it is not asked for twice."""
    asked = Asked()

    reply = await asked.answer(asked.one("a:1", REFUSAL), asked.one("b:2", outcome))

    assert reply.stop is StopReason.REFUSAL
    assert asked.order == ["a:1", "b:2"]


# The model


def failing(error: ModelError) -> Model:
    """Return a model that fails."""

    def fail(request: Request) -> str:
        raise error

    return Model("scripted:first", script=fail)


def test_what_a_fallback_may_be():
    """Names, models and reasons are checked when the model is made."""
    with pytest.raises(Misuse, match="is text"):
        Model("openai:x", fallback="anthropic:y")
    with pytest.raises(Misuse, match="no provider"):
        Model("openai:x", fallback=["opne:y"])
    with pytest.raises(Misuse, match="names a reason"):
        Fallback("openai:x", on=["tired"])
    with pytest.raises(Misuse, match="names a reason"):
        Fallback("openai:x", on="quota")


async def test_whose_key_is_missing_is_left_out(monkeypatch):
    """A fallback whose key is not set is not asked."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    first = failing(QuotaExhausted("no"))
    last = Model("scripted:last", script=["So."])

    reply = await replace(first, fallback=["openai:x", last]).answer(HELLO)

    assert reply.text == "So."


def test_who_is_asked_is_recorded():
    """The frame of a request says who else would be asked, and how."""
    model = Model("openai:x", settings={"read_timeout": 9, "a": 1}, fallback=["google:y"])

    recorded = frame(model.id, HELLO, model.describe_fallback())["fallback"]

    settings = {"read_timeout": 9}
    assert recorded == [{"model": "google:y", "max_output_tokens": None, "settings": settings}]
    assert "fallback" not in frame(model.id, HELLO)


async def test_across_providers(monkeypatch):
    """A fallback is asked the same, with settings of its own, over its own wire."""
    limit = refusal(402, {"error": {"type": "billing_error", "message": "Pay."}})
    model = Model(
        SETUPS["anthropic"].model,
        max_output_tokens=77,
        settings={"thinking": {"type": "adaptive"}},
        fallback=[SETUPS["google"].model],
    )
    async with (
        served(monkeypatch, "anthropic", limit),
        served(monkeypatch, "google", stream(*complete("google"))) as server,
    ):
        reply = await model.answer(model.request("", HELLO.messages))

    assert reply.made_by("google", "gemini-3.8-flash")
    assert [each.model for each in reply.passed_over] == [model.id]
    assert server.bodies[0]["generationConfig"] == {"maxOutputTokens": 77}


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    """Answer once, with whoever can."""
    model = replace(failing(Overloaded("busy")), fallback=[Model("scripted:other", script=["So."])])
    transcript: Transcript = await begin(ctx, "Be brief.", task)
    transcript += await ask(ctx, model, transcript)
    end = answered()(transcript) or max_turns(1)(transcript)
    return await finish(ctx, model, transcript, end)


async def test_in_a_run(tmp_path):
    """A run shows in its journal what was tried, who answered and why not the first."""
    async with connect(f"sqlite:///{tmp_path}/runs.db") as client, client.work([agent]):
        await client.start(agent, Task("Go"), id="a/1")
        answer = await client.result("a/1", agent)
        row = next(p for p in await client.journal("a/1") if p.key == "model.0")

    assert answer.text == "So."
    assert [each["type"] for each in decode(row.attempts)] == ["Overloaded"]
    assert decode(row.value)["passed_over"] == [
        {"model": "scripted:first", "reason": "overloaded", "message": "busy"}
    ]
    assert decode(row.usage)["model"] == "scripted:other"


@durable
async def asked_too_much(ctx: Context, task: Task) -> Answer:
    """Ask a model whose provider refuses with an error."""
    model = failing(Refused("not that"))
    transcript: Transcript = await begin(ctx, "Be brief.", task)
    transcript += await ask(ctx, model, transcript)
    end = answered()(transcript) or max_turns(1)(transcript)
    return await finish(ctx, model, transcript, end)


async def test_a_refusal_that_is_an_error(tmp_path):
    """A run ends as refused, whether its provider says so in a reply or in an error."""
    url = f"sqlite:///{tmp_path}/runs.db"
    async with connect(url) as client, client.work([asked_too_much]):
        await client.start(asked_too_much, Task("Go"), id="a/1")
        answer = await client.result("a/1", asked_too_much)

    assert (answer.reason, answer.text) == ("refused", "not that")
    assert answer.usage.cost_usd == 0


# The cheapest


def test_cheapest():
    """The cheapest model answers, and the others stand behind it in the order of their prices."""
    dear, cheap = "anthropic:claude-opus-5-5", "openai:gpt-6-luna"
    unknown, middle = "groq:home-made", "anthropic:claude-haiku-5-5"

    model = cheapest(dear, unknown, cheap, Model(middle))

    assert model.id == cheap
    assert [each.model.id for each in model.successors] == [middle, dear, unknown]


def test_cheapest_that_can():
    """One whose context is too small is left out; where none is left, that is said."""
    small = "groq:openai/gpt-oss-120b"
    large = "google:gemini-3.8-flash"

    assert cheapest(small, large, context=500_000).id == large
    assert cheapest(small, large).id == small
    with pytest.raises(Misuse, match="holds 500,000 tokens"):
        cheapest(small, context=500_000)


async def test_limits_are_a_servers_and_a_keys(monkeypatch):
    """The same model of another server, or under another key, is not kept waiting by this one."""
    for name in ("ONE", "TWO"):
        monkeypatch.setenv(name, "k")
    setup = SETUPS["openai-chat"]
    slow = refusal(429, {"error": {"message": "slow"}}, **{"retry-after": "7200"})
    async with (
        served(monkeypatch, "openai-chat", slow) as one,
        served(monkeypatch, "openai-chat", *[stream(*complete("openai-chat"))] * 2) as two,
    ):
        there = Model(setup.model, base_url=two.url, key="TWO")
        model = Model(setup.model, base_url=one.url, key="ONE", fallback=[there])
        reply = await model.answer(HELLO)
        again = await there.answer(HELLO)

    assert reply.passed_over[0].reason == "quota"
    assert (reply.text, again.text) == (again.text, reply.text)
    assert (len(one.bodies), len(two.bodies)) == (1, 2)
