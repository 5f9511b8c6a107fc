"""A provider's answer is taken whole or not at all, and its "no" is understood.

The real SDKs against servers that speak the providers' formats.
"""

import asyncio
import gc
import json
import re
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from substrate.models.messages import (
    Document,
    Image,
    Reply,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from substrate.models.model import Model, disconnect
from substrate.models.request import Request
from substrate.values.clock import OffsetClock, seconds_of
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TransportFailed,
    Unusable,
)
from substrate.values.retry import Retry
from tests.llm_providers import (
    HELLO,
    SAYING,
    SEARCH,
    SEARCHING,
    SETUPS,
    after,
    authorization,
    complete,
    failure,
    served,
    unfinished,
    usage,
)
from tests.llm_servers import (
    CONTEXT_WINDOW,
    Ending,
    Llmock,
    anthropic_events,
    llmock,
    openai_events,
    refusal,
    stream,
)

BOTH = ["anthropic", "openai"]


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


@pytest.fixture(scope="module")
def running_llmock() -> Iterator[Llmock]:
    """Run one llmock for this file."""
    with llmock() as server:
        yield server


@pytest.fixture
async def mock(running_llmock, provider, monkeypatch) -> AsyncIterator[Llmock]:
    """Point the provider's SDK at a fresh llmock."""
    running_llmock.reset()
    SETUPS[provider].env(monkeypatch, running_llmock.url + SETUPS[provider].mock_path)
    yield running_llmock
    await disconnect()


@pytest.fixture
def model(provider) -> Model:
    """Return the provider's model."""
    return Model(SETUPS[provider].model)


# llmock: what a provider does on its good days and its bad ones


async def test_text(mock, model, provider):
    """Text comes in piece by piece, and whole in a reply that names its model and its cost."""
    mock.script({"type": "reply", "text": "Hello there, good friend."})
    pieces: list[str] = []

    reply = await model.answer(HELLO, pieces.append)

    assert reply.text == "Hello there, good friend."
    assert "".join(pieces) == reply.text
    assert len(pieces) > 1
    assert reply.stop is StopReason.END
    assert reply.made_by(provider, model.name)
    assert reply.usage.input_tokens > 0
    assert (reply.usage.cost_usd or 0) > 0 or SETUPS[provider].prices is None


async def test_tool_round_trip(mock, model):
    """A model calls tools in parallel, is given all results, and answers."""
    calls = [{"name": "search", "arguments": {"query": query}} for query in ("owls", "bats")]
    mock.script({"type": "reply", "tool_calls": calls}, {"type": "reply", "text": "Two owls."})

    asked = await model.answer(SEARCHING)
    results = [ToolResult(call.id, call.name, "two found") for call in asked.tool_calls]
    told = await model.answer(after(asked, *results))

    assert asked.stop is StopReason.TOOL_CALLS
    assert [call.arguments for call in asked.tool_calls] == [{"query": "owls"}, {"query": "bats"}]
    assert len({call.id for call in asked.tool_calls}) == 2
    assert told.text == "Two owls."


async def test_tool_chosen_by_the_server(mock, model):
    """A tool's schema reaches the provider: a call made from it fits the schema."""
    reply = await model.answer(SEARCHING)

    (call,) = reply.tool_calls
    assert call.name == "search"
    assert isinstance(call.arguments["query"], str)


@pytest.mark.parametrize(
    "fault, kind",
    [
        ({"status": 429, "retry_after": 1.5}, RateLimited),
        ({"status": 529}, Overloaded),
        ({"status": 503}, Overloaded),
        ({"status": 500}, Overloaded),
        ({"status": 400}, BadRequest),
        ({"status": 401}, Unusable),
        ({"status": 402}, QuotaExhausted),
        ({"status": 404}, Unusable),
        ({"status": 413}, ContextOverflow),
    ],
)
async def test_statuses(mock, model, fault, kind):
    """Each refusal is one kind of error, which says what the provider said and what to do."""
    mock.script({"type": "fail", "message": "the teapot is empty", **fault})

    error = await failure(model)

    assert type(error) is kind
    assert str(error).startswith(f"{model.id} answered {fault['status']} ")
    assert "the teapot is empty; " in str(error)
    assert "the teapot is empty" in error.body


