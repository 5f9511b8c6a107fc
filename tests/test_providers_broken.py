"""A reply that was not finished has no effect, and how it stopped is always told right.

The real SDKs of all five providers against servers that break an answer in the same way.
"""

import json
from typing import Any

import pytest

from substrate.models.limits.model_limits import ModelLimits
from substrate.models.messages import (
    Reply,
    StopReason,
    ToolResult,
)
from substrate.models.model import Model
from substrate.values.clock import OffsetClock
from substrate.values.errors import (
    ContextOverflow,
    Overloaded,
    TransportFailed,
)
from tests.llm_providers import (
    HELLO,
    SEARCHING,
    SETUPS,
    STOPS,
    after,
    calls_told,
    complete,
    failure,
    said,
    served,
)
from tests.llm_servers import (
    DONE,
    anthropic_events,
    chat_events,
    gemini_events,
    openai_events,
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


@pytest.mark.parametrize(
    "written", [None, '{"query": "owls"}'], ids=["no arguments", "all of them"]
)
@pytest.mark.parametrize("stop", ["cut", "filtered"])
async def test_calls_of_an_unfinished_reply(monkeypatch, provider, model, stop, written):
    """No call of a reply that was cut off or filtered can be made, though its arguments came."""
    events = said(provider, "I search.", ("a", "search", written), stop=stop)
    async with served(
        monkeypatch, provider, stream(*events), stream(*complete(provider))
    ) as server:
        reply = await model.answer(SEARCHING)
        await model.answer(after(reply, ToolResult("a", "search", "cut off", True)))

    (call,) = reply.tool_calls
    assert reply.stop is (StopReason.LENGTH if stop == "cut" else StopReason.REFUSAL)
    assert (call.malformed, call.arguments) == (written or "", {})
    assert reply.text == "I search."
    sent = {} if written is None else json.loads(written)
    assert [arguments for _, arguments in calls_told(provider, server.bodies[1])] == [sent]


@pytest.mark.parametrize("status", ["incomplete", "in_progress"])
@pytest.mark.parametrize("arguments", ["", '{"query": "owls"}'])
async def test_a_call_that_is_marked_as_unfinished(monkeypatch, status, arguments):
    """A call that OpenAI itself calls unfinished cannot be made, however the response ended."""
    item = {"type": "function_call", "call_id": "a", "name": "search", "status": status}
    events = openai_events({**item, "arguments": arguments})
    async with served(monkeypatch, "openai", stream(*events)):
        reply = await Model(SETUPS["openai"].model).answer(SEARCHING)

    assert reply.stop is StopReason.LENGTH
    assert reply.tool_calls[0].malformed is not None


@pytest.mark.parametrize("status", ["in_progress", "queued", "error", "of tomorrow"])
async def test_a_response_that_is_not_completed(monkeypatch, status):
    """A response whose status is none that ends an answer is asked for again."""
    events = openai_events(status=status)
    async with served(monkeypatch, "openai", stream(*events)):
        error = await failure(Model(SETUPS["openai"].model))

    assert isinstance(error, TransportFailed)
    assert status in str(error)


async def test_a_call_without_arguments(monkeypatch, provider, model):
    """In a whole reply no arguments are none: many tools take none."""
    async with served(monkeypatch, provider, stream(*said(provider, "", ("a", "search", None)))):
        reply = await model.answer(SEARCHING)

    (call,) = reply.tool_calls
    assert (reply.stop, call.arguments, call.malformed) == (StopReason.TOOL_CALLS, {}, None)


@pytest.mark.parametrize("provider", ["anthropic", "groq", "openai", "openai-chat"])
async def test_half_written_arguments(monkeypatch, provider):
    """Arguments that were cut in the middle go back as an object, though they are none."""
    model = Model(SETUPS[provider].model)
    events = said(provider, "", ("a", "search", '{"query": "ow'), stop="cut")
    async with served(
        monkeypatch, provider, stream(*events), stream(*complete(provider))
    ) as server:
        reply = await model.answer(SEARCHING)
        await model.answer(after(reply, ToolResult("a", "search", "cut off", True)))

    assert reply.tool_calls[0].malformed == '{"query": "ow'
    assert calls_told(provider, server.bodies[1]) == [("a", {})]


async def test_an_answer_without_a_word(monkeypatch, provider, model):
    """An answer that ends well and says nothing is one, and is paid for: the loop decides."""
    async with served(monkeypatch, provider, stream(*said(provider))):
        reply = await model.answer(HELLO)

    assert (reply.stop, reply.text, reply.tool_calls) == (StopReason.END, "", ())
    assert reply.usage.input_tokens == 17
    assert reply.usage.output_tokens == 20


async def test_a_refusal_without_a_word(monkeypatch, provider, model):
    """A refusal names its reason, in the provider's word, where the model says nothing."""
    async with served(monkeypatch, provider, stream(*said(provider, stop="filtered"))):
        reply = await model.answer(HELLO)

    word = STOPS[provider]["filtered"]
    assert (reply.stop, reply.detail, reply.text) == (StopReason.REFUSAL, word, word)
    assert Reply.from_json(reply.to_json(), reply.usage) == reply


async def test_a_blocked_prompt_keeps_its_word(monkeypatch):
    """What Gemini blocks says why in its word, beside what Google says about it."""
    feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "No owls."}
    async with served(monkeypatch, "google", stream({"promptFeedback": feedback})):
        reply = await Model(SETUPS["google"].model).answer(HELLO)

    assert (reply.detail, reply.text) == ("PROHIBITED_CONTENT", "No owls.")


