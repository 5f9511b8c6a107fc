"""A call that may use so much is asked for no longer an answer than that pays for."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from substrate.models.allowance import Allowance
from substrate.models.bound import LEAST_OUTPUT, LONGEST_OUTPUT, says_too_long
from substrate.models.messages import Reply, Usage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import say
from substrate.models.request import Request
from substrate.models.tokens import estimate
from substrate.values.errors import BadRequest, ContextOverflow, TransportFailed, Unaffordable
from tests.llm_providers import HELLO, SETUPS, complete, served
from tests.llm_servers import refusal, stream

LIMIT_AT = {
    "anthropic": "max_tokens",
    "groq": "max_completion_tokens",
    "openai": "max_output_tokens",
    "openai-chat": "max_tokens",
}
PRICE = (10, 100)


def limit_in(provider: str, body: dict[str, Any]) -> int | None:
    """Return the longest answer that a server was asked for."""
    if provider == "google":
        found = body["generationConfig"].get("maxOutputTokens")
    else:
        found = body.get(LIMIT_AT[provider])
    return None if found is None else int(found)


def asking(allowance: Allowance, **more: Any) -> Request:
    """Return a request that may use so much."""
    return replace(HELLO, allowance=allowance, **more)


def priced(model: Model, request: Request) -> Decimal:
    """Return what the answer that is asked for costs at most."""
    longest = model.longest_answer(request)
    assert longest is not None
    cost = model.priced(Usage(estimate(request, model.provider), longest)).cost_usd
    assert cost is not None
    return cost


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


async def test_what_the_server_is_asked(monkeypatch, provider):
    """Each provider is asked for as long an answer as is paid for, and for no limit without one."""
    model = Model(SETUPS[provider].model, price=PRICE)
    request = asking(Allowance(usd=Decimal("0.10"), tokens=100_000))
    answers = [stream(*complete(provider)) for _ in range(3)]
    async with served(monkeypatch, provider, *answers) as server:
        await model.answer(request)
        await model.answer(asking(Allowance(tokens=500)))
        await model.answer(HELLO)
        bounded, few, free = (limit_in(provider, each) for each in server.bodies)

    read = estimate(HELLO, provider)
    assert bounded == int((Decimal("0.10") - read * Decimal("0.00001")) * 10_000)
    assert few == 500 - read
    assert free == (64_000 if provider == "anthropic" else None)


@pytest.mark.parametrize("provider", [each for each in SETUPS if SETUPS[each].prices])
def test_at_the_list_price(provider):
    """At the price list, all that the answer may cost is paid for, and hardly less."""
    model = Model(SETUPS[provider].model)
    usd = Decimal("0.05")
    cost = priced(model, asking(Allowance(usd=usd)))

    assert usd * Decimal("0.99") < cost <= usd


def test_the_cache_is_dearer():
    """What is read may all be put into a cache, which costs more: that is paid for as well."""
    model = Model("anthropic:claude-sonnet-5-5")
    request = replace(asking(Allowance(usd=Decimal("0.05"))), system="x" * 20_000)
    longest, read = model.longest_answer(request) or 0, estimate(request, "anthropic")
    written = model.priced(Usage(read, longest, cache_write_tokens=read)).cost_usd

    assert written is not None
    assert Decimal("0.0499") < written <= Decimal("0.05")


def test_its_own_limit_stays():
    """A model's own longest answer stands where it is the lower one, wherever it is said."""
    allowed = Allowance(tokens=5000)
    own = Model("openai-chat:own", max_output_tokens=100)

    assert own.longest_answer(asking(allowed, max_output_tokens=100)) == 100
    assert own.longest_answer(asking(allowed, max_output_tokens=90_000)) == 5000 - estimate(HELLO)
    assert own.longest_answer(asking(allowed, settings={"max_tokens": 100})) is None
    long = asking(allowed, settings={"max_tokens": 90_000})
    assert own.longest_answer(long) == 5000 - estimate(long)


async def test_a_limit_among_the_settings(monkeypatch):
    """A longer answer that the settings ask for is not asked for."""
    model = Model(SETUPS["openai-chat"].model, settings={"max_tokens": 90_000})
    request = replace(model.request("", HELLO.messages), allowance=Allowance(tokens=500))
    async with served(monkeypatch, "openai-chat", stream(*complete("openai-chat"))) as server:
        await model.answer(request)

    assert limit_in("openai-chat", server.bodies[0]) == 500 - estimate(request)