async def test_retry_after(mock, model):
    """The wait that a provider asks for is kept to the millisecond."""
    mock.script({"type": "fail", "status": 429, "retry_after": 1.25})

    error = await failure(model)

    assert error.retry_after == 1.25
    assert "wait 1.25 s" in str(error)


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
async def test_broken_stream(mock, model, kind):
    """A stream that breaks, ends early or turns to rubbish is a failed transport, not an answer."""
    mock.script(
        {"type": "reply", "text": "one two three four five six"},
        {"type": "stream_fault", "kind": kind, "after_chunks": 5},
    )

    error = await failure(model)

    assert type(error) is TransportFailed
    assert error.retryable


@pytest.mark.parametrize(
    "fault",
    [
        {"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 30},
        {"type": "delay", "seconds": 30},
    ],
    ids=["in the stream", "before it"],
)
async def test_stall(mock, provider, fault):
    """Silence longer than the read timeout is a failed transport, wherever it falls."""
    mock.script(fault)

    model = Model(SETUPS[provider].model, settings={"read_timeout": 0.3})
    error = await failure(model, model.request("", HELLO.messages))

    assert type(error) is TransportFailed


async def test_malformed_arguments(mock, model, provider):
    """Arguments that are no JSON arrive as text, to be answered; the conversation goes on."""
    mock.script({"type": "tool_fault", "kind": "malformed_arguments"})

    reply = await model.answer(SEARCHING)
    (call,) = reply.tool_calls
    problem = ToolResult(call.id, call.name, "these arguments are not JSON", is_error=True)
    told = await model.answer(after(reply, problem))

    assert call.malformed or provider == "google", "Gemini's arguments are an object by its format"
    assert call.arguments == {}
    assert told.text


async def test_unknown_tool(mock, model):
    """A call of a tool that was never offered arrives like any other, to be answered."""
    mock.script({"type": "tool_fault", "kind": "unknown_tool"})

    reply = await model.answer(SEARCHING)

    (call,) = reply.tool_calls
    assert call.name != "search"
    assert call.malformed is None


async def test_context_window(mock, model):
    """A transcript that is too long is an overflow, which no retry can mend."""
    long = Request("", [UserMessage.of("word " * CONTEXT_WINDOW)])

    error = await failure(model, long)

    assert type(error) is ContextOverflow
    assert not error.retryable


async def test_nobody_there(model, provider, monkeypatch):
    """A server that cannot be reached is a failed transport."""
    SETUPS[provider].env(monkeypatch, "http://127.0.0.1:9/v1")

    error = await failure(model)
    await disconnect()

    assert type(error) is TransportFailed


async def test_verdict(mock, model):
    """A client that retries as the errors say is judged well behaved by llmock."""
    mock.script(
        {"type": "fail", "status": 429, "retry_after": 0.2},
        {"type": "fail", "status": 529, "retry_after": 0.1},
        {"type": "stream_fault", "kind": "truncate", "after_chunks": 3},
        {"type": "stream_fault", "kind": "disconnect", "after_chunks": 3},
        {"type": "fail", "status": 400, "message": "no", "times": 1},
    )
    retry = Retry(max_attempts=9, initial=timedelta(seconds=0.1))

    async def answer(text: str) -> Reply | ModelError:
        for attempt in range(1, 10):
            try:
                return await model.answer(Request("", [UserMessage.of(text)]))
            except ModelError as error:
                if not retry.allows(error, attempt):
                    return error
                await OffsetClock().sleep(seconds_of(retry.delay(error, attempt)))
        raise AssertionError("nine attempts were not enough")

    outcomes = [type(await answer("Hello")), type(await answer("Good day"))]

    assert outcomes == [BadRequest, Reply]
    assert mock.findings() == []


async def test_cancelled(mock, model):
    """A cancelled call ends at once, and as cancelled."""
    mock.script({"type": "delay", "seconds": 30})
    call = asyncio.create_task(model.answer(HELLO))
    done, _ = await asyncio.wait([call], timeout=0.5)

    call.cancel()

    assert not done
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_listener_fails(mock, model):
    """What `on_delta` raises is the caller's and passes through as it is."""

    def listen(text: str) -> None:
        raise ValueError(f"told {text!r}")

    with pytest.raises(ValueError, match="told"):
        await model.answer(HELLO, listen)


def test_connections_end_with_their_loop(running_llmock, monkeypatch):
    """Each event loop has connections of its own, which are closed when it ends."""
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", running_llmock.url + "/v1")

    async def ask() -> weakref.ref:
        model = Model(SETUPS["openai"].model)
        await asyncio.gather(model.answer(HELLO), model.answer(HELLO))
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(ask()) for _ in range(2)]
    gc.collect()  # a connection left open would warn here

    assert [loop() for loop in loops] == [None, None]