async def test_stops_of_tomorrow(monkeypatch, provider, model):
    """An answer that stopped for an unknown reason is none; it may be tried again, and counts."""
    async with served(monkeypatch, provider, stream(*said(provider, "half an ans", stop="tired"))):
        error = await failure(model)

    assert type(error) is TransportFailed
    assert "'tired'" in str(error)
    assert error.usage.input_tokens == 17


@pytest.mark.parametrize("provider", ["groq", "openai-chat"])
@pytest.mark.parametrize(
    "finish, expected",
    [
        ("error", TransportFailed),
        ("abort", TransportFailed),
        ("network_error", TransportFailed),
        ("model_context_window_exceeded", ContextOverflow),
    ],
)
async def test_a_chat_that_broke(monkeypatch, provider, finish, expected):
    """A gateway's word for a model that broke is not the end of an answer."""
    async with served(monkeypatch, provider, stream(*chat_events("half", finish=finish))):
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is expected


@pytest.mark.parametrize("provider", ["groq", "openai-chat"])
@pytest.mark.parametrize(
    "finish, expected",
    [
        ("tool_calls", StopReason.END),
        ("eos_token", StopReason.END),
        ("model_length", StopReason.LENGTH),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("content_filter: SAFETY", StopReason.REFUSAL),
        ("sensitive", StopReason.REFUSAL),
    ],
)
async def test_stops_of_other_servers(monkeypatch, provider, finish, expected):
    """Servers of the chat protocol have words of their own for how an answer stopped."""
    async with served(monkeypatch, provider, stream(*chat_events("So.", finish=finish))):
        reply = await Model(SETUPS[provider].model).answer(HELLO)

    assert (reply.stop, reply.text) == (expected, "So.")


@pytest.mark.parametrize("details", [None, {"reason": "content_filter"}])
async def test_a_response_that_failed_without_an_error(monkeypatch, details):
    """A response that failed and names no error says so in words, and a filter is a refusal."""
    ended = {"status": "failed", "error": None, "incomplete_details": details}
    events = openai_events(ending="response.failed", **ended)
    async with served(monkeypatch, "openai", stream(*events)):
        model = Model(SETUPS["openai"].model)
        if details:
            reply = await model.answer(HELLO)
            assert (reply.stop, reply.detail) == (StopReason.REFUSAL, "content_filter")
        else:
            error = await failure(model)
            assert str(error) == f"{model.id} ended as 'failed' and gave no reason; ask again"


async def test_arguments_deeper_than_the_journal(monkeypatch, provider, model):
    """Arguments that are nested too deeply to be kept are malformed, not a run that stops."""
    deep = '{"query": ' * 300 + "1" + "}" * 300
    async with served(monkeypatch, provider, stream(*said(provider, "", ("a", "search", deep)))):
        reply = await model.answer(SEARCHING)

    assert reply.tool_calls[0].arguments == {}
    assert json.loads(reply.tool_calls[0].malformed) == json.loads(deep)


