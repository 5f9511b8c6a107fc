"""A stream that says nothing is cut, however busily it says it."""

import json

import pytest

from substrate.models.model import Model
from substrate.values.errors import (
    TransportFailed,
)
from tests.llm_providers import (
    HELLO,
    SETUPS,
    complete,
    failure,
    served,
    unfinished,
    usage,
)
from tests.llm_servers import (
    Answer,
    Ending,
    anthropic_events,
    chat_events,
    gemini_events,
    stream,
)

QUICK = {"read_timeout": 0.3}


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


@pytest.fixture
def model(provider) -> Model:
    """Return the provider's model."""
    return Model(SETUPS[provider].model)


NOTHING = {
    "anthropic": [
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}},
    ],
    "google": [
        {"usageMetadata": {"promptTokenCount": 17}},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}}]},
    ],
    "openai": [
        {"type": "response.in_progress", "response": {}},
        {"type": "response.output_text.delta", "delta": ""},
        {"type": "keepalive", "sequence_number": 3},
    ],
}
NOTHING["groq"] = NOTHING["openai-chat"] = [
    {"choices": []},
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 17}},
]


@pytest.mark.parametrize("kind", range(4))
async def test_keep_alives_are_silence(monkeypatch, provider, kind):
    """A stream that only keeps its connection alive is cut after the time for silence."""
    beats = [": keep-alive\n\n", *NOTHING[provider]]
    beat = beats[kind % len(beats)]
    model = Model(SETUPS[provider].model, settings=QUICK)
    async with served(monkeypatch, provider, stream(*unfinished(provider)[:2], beat=beat)):
        error = await failure(model, model.request("", HELLO.messages))

    assert type(error) is TransportFailed
    assert "said nothing for 0.3 s (read_timeout)" in str(error)
    assert error.usage is not None


@pytest.mark.parametrize("ending", Ending)
async def test_what_was_taken_is_paid_for(monkeypatch, provider, ending):
    """A call whose stream begins and falls silent, or breaks off, has used what it read."""
    model = Model(SETUPS[provider].model, settings=QUICK)
    async with served(monkeypatch, provider, stream(ending=ending)):
        error = await failure(model, model.request("Be brief. " * 100, HELLO.messages))

    assert type(error) is TransportFailed
    assert error.usage is not None
    assert error.usage.input_tokens > 200
    assert error.usage.output_tokens == 0


@pytest.mark.parametrize(
    "page", [Answer(b"<html>", 200, {"content-type": "text/html"}), Answer(b"", 204)]
)
async def test_what_was_not_taken_is_free(monkeypatch, provider, page):
    """A page where an answer belongs, or nothing, is no model that has read anything."""
    model = Model(SETUPS[provider].model, settings=QUICK)
    async with served(monkeypatch, provider, page):
        error = await failure(model)

    assert type(error) is TransportFailed
    assert error.usage is None


WORDS = {
    "anthropic": anthropic_events({"type": "text", "text": "So so"})[2],
    "google": gemini_events({"text": "So so"})[0],
    "groq": chat_events("So so")[1],
    "openai": {"type": "response.output_text.delta", "delta": "So so"},
    "openai-chat": chat_events("So so")[1],
}


async def test_an_answer_without_end(monkeypatch, provider):
    """An answer that goes on for ever is cut when its time is over, though it is never silent."""
    model = Model(SETUPS[provider].model, settings={"call_timeout": 0.4})
    answer = stream(*unfinished(provider)[:2], beat=WORDS[provider])
    async with served(monkeypatch, provider, answer):
        error = await failure(model, model.request("", HELLO.messages))

    assert type(error) is TransportFailed
    assert "did not end its answer in 0.4 s (call_timeout)" in str(error)


async def test_limits_of_time_are_not_told(monkeypatch, provider):
    """How long an answer is waited for is our own business."""
    model = Model(SETUPS[provider].model, settings={"call_timeout": 60, "read_timeout": 30})
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(model.request("", HELLO.messages))

    assert "timeout" not in json.dumps(server.bodies[0])


async def test_comments_in_a_stream(monkeypatch, provider, model):
    """What a gateway adds to keep a connection open is no part of the answer."""
    noisy = [each for event in complete(provider) for each in (": keep-alive\n\n", event)]
    async with served(monkeypatch, provider, stream(": first\n\n", *noisy, ": last\n\n")):
        reply = await model.answer(HELLO)

    assert reply.text == "So."
    assert reply.usage.input_tokens == usage(provider).input_tokens


async def test_geminis_stream_in_other_forms(monkeypatch):
    """A Gemini stream is read as such streams may be written: names, no space, other line ends."""
    chunks = [json.dumps(each) for each in gemini_events({"text": "So\u2028 \x85."})]
    forms = [
        "".join(f"event: message\nid: 1\ndata:{each}\n\n" for each in chunks),
        "".join(f"data: {each}\r\n\r\n" for each in chunks),
        "\n\n".join(f"data: {each}" for each in chunks),
        f"[{','.join(chunks)}]",
        "".join(f"data: {each}\n\n" for each in (c.replace(', "', ',\ndata: "') for c in chunks)),
    ]
    async with served(monkeypatch, "google", *map(stream, forms)):
        replies = [await Model(SETUPS["google"].model).answer(HELLO) for _ in forms]

    assert [reply.text for reply in replies] == ["So\u2028 \x85."] * len(forms)