# The wire, byte by byte: Anthropic

THINKING = {"type": "thinking", "thinking": "Owls…\n\u2028 “hm”", "signature": "c2lnbmVk+/=="}
REDACTED = {"type": "redacted_thinking", "data": "opaque+/=="}
CALLING = {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {"query": "owls"}}
FOUND = ToolResult("toolu_1", "search", "two found")


async def test_thinking_goes_back_byte_exact(monkeypatch):
    """Thinking goes back to the model that wrote it as it came, through the journal too."""
    model = Model(SETUPS["anthropic"].model)
    blocks = [THINKING, REDACTED, {"type": "text", "text": "I search."}, CALLING]
    answers = stream(*anthropic_events(*blocks, stop="tool_use")), stream(*anthropic_events())
    async with served(monkeypatch, "anthropic", *answers) as server:
        reply = await model.answer(SEARCHING)
        replayed = Reply.from_json(reply.to_json(), reply.usage)
        await model.answer(after(replayed, FOUND))

    assert replayed == reply
    assert isinstance(reply.parts[0], Thinking)
    assert reply.parts[0].text == THINKING["thinking"]
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": blocks}


async def test_thinking_of_another_model_is_dropped(monkeypatch):
    """Another model is told the words and the calls, and none of the thinking."""
    blocks = [THINKING, REDACTED, {"type": "text", "text": "I search."}, CALLING]
    answers = stream(*anthropic_events(*blocks, stop="tool_use")), stream(*anthropic_events())
    async with served(monkeypatch, "anthropic", *answers) as server:
        reply = await Model(SETUPS["anthropic"].model).answer(SEARCHING)
        await Model("anthropic:claude-opus-5-5").answer(after(reply, FOUND))

    assert server.bodies[1]["messages"][1]["content"] == blocks[2:]


async def test_anthropic_request(monkeypatch):
    """A request says everything once: system, tools, files, all results together, cache marks."""
    model = Model(
        SETUPS["anthropic"].model,
        max_output_tokens=99,
        settings={"thinking": {"type": "adaptive"}, "tools": [{"type": "web_search_1"}]},
    )
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [
        UserMessage((Image(b"png"), Document(b"pdf", title="Owls"), Document(b"hi", "text/plain"))),
        Reply((Thinking("hm", native={"type": "?"}),), StopReason.END, "openai", "gpt"),
        Reply((ToolCall("a", "search"), ToolCall("b", "search")), StopReason.END, "openai", "gpt"),
        ToolMessage((ToolResult("a", "search", "1"), ToolResult("b", "search", "no", True))),
    ]
    async with served(monkeypatch, "anthropic", stream(*anthropic_events())) as server:
        await model.answer(model.request("Be brief.", messages, [SEARCH]))

    image, document, text = server.bodies[0]["messages"][0].pop("content")
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "cG5n"}
    assert (document["title"], document["source"]["data"]) == ("Owls", "cGRm")
    assert text["source"] == {"type": "text", "media_type": "text/plain", "data": "hi"}
    assert text["cache_control"] == mark["cache_control"], "where the request before this one ended"
    call = {"type": "tool_use", "name": "search", "input": {}}
    result = {"type": "tool_result"}
    assert server.bodies[0] == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 99,
        "stream": True,
        "thinking": {"type": "adaptive"},
        "system": [{"type": "text", "text": "Be brief.", **mark}],
        "tools": [
            {
                "name": "search",
                "description": SEARCH.description,
                "input_schema": SEARCH.parameters,
            },
            {"type": "web_search_1"},
        ],
        "messages": [
            {"role": "user"},
            {"role": "assistant", "content": [{**call, "id": "a"}, {**call, "id": "b"}]},
            {
                "role": "user",
                "content": [
                    {**result, "tool_use_id": "a", "content": "1", "is_error": False},
                    {**result, "tool_use_id": "b", "content": "no", "is_error": True, **mark},
                ],
            },
        ],
    }