def test_too_little():
    """What pays for no answer, or not for the thinking that is asked for, is refused."""
    model = Model("scripted:x", script=["So."], price=PRICE)
    read = estimate(HELLO)
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}

    assert model.longest_answer(asking(Allowance(tokens=read + LEAST_OUTPUT))) == LEAST_OUTPUT
    for request in (
        asking(Allowance(tokens=read + LEAST_OUTPUT - 1)),
        asking(Allowance(usd=Decimal("0.0001"))),
        asking(Allowance(usd=Decimal(0))),
        asking(Allowance(usd=Decimal(-1), tokens=10**6)),
        asking(Allowance(tokens=2000), settings=thinking),
    ):
        with pytest.raises(Unaffordable, match="does not pay for a call"):
            model.longest_answer(request)
        assert not model.can_pay(request)
    assert model.longest_answer(asking(Allowance(tokens=LONGEST_OUTPUT + read))) is None


def test_a_price_that_nobody_knows():
    """An unknown price bounds nothing in dollars, and tokens as ever; nothing left is nothing."""
    model = Model("openai-chat:own", base_url="http://127.0.0.1:9/v1")

    assert model.longest_answer(asking(Allowance(usd=Decimal("0.01")))) is None
    assert model.longest_answer(asking(Allowance(Decimal("0.01"), 100))) == 100 - estimate(HELLO)
    assert not model.can_pay(asking(Allowance(usd=Decimal(0))))


def test_what_was_counted():
    """What the last call read was counted: only what was said since is estimated."""
    model = Model("scripted:x", script=["So."])
    said = replace(HELLO, messages=[*HELLO.messages, say("x" * 4000), *HELLO.messages])
    fresh = replace(said, allowance=Allowance(tokens=20_000))
    counted = replace(said, allowance=Allowance(tokens=20_000, counted=9000))
    room, less = model.longest_answer(fresh) or 0, model.longest_answer(counted) or 0

    assert 18_000 < room < 19_100
    assert 9000 - 60 <= room - less <= 9000


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
        "`max_completion_tokens` must be less than or equal to `32768`",
        "maxOutputTokens value of 9000 but the supported range is from 1 to 8193 (exclusive)",
    ],
)
async def test_it_cannot_write_as_much(monkeypatch, said):
    """A model that cannot write as much as is paid for is asked for as much as it can."""
    model = Model(SETUPS["openai-chat"].model)
    answers = [refusal(400, {"error": {"message": said}}), stream(*complete("openai-chat"))]
    async with served(monkeypatch, "openai-chat", *answers) as server:
        reply = await model.answer(asking(Allowance(tokens=100_000)))
        limits = [limit_in("openai-chat", each) for each in server.bodies]

    assert reply.text == "So."
    assert limits == [100_000 - estimate(HELLO), None]


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no such tool"),
        BadRequest("max_tokens must be greater than thinking.budget_tokens"),
        BadRequest("Invalid 'max_output_tokens': integer below minimum value"),
        ContextOverflow("prompt is too long"),
    ],
)
def test_another_refusal(error):
    """Nothing else that is refused is asked without a limit: that would not be paid for."""
    assert not says_too_long(error)


class Asked:
    """Scripted models that note how long an answer they were asked for."""

    def __init__(self) -> None:
        self.limits: dict[str, int | None] = {}

    def model(self, name: str, said: Any, price: Any = PRICE, **options: Any) -> Model:
        """Return one that says this, or raises it."""

        def script(request: Request) -> Reply:
            self.limits[name] = request.max_output_tokens
            if isinstance(said, Exception):
                raise said
            return replace(say(said), usage=Usage(0, 1000))

        return Model(f"scripted:{name}", script=script, price=price, **options)


async def test_one_that_is_too_dear():
    """A model that is too dear is passed over for one of its fallback that is not."""
    asked = Asked()
    cheap = asked.model("cheap", "So.", price=(0.1, 1))
    dear = asked.model("dear", "So.", price=(10_000, 100_000), fallback=[cheap])
    request = asking(Allowance(usd=Decimal("0.01")))
    reply = await dear.answer(request)

    assert (reply.text, reply.model, list(asked.limits)) == ("So.", "cheap", ["cheap"])
    assert dear.can_pay(request)
    assert not dear.is_payable(request)


async def test_what_was_paid_in_vain():
    """What a model took that failed is not there for the one that is asked in its place."""
    asked = Asked()
    lost = TransportFailed("cut off", usage=Usage(0, 1000))
    second = asked.model("second", "So.")
    moved = Fallback(second, on=["overloaded", "unusable", "context", "refused", "quota"])
    first = asked.model("first", ContextOverflow("full", usage=lost.usage), fallback=[moved])
    await first.answer(asking(Allowance(tokens=10_000)))

    read = estimate(HELLO)
    assert asked.limits == {"first": 10_000 - read, "second": 10_000 - read - 1000}