async def test_an_overload_in_the_last_chunk(monkeypatch):
    """An error that a gateway puts beside half an answer is what it says."""
    broken = {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "delta": {},
                "finish_reason": "error",
                "error": {"code": 503, "message": "Oh."},
            }
        ],
    }
    async with served(monkeypatch, "openai-chat", stream(*chat_events("half")[:2], broken, DONE)):
        error = await failure(Model(SETUPS["openai-chat"].model))

    assert type(error) is Overloaded
    assert error.usage is not None


async def test_a_call_whose_arguments_come_in_pieces(monkeypatch):
    """A call of Gemini's whose arguments came at paths is not made with its defaults."""
    pieces = [
        {"name": "search", "id": "a", "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.query", "stringValue": "ow"}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.query", "stringValue": "ls"}], "willContinue": True},
        {},
    ]
    events = gemini_events(*({"functionCall": piece} for piece in pieces))
    answers = stream(*events), stream(*complete("google"))
    async with served(monkeypatch, "google", *answers) as server:
        model = Model(SETUPS["google"].model)
        reply = await model.answer(SEARCHING)
        await model.answer(after(reply, ToolResult("a", "search", "not understood", True)))

    (call,) = reply.tool_calls
    assert (call.id, call.name, call.arguments) == ("a", "search", {})
    assert "stringValue" in (call.malformed or "")
    assert calls_told("google", server.bodies[1]) == [("a", {})]


@pytest.mark.parametrize("provider", ["groq", "openai-chat"])
async def test_a_second_answer(monkeypatch, provider):
    """Of several answers at once only the first counts: its words, its calls, its end."""
    events = said(provider, "One.", ("a", "search", '{"query": "owls"}'))
    call = {"index": 0, "id": "b", "function": {"name": "search", "arguments": "{}"}}
    other = {"index": 1, "delta": {"content": "Two.", "tool_calls": [call]}}
    ended = {"index": 1, "delta": {}, "finish_reason": "length"}
    events[1:1] = [{"id": "chatcmpl_1", "choices": [other]}, {"id": "c", "choices": [ended]}]
    async with served(monkeypatch, provider, stream(*events)):
        reply = await Model(SETUPS[provider].model).answer(SEARCHING)

    assert (reply.text, reply.stop) == ("One.", StopReason.TOOL_CALLS)
    assert [(call.id, call.arguments) for call in reply.tool_calls] == [("a", {"query": "owls"})]


async def test_a_pause_with_a_call_of_ours(monkeypatch):
    """A turn that Anthropic pauses while it calls a tool of ours is answered, not sent back."""
    events = anthropic_events(
        {"type": "tool_use", "id": "a", "name": "search", "input": '{"query": "owls"}'},
        stop="pause_turn",
    )
    async with served(monkeypatch, "anthropic", stream(*events)) as server:
        reply = await Model(SETUPS["anthropic"].model).answer(SEARCHING)

    assert len(server.bodies) == 1
    assert reply.stop is StopReason.TOOL_CALLS
    assert [call.arguments for call in reply.tool_calls] == [{"query": "owls"}]


ODD = {
    "none": None,
    "a number": 5,
    "true": True,
    "a fraction": 1.5,
    "a list": ["a"],
    "an object": {"a": 1},
}


@pytest.mark.parametrize("field", ["id", "name", "words"])
@pytest.mark.parametrize("odd", ODD)
async def test_a_field_of_another_type(monkeypatch, provider, model, field, odd):
    """What a server sends in the place of a text becomes a text, or the answer makes no sense.

    So a recorded reply is always read back, whatever its server has sent.
    """
    value: Any = ODD[odd]
    if field == "words":
        events = said(provider, "%words%")
    else:
        id, name = (value, "search") if field == "id" else ("call_1", value)
        events = said(provider, "", (id, name, '{"query": "owls"}'))
    told = json.loads(json.dumps(events).replace('"%words%"', json.dumps(value)))
    async with served(monkeypatch, provider, stream(*told)):
        try:
            reply = await model.answer(SEARCHING, limits=ModelLimits.on(OffsetClock()))
        except TransportFailed:
            return

    assert Reply.from_json(reply.to_json()).parts == reply.parts
    for call in reply.tool_calls:
        assert (type(call.id), type(call.name)) == (str, str)
        assert call.id