async def test_usage(monkeypatch, provider, model):
    """Input includes what was cached, output what was thought, and each has its own price."""
    async with served(monkeypatch, provider, stream(*complete(provider))):
        reply = await model.answer(HELLO)

    expected, known = usage(provider), SETUPS[provider].prices
    tokens = Tokens(
        input_tokens=17,
        output_tokens=20,
        cache_read_tokens=5,
        cache_write_tokens=expected.cache_write_tokens,
    )
    cost = known and calc_price(tokens, model.name, provider_id=known).total_price
    assert reply.usage == replace(expected, cost_usd=cost)


async def test_unknown_price(monkeypatch, provider):
    """A model that the price list does not know has an unknown cost, which is not 0."""
    async with served(monkeypatch, provider, stream(*complete(provider))):
        reply = await Model(f"{provider}:home-made").answer(HELLO)

    assert reply.usage.cost_usd is None
    assert reply.usage.input_tokens == 17


async def test_paused_turn_is_continued(monkeypatch):
    """A turn paused for the provider's own tools goes on where it was, as one reply."""
    used = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "owls"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"url": "x"}]}
    answers = (
        stream(*anthropic_events(THINKING, used, found, stop="pause_turn")),
        stream(*anthropic_events(used, stop="pause_turn")),
        stream(*anthropic_events({"type": "text", "text": "Two owls."})),
        stream(*anthropic_events()),
    )
    async with served(monkeypatch, "anthropic", *answers) as server:
        model = Model(SETUPS["anthropic"].model)
        reply = await model.answer(HELLO)
        await model.answer(Request("", [*HELLO.messages, reply, UserMessage.of("Thanks")]))

    paused = [body["messages"][1:] for body in server.bodies[:3]]
    assert paused[0] == []
    assert paused[1] == [{"role": "assistant", "content": [THINKING, used, found]}]
    assert paused[2] == [{"role": "assistant", "content": [THINKING, used, found, used]}]
    whole = [THINKING, used, found, used, {"type": "text", "text": "Two owls."}]
    assert server.bodies[3]["messages"][1]["content"] == whole
    assert reply.text == "Two owls."
    assert reply.usage.output_tokens == 60


async def test_pauses_without_end(monkeypatch):
    """A turn that pauses again and again is given up, and not tried anew."""
    answers = [stream(*anthropic_events(stop="pause_turn")) for _ in range(20)]
    async with served(monkeypatch, "anthropic", *answers) as server:
        error = await failure(Model(SETUPS["anthropic"].model))

    assert type(error) is BadRequest
    assert len(server.bodies) == 9


@pytest.mark.parametrize(
    "stop, expected",
    [
        ("end_turn", StopReason.END),
        ("stop_sequence", StopReason.END),
        ("max_tokens", StopReason.LENGTH),
        ("refusal", StopReason.REFUSAL),
        ("content_filter", StopReason.REFUSAL),
        ("tool_use", StopReason.END),
    ],
)
async def test_anthropic_stops(monkeypatch, stop, expected):
    """Each stop reason of the provider is one of ours."""
    events = anthropic_events({"type": "text", "text": "So."}, stop=stop)
    async with served(monkeypatch, "anthropic", stream(*events)):
        reply = await Model(SETUPS["anthropic"].model).answer(HELLO)

    assert (reply.stop, reply.text) == (expected, "So.")


async def test_no_stop_reason(monkeypatch):
    """A message that ends without saying why it stopped is no answer."""
    events = [each for each in complete("anthropic") if each["type"] != "message_delta"]
    async with served(monkeypatch, "anthropic", stream(*events)):
        error = await failure(Model(SETUPS["anthropic"].model))

    assert type(error) is TransportFailed


async def test_anthropic_refusal_says_why(monkeypatch):
    """A refusal without a word of its own carries the provider's explanation."""
    details = {"type": "refusal", "category": "bio", "explanation": "Too dangerous."}
    events = anthropic_events(stop="refusal", stop_details=details)
    async with served(monkeypatch, "anthropic", stream(*events)):
        reply = await Model(SETUPS["anthropic"].model).answer(HELLO)

    assert (reply.stop, reply.text) == (StopReason.REFUSAL, "Too dangerous.")


