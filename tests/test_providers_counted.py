"""What was asked is counted: by the provider, or by an estimate; also what was thrown away."""

from dataclasses import replace
from decimal import Decimal

import pytest

from substrate.models.model import Model
from substrate.values.errors import (
    ModelMistake,
    TransportFailed,
)
from tests.llm_providers import (
    HELLO,
    SEARCHING,
    SETUPS,
    complete,
    failure,
    said,
    served,
    unfinished,
    without_counts,
)
from tests.llm_servers import (
    anthropic_events,
    chat_events,
    gemini_events,
    refusal,
    stream,
)


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


@pytest.fixture
def model(provider) -> Model:
    """Return the provider's model."""
    return Model(SETUPS[provider].model)


async def test_nobody_counted(monkeypatch, provider, model):
    """A reply without counts is estimated, and has its price: it is never free."""
    events = without_counts(
        said(provider, "So, two owls it is.", ("a", "search", '{"query": "owls"}'))
    )
    async with served(monkeypatch, provider, stream(*events)):
        reply = await model.answer(SEARCHING)

    assert 10 <= reply.usage.output_tokens <= 60
    assert 40 <= reply.usage.input_tokens <= 120
    is_priced = SETUPS[provider].prices is not None
    assert (reply.usage.cost_usd or 0) > 0 if is_priced else reply.usage.cost_usd is None


@pytest.mark.parametrize("counts", [None, {}, "many", 7, [], {"input_tokens": 0}])
async def test_counts_that_say_nothing(monkeypatch, provider, model, counts):
    """Counts that are null, empty, zero or no counts at all are none, wherever they stand."""

    def spoilt(value):
        if isinstance(value, dict):
            named = {"usage", "usageMetadata"} & value.keys()
            return {k: counts if k in named else spoilt(v) for k, v in value.items()}
        return [spoilt(each) for each in value] if isinstance(value, list) else value

    async with served(monkeypatch, provider, stream(*map(spoilt, complete(provider)))):
        reply = await model.answer(HELLO)

    assert reply.usage.input_tokens > 5
    assert reply.usage.output_tokens > 0


@pytest.mark.parametrize(
    "start, delta, read, written",
    [
        ({"input_tokens": 10}, None, 10, None),
        (None, {"output_tokens": 20}, None, 20),
        ({"input_tokens": 0, "output_tokens": 0}, {"output_tokens": 20}, None, 20),
        (None, {"input_tokens": 10, "output_tokens": 20}, 10, 20),
        ({"cache_read_input_tokens": 900}, {"output_tokens": 20}, 900, 20),
    ],
)
async def test_half_of_claudes_counts(monkeypatch, start, delta, read, written):
    """Where either of a message's two counts is missing, that one alone is estimated."""
    events = anthropic_events({"type": "text", "text": "So, two owls it is."})
    events[0]["message"].pop("usage")
    events[-2].pop("usage")
    events[0]["message"].update({} if start is None else {"usage": start})
    events[-2].update({} if delta is None else {"usage": delta})
    async with served(monkeypatch, "anthropic", stream(*events)):
        reply = await Model(SETUPS["anthropic"].model).answer(HELLO)

    assert reply.usage.input_tokens == read or (read is None and reply.usage.input_tokens > 10)
    assert reply.usage.output_tokens == written or (
        written is None and reply.usage.output_tokens > 4
    )


async def test_a_gateway_that_counts_cached_tokens_apart(monkeypatch):
    """Input includes what was cached, also where a gateway tells the two apart."""
    events = chat_events("So.")
    events[-2]["usage"]["prompt_tokens_details"] = {"cached_tokens": 900}
    async with served(monkeypatch, "groq", stream(*events)):
        reply = await Model(SETUPS["groq"].model).answer(HELLO)

    assert (reply.usage.input_tokens, reply.usage.cached_tokens) == (900, 900)
    assert reply.usage.cost_usd is not None