async def test_context_filled_while_writing(monkeypatch):
    """A model that fills its context while it writes has overflowed it."""
    events = anthropic_events(stop="model_context_window_exceeded")
    async with served(monkeypatch, "anthropic", stream(*events)):
        error = await failure(Model(SETUPS["anthropic"].model))

    assert type(error) is ContextOverflow


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("overloaded_error", Overloaded),
        ("api_error", Overloaded),
        ("rate_limit_error", RateLimited),
        ("invalid_request_error", BadRequest),
    ],
)
async def test_error_inside_a_stream(monkeypatch, kind, expected):
    """An error in the middle of a stream counts by its words; the 200 before it says nothing."""
    said = {"type": "error", "error": {"type": kind, "message": "Too much"}}
    events = [*anthropic_events({"type": "text", "text": "So."})[:3], said]
    async with served(monkeypatch, "anthropic", stream(*events)):
        error = await failure(Model(SETUPS["anthropic"].model))

    assert type(error) is expected
    assert "Too much" in str(error)


async def test_no_spans_of_the_sdk(monkeypatch):
    """The SDK emits no spans and passes on no trace: the kit's own are the only ones."""
    here = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))
    async with served(monkeypatch, "anthropic", stream(*anthropic_events())) as server:
        with use_span(NonRecordingSpan(here)):
            await Model(SETUPS["anthropic"].model).answer(HELLO)

    assert "traceparent" not in server.headers[0]


@pytest.mark.parametrize(
    "made_by, thinking", [("anthropic", "enabled"), ("groq", "disabled")], ids=["own", "another's"]
)
async def test_a_turn_that_another_model_began(monkeypatch, made_by, thinking):
    """A turn that another model began goes on without thinking, which the API would refuse."""
    settings = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    model = Model(SETUPS["anthropic"].model, settings=settings)
    parts = (Thinking("hm", native=THINKING | {"thinking": "hm"}), ToolCall("toolu_1", "search"))
    reply = Reply(parts, StopReason.TOOL_CALLS, made_by, model.name)
    async with served(monkeypatch, "anthropic", stream(*anthropic_events())) as server:
        await model.answer(replace(after(reply, FOUND), settings=settings))

    assert server.bodies[0]["thinking"]["type"] == thinking


async def test_white_space_is_not_sent_back(monkeypatch):
    """Words that are only white space, which the model writes and the API refuses, stay here."""
    blocks = [THINKING, {"type": "text", "text": "\n\n"}, CALLING]
    answers = stream(*anthropic_events(*blocks, stop="tool_use")), stream(*anthropic_events())
    async with served(monkeypatch, "anthropic", *answers) as server:
        reply = await Model(SETUPS["anthropic"].model).answer(SEARCHING)
        await Model(SETUPS["anthropic"].model).answer(after(reply, FOUND))

    assert server.bodies[1]["messages"][1]["content"] == [THINKING, CALLING]


# The wire, byte by byte: OpenAI

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Owls…"}, {"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "Z0FBQUFB+/==",
}
CALLED = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "search",
    "arguments": '{"query": "owls"}',
    "status": "completed",
}
RESULT = ToolResult("call_1", "search", "two found")


async def test_reasoning_goes_back_byte_exact(monkeypatch):
    """Encrypted reasoning goes back to its model as its item's last event had it, in its place."""
    model = Model(SETUPS["openai"].model)
    answers = stream(*openai_events(REASONING, SAYING, CALLED)), stream(*openai_events())
    async with served(monkeypatch, "openai", *answers) as server:
        reply = await model.answer(SEARCHING)
        replayed = Reply.from_json(reply.to_json(), reply.usage)
        await model.answer(after(replayed, RESULT))

    assert replayed == reply
    assert reply.stop is StopReason.TOOL_CALLS
    assert reply.parts[0] == Thinking("Owls…\n\nHm.", native=REASONING)
    result = {"type": "function_call_output", "call_id": "call_1", "output": "two found"}
    assert server.bodies[1]["input"][1:] == [REASONING, SAYING, CALLED, result]


async def test_reasoning_of_another_model_is_dropped(monkeypatch):
    """Another model is told the words and the calls, and nothing that it did not make."""
    answers = stream(*openai_events(REASONING, SAYING, CALLED)), stream(*openai_events())
    async with served(monkeypatch, "openai", *answers) as server:
        reply = await Model(SETUPS["openai"].model).answer(SEARCHING)
        await Model("openai:gpt-6-sol").answer(after(reply, RESULT))

    call = {key: CALLED[key] for key in ("type", "call_id", "name", "arguments")}
    words = {"role": "assistant", "content": "I search."}
    assert server.bodies[1]["input"][1:3] == [words, call]


async def test_reasoning_that_nothing_follows(monkeypatch):
    """Reasoning that was cut off before its answer is not sent back: the API refuses it alone."""
    cut = openai_events(
        REASONING,
        ending="response.incomplete",
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    )
    async with served(monkeypatch, "openai", stream(*cut), stream(*openai_events())) as server:
        reply = await Model(SETUPS["openai"].model).answer(HELLO)
        more = Request("", [*HELLO.messages, reply, UserMessage.of("Go on")])
        await Model(SETUPS["openai"].model).answer(more)

    assert reply.stop is StopReason.LENGTH
    assert [item["role"] for item in server.bodies[1]["input"]] == ["user"]


async def test_openai_request(monkeypatch):
    """A request says everything, stores nothing, and asks for the reasoning it will send back."""
    settings = {"reasoning": {"effort": "low"}, "read_timeout": 9}
    model = Model(SETUPS["openai"].model, max_output_tokens=99, settings=settings)
    messages = [
        UserMessage((Text("Look"), Image(b"png"), Document(b"pdf"))),
        Reply((Text(""), ToolCall("a", "search", {}, "{oops")), StopReason.END, "scripted", "x"),
        ToolMessage((ToolResult("a", "search", "not JSON", True),)),
    ]
    async with served(monkeypatch, "openai", stream(*openai_events())) as server:
        await model.answer(model.request("Be brief.", messages, [SEARCH]))

    assert len(server.bodies[0].pop("prompt_cache_key")) == 32
    assert server.bodies[0] == {
        "model": "gpt-6-luna",
        "instructions": "Be brief.",
        "max_output_tokens": 99,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"},
        "tools": [
            {
                "type": "function",
                "name": "search",
                "description": SEARCH.description,
                "parameters": SEARCH.parameters,
                "strict": False,
            }
        ],
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {
                        "type": "input_image",
                        "detail": "auto",
                        "image_url": "data:image/png;base64,cG5n",
                    },
                    {
                        "type": "input_file",
                        "filename": "document.pdf",
                        "file_data": "data:application/pdf;base64,cGRm",
                    },
                ],
            },
            {"type": "function_call", "call_id": "a", "name": "search", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "not JSON"},
        ],
    }


async def test_requests_that_begin_alike(monkeypatch):
    """Requests with the same system prompt and tools name one cache; others name another."""
    requests = [
        SEARCHING,
        replace(SEARCHING, messages=[*SEARCHING.messages, UserMessage.of("More")]),
        replace(SEARCHING, system="Be long."),
        replace(SEARCHING, tools=[]),
    ]
    answers = [stream(*openai_events()) for _ in requests]
    async with served(monkeypatch, "openai", *answers) as server:
        for request in requests:
            await Model(SETUPS["openai"].model).answer(request)

    keys = [body["prompt_cache_key"] for body in server.bodies]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


async def test_where_cache_marks_stand(monkeypatch):
    """A mark stands where the last request ended too: the API looks but twenty blocks back."""
    calls = tuple(ToolCall(f"c{i}", "search", {"query": "owls"}) for i in range(25))
    results = ToolMessage(tuple(ToolResult(call.id, "search", "two") for call in calls))
    messages = [UserMessage.of("Go"), Reply(calls, StopReason.TOOL_CALLS, "a", "b"), results]
    async with served(monkeypatch, "anthropic", stream(*anthropic_events())) as server:
        await Model(SETUPS["anthropic"].model).answer(Request("", messages, [SEARCH]))

    sent = server.bodies[0]["messages"]
    marked = [["cache_control" in block for block in each["content"]] for each in sent]
    assert [sum(each) for each in marked] == [1, 0, 1]
    assert (marked[0][-1], marked[2][-1]) == (True, True)


async def test_service_tier(monkeypatch):
    """A service tier that costs less is counted at its own price."""
    answers = stream(*openai_events()), stream(*openai_events(service_tier="flex"))
    async with served(monkeypatch, "openai", *answers):
        model = Model(SETUPS["openai"].model)
        default, flex = await model.answer(HELLO), await model.answer(HELLO)

    assert flex.usage.cost_usd * 2 == default.usage.cost_usd