@pytest.mark.parametrize("billed", ["a lot", -1, None, float("inf"), {}])
async def test_a_bill_that_is_none(monkeypatch, billed):
    """What a gateway says it took counts only where it is a number of dollars."""
    events = chat_events("So.")
    events[-2]["usage"]["cost"] = billed
    async with served(monkeypatch, "openai-chat", stream(*events)):
        reply = await Model(SETUPS["openai-chat"].model).answer(HELLO)

    assert reply.usage.cost_usd is None
    assert reply.usage.input_tokens == 17


async def test_a_cache_that_lasts_an_hour(monkeypatch):
    """What is written to a cache for an hour has its own price, which is higher."""
    costs = []
    for ttl in ("5m", "1h"):
        events = anthropic_events({"type": "text", "text": "So."})
        written = {f"ephemeral_{ttl}_input_tokens": 1_000_000}
        counts = {"cache_creation_input_tokens": 1_000_000, "cache_creation": written}
        events[0]["message"]["usage"] = {"input_tokens": 0, **counts}
        async with served(monkeypatch, "anthropic", stream(*events)):
            reply = await Model(SETUPS["anthropic"].model).answer(HELLO)
        assert reply.usage.cache_write_tokens == 1_000_000
        costs.append(round(reply.usage.cost_usd, 1))

    assert costs == [Decimal("2.5"), Decimal("4.0")], "1.25 and 2 times what a token of input costs"


async def test_half_an_answer_is_counted(monkeypatch, provider, model):
    """What a stream that broke had cost is said with the failure, as far as it can be known."""
    async with served(monkeypatch, provider, stream(*unfinished(provider))):
        error = await failure(model)

    assert type(error) is TransportFailed
    assert error.usage.input_tokens > 5
    assert error.usage.output_tokens > 0
    assert (error.usage.cost_usd or 0) > 0 or SETUPS[provider].prices is None


async def test_a_price_of_ones_own_counts_for_half_an_answer(monkeypatch, provider, model):
    """What a model is said to take is what its failures cost."""
    async with served(monkeypatch, provider, stream(*unfinished(provider))):
        error = await failure(replace(model, price=(1_000_000, 0)))

    assert error.usage.cost_usd == error.usage.input_tokens


@pytest.mark.parametrize("status", [307, 400, 401, 429, 529])
async def test_a_closed_door_costs_nothing(monkeypatch, provider, model, status):
    """What is refused before the answer began has used nothing."""
    async with served(monkeypatch, provider, refusal(status, {"error": {"message": "No."}})):
        error = await failure(model)

    assert error.usage is None


async def test_a_mistake_is_counted(monkeypatch):
    """What a model wrote, and its provider refused, is paid for."""
    mistake = {
        "error": {"code": "tool_use_failed", "message": "No.", "failed_generation": "x " * 99}
    }
    async with served(monkeypatch, "groq", refusal(400, mistake)):
        of_groq = await failure(Model(SETUPS["groq"].model), SEARCHING)
    async with served(monkeypatch, "google", stream(*gemini_events(finish="MALFORMED_RESPONSE"))):
        of_gemini = await failure(Model(SETUPS["google"].model), SEARCHING)

    assert type(of_groq) is type(of_gemini) is ModelMistake
    assert 40 <= of_groq.usage.output_tokens <= 60
    assert of_gemini.usage.output_tokens == 20


async def test_pauses_are_counted(monkeypatch):
    """A turn that paused and then broke has used what both its parts did."""
    search = {
        "type": "server_tool_use",
        "id": "srv_1",
        "name": "web_search",
        "input": {"q": "owls"},
    }
    first = stream(*anthropic_events({"type": "text", "text": "So."}, search, stop="pause_turn"))
    async with served(monkeypatch, "anthropic", first, stream(*unfinished("anthropic"))):
        error = await failure(Model(SETUPS["anthropic"].model))

    assert error.usage.input_tokens == 17 + 17