@pytest.mark.parametrize(
    "ending, response, expected",
    [
        ("response.incomplete", {"reason": "max_output_tokens"}, StopReason.LENGTH),
        ("response.incomplete", {"reason": "content_filter"}, StopReason.REFUSAL),
        ("response.completed", None, StopReason.END),
    ],
)
async def test_openai_stops(monkeypatch, ending, response, expected):
    """An answer that was cut short says how, and keeps what was said."""
    status = ending.removeprefix("response.")
    events = openai_events(SAYING, ending=ending, status=status, incomplete_details=response)
    async with served(monkeypatch, "openai", stream(*events)):
        reply = await Model(SETUPS["openai"].model).answer(HELLO)

    assert (reply.stop, reply.text) == (expected, "I search.")


async def test_openai_refusal(monkeypatch):
    """A refusal's words are told live and kept, and the reply says that it is one."""
    said = {**SAYING, "content": [{"type": "refusal", "refusal": "I won't."}]}
    pieces: list[str] = []
    async with served(monkeypatch, "openai", stream(*openai_events(said))):
        reply = await Model(SETUPS["openai"].model).answer(HELLO, pieces.append)

    assert (reply.stop, reply.text, pieces) == (StopReason.REFUSAL, "I won't.", ["I won't."])


@pytest.mark.parametrize(
    "code, expected",
    [
        ("server_error", Overloaded),
        ("rate_limit_exceeded", RateLimited),
        ("insufficient_quota", QuotaExhausted),
        ("invalid_prompt", Refused),
        ("context_length_exceeded", ContextOverflow),
        ("invalid_image", BadRequest),
    ],
)
@pytest.mark.parametrize("way", ["failed", "error", "nested"])
async def test_failed_response(monkeypatch, code, expected, way):
    """A response that fails after it began counts by its code, in whichever event it is told."""
    said = {"code": code, "message": "No"}
    ending = {
        "failed": {"type": "response.failed", "response": {"status": "failed", "error": said}},
        "error": {"type": "error", "sequence_number": 1, **said},
        "nested": {"type": "error", "error": said},
    }[way]
    async with served(monkeypatch, "openai", stream(*openai_events(SAYING)[:-1], ending)):
        error = await failure(Model(SETUPS["openai"].model))

    assert type(error) is expected
    assert "No" in str(error)


# The wire, byte by byte: all


@pytest.mark.parametrize("name", ["search<|channel|>json", "", "x" * 90])
async def test_names_that_nobody_takes(monkeypatch, provider, model, name):
    """A name that a model made up goes back as one that its provider can read."""
    reply = Reply((ToolCall("a", name),), StopReason.TOOL_CALLS, provider, model.name)
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(after(reply, ToolResult("a", name, "there is no such tool", True)))

    names = set(re.findall(r'"name": "([^"]*)"', json.dumps(server.bodies[0]))) - {"search"}
    assert len(names) == 1
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", names.pop())


def test_importing_loads_no_sdk():
    """Naming a model loads no SDK and no price list; only asking it does."""
    code = (
        "import sys; from substrate.models.model import Model; Model('anthropic:x');"
        "import substrate.models.prices, substrate.models.providers.scripted;"
        "print([m for m in ('anthropic', 'openai', 'genai_prices', 'httpx2') if m in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"


async def test_error_without_a_word(monkeypatch):
    """An error event that names no cause is a failed transport, which may be tried again."""
    said = {"type": "error", "message": "Something went wrong"}
    async with served(monkeypatch, "openai", stream(said)):
        error = await failure(Model(SETUPS["openai"].model))

    assert type(error) is TransportFailed
    assert "Something went wrong" in str(error)


@pytest.mark.parametrize(
    "cut",
    [None, -1, 1, 0],
    ids=["all but the end", "all but the last two", "the beginning", "nothing"],
)
async def test_stream_that_just_ends(monkeypatch, provider, cut):
    """A stream that ends in good order without its last event is no answer."""
    async with served(monkeypatch, provider, stream(*unfinished(provider)[:cut])):
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is TransportFailed
    assert "ended its stream" in str(error)


@pytest.mark.parametrize(
    "rubbish",
    [
        "event: message_delta\ndata: {\n\n",
        "event: message_start\ndata: 5\n\n",
        "event: message_start\ndata: null\n\n",
        "event: message_start\ndata: []\n\n",
        'event: message_start\ndata: {"type": "message_start"}\n\n',
        'event: message_start\ndata: {"no": "type"}\n\n',
        'event: message_start\ndata: {"type": "response.completed"}\n\n',
        'event: x\ndata: {"type": "response.completed", "response": {"output": [{}]}}\n\n',
        'event: x\ndata: {"type": "content_block_delta", "index": 7, "delta": {}}\n\n',
        "event: error\ndata: oh no\n\n",
    ],
)
async def test_rubbish(monkeypatch, provider, rubbish):
    """Whatever nonsense a stream holds, what leaves an adapter is a failed transport."""
    async with served(monkeypatch, provider, stream(rubbish)):
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is TransportFailed


QUOTA = {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "No."}}
TOO_BIG = {
    "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "Request too large"}
}
SPENT = {
    "error": {"type": "rate_limit_error", "details": {"error_code": "SPENT"}, "message": "No."}
}
SPENT["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
BROKE = {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}
LONG = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}


@pytest.mark.parametrize(
    "answer, expected, wait",
    [
        (refusal(429, {"error": {"message": "Slow down"}}), RateLimited, None),
        (refusal(429, {}, retry_after="7"), RateLimited, 7.0),
        (refusal(429, {}, retry_after="0.5"), RateLimited, 0.5),
        (refusal(429, {}, retry_after="7", retry_after_ms="6500"), RateLimited, 6.5),
        (
            refusal(
                429,
                {},
                retry_after="Fri, 20 Nov 2026 11:36:37 GMT",
                date="Fri, 20 Nov 2026 11:36:07 GMT",
            ),
            RateLimited,
            30.0,
        ),
        (refusal(429, {}, retry_after="Fri, 20 Nov 2015 11:36:37 GMT"), RateLimited, 0.0),
        (refusal(429, {}, retry_after="soon"), RateLimited, None),
        (refusal(429, {}, retry_after="7200"), RateLimited, 7200.0),
        (refusal(429, {}, retry_after="99999999"), RateLimited, None),
        (refusal(429, {}, retry_after="-5"), RateLimited, 0.0),
        (refusal(402, {}, retry_after="86400"), QuotaExhausted, 86400.0),
        (refusal(503, "<html>busy</html>", retry_after="3"), Overloaded, 3.0),
        (refusal(408, {}), Overloaded, None),
        (refusal(429, QUOTA, retry_after="60"), QuotaExhausted, None),
        (refusal(429, TOO_BIG), ContextOverflow, None),
        (refusal(403, SPENT), QuotaExhausted, None),
        (refusal(400, BROKE), QuotaExhausted, None),
        (refusal(400, LONG), ContextOverflow, None),
        (refusal(400, {"error": {"code": "content_filter", "message": "No"}}), Refused, None),
        (refusal(418, "I am a teapot"), BadRequest, None),
    ],
)
async def test_refusals(monkeypatch, provider, answer, expected, wait):
    """Status, headers and body together say what kind of no it is, and how long to wait."""
    async with served(monkeypatch, provider, answer) as server:
        error = await failure(Model(SETUPS[provider].model))

    assert (type(error), error.retry_after) == (expected, wait)
    assert len(server.bodies) == 1, "the SDK retries on its own"


async def test_setting_that_is_not_json(monkeypatch, provider):
    """A setting that cannot be sent is the caller's mistake, and says so."""
    async with served(monkeypatch, provider) as server:
        error = await failure(
            Model(SETUPS[provider].model), Request("", HELLO.messages, settings={"user": object()})
        )

    assert type(error) is BadRequest
    assert server.bodies == []


@pytest.mark.parametrize(
    "rest, ending",
    [("", Ending.HELD), ("", Ending.CUT), ("event: x\ndata: rubbish\n\n", Ending.OPEN)],
    ids=["silence", "a cut", "rubbish"],
)
async def test_after_the_answer(monkeypatch, provider, model, rest, ending):
    """An answer stands when it is complete, whatever follows it."""
    whole = stream(*complete(provider), rest, ending=ending)
    async with served(monkeypatch, provider, whole):
        reply = await model.answer(HELLO)

    assert reply.text == "So."


async def test_key(monkeypatch, provider, model):
    """The key of the environment is what the provider is shown."""
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(HELLO)

    assert authorization(server.headers[0]) == "a-key"


async def test_connection_is_used_again(monkeypatch, provider, model):
    """A connection that has brought an answer brings the next one too."""
    answers = [stream(*complete(provider)) for _ in range(3)]
    async with served(monkeypatch, provider, *answers) as server:
        for _ in answers:
            await model.answer(HELLO)

    assert server.connections == 1
