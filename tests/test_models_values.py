"""What is kept of a model call comes back the same, and the same request has the same digest."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from substrate.models.frame import canonical, frame
from substrate.models.mending.rules import VERSION
from substrate.models.messages import (
    Document,
    Image,
    Message,
    Reply,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
    message_from_json,
)
from substrate.models.model import Model
from substrate.models.request import Request, ToolSpec
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import BadRequest, Misuse

words = some.text(max_size=8)
json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | words,
    lambda each: some.lists(each, max_size=3) | some.dictionaries(words, each, max_size=3),
    max_leaves=5,
)
natives = some.none() | some.dictionaries(words, json_values, max_size=3)
objects = some.dictionaries(words, json_values, max_size=3)
texts = some.builds(Text, words, natives)
reply_parts = (
    texts
    | some.builds(Thinking, words, natives)
    | some.builds(ToolCall, words, words, objects, some.none() | words, natives)
)
user_parts = (
    texts
    | some.builds(Image, some.binary(max_size=8), words)
    | some.builds(Document, some.binary(max_size=8), words, some.none() | words)
)
counts = some.integers(0, 10**9)
costs = some.none() | some.decimals(min_value=0, allow_nan=False, allow_infinity=False)
usages = some.builds(Usage, counts, counts, counts, counts, counts, costs)
replies = some.builds(
    Reply,
    some.lists(reply_parts, max_size=4).map(tuple),
    some.sampled_from(StopReason),
    words,
    words,
    usages,
    some.none() | words,
)
messages = (
    replies
    | some.builds(UserMessage, some.lists(user_parts, max_size=3).map(tuple))
    | some.builds(
        ToolMessage,
        some.lists(some.builds(ToolResult, words, words, words, some.booleans()), max_size=3).map(
            tuple
        ),
    )
)


@given(replies)
def test_replies_come_back(reply: Reply):
    """A reply and its usage come back from the journal as they were, native parts too."""
    record, cost = decode(encode(reply.to_json())), decode(encode(reply.usage.to_json()))

    assert Reply.from_json(record, Usage.from_json(cost)) == reply


@given(messages)
def test_messages_come_back(message: Message):
    """Any message comes back as it was, files byte for byte, a reply without its usage."""
    back = message_from_json(decode(encode(message.to_json())))

    expected = replace(message, usage=Usage()) if isinstance(message, Reply) else message
    assert back == expected


def test_record_is_plain():
    """The record of a message can be read with SQL: plain names, base64, no empty fields."""
    reply = Reply((Text("So."), ToolCall("a", "f", {"x": 1})), StopReason.TOOL_CALLS, "p", "m")

    assert reply.to_json() == {
        "role": "assistant",
        "parts": [
            {"type": "text", "text": "So."},
            {"type": "tool_call", "id": "a", "name": "f", "arguments": {"x": 1}},
        ],
        "stop": "tool_calls",
        "provider": "p",
        "model": "m",
        "response_id": None,
    }
    assert UserMessage((Image(b"png"),)).to_json()["parts"][0]["data"] == "cG5n"
    assert Usage(1, cost_usd=Decimal("0.10")).to_json()["cost_usd"] == "0.10"


@pytest.mark.parametrize(
    "record", [{"role": "robot"}, {"role": "user", "parts": [{"type": "smell"}]}]
)
def test_unknown_records(record):
    """A record of a later version is refused by name."""
    with pytest.raises(ValueError, match=r"'(robot|smell)' is a .* update the kit"):
        message_from_json(record)


@given(usages, usages)
def test_usage_adds_up(one: Usage, other: Usage):
    """Usage adds up count by count, and an unknown cost stays unknown."""
    both = one + other

    assert both.input_tokens == one.input_tokens + other.input_tokens
    assert both.reasoning_tokens == one.reasoning_tokens + other.reasoning_tokens
    assert (both.cost_usd is None) == (one.cost_usd is None or other.cost_usd is None)


@given(some.dictionaries(words, some.none() | some.booleans() | some.integers() | words))
def test_arguments_are_read(arguments):
    """Arguments that are a JSON object are read as that object."""
    assert ToolCall.read("a", "f", json.dumps(arguments)).arguments == arguments


@pytest.mark.parametrize(
    "text", ["{", '{"a": ', "[1]", "7", "null", '"{}"', '{"a": NaN}', "[" * 10**5, " "]
)
def test_arguments_that_are_none(text):
    """Arguments that are no JSON object are kept as the model wrote them."""
    read = ToolCall.read("a", "f", text)

    assert (read.arguments, read.malformed) == ({}, text)


def test_no_arguments():
    """No text at all is a call without arguments."""
    assert ToolCall.read("a", "f", "") == ToolCall("a", "f")


SPEC = ToolSpec("f", "Does it.", {"type": "object", "properties": {}})
ASKED = Request("Be brief.", [UserMessage.of("Hello")], [SPEC], 99, {"effort": "low"})


def test_frame():
    """The frame is everything but the messages, so it is the same for every turn of a run."""
    later = replace(ASKED, messages=[*ASKED.messages, UserMessage.of("More")])

    assert frame("p:m", ASKED) == frame("p:m", later)
    assert frame("p:m", ASKED) == {
        "system": "Be brief.",
        "tools": [{"name": "f", "description": "Does it.", "parameters": SPEC.parameters}],
        "model": "p:m",
        "max_output_tokens": 99,
        "settings": {"effort": "low"},
        "mending": VERSION,
    }


@given(some.lists(messages, max_size=3))
def test_canonical_is_stable(said):
    """A request whose messages went through the journal has the digest that it had before."""
    request = replace(ASKED, messages=said)
    journal = [message_from_json(decode(encode(message.to_json()))) for message in said]

    assert fingerprint(canonical(replace(request, messages=journal))) == fingerprint(
        canonical(request)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Be long."},
        {"messages": [UserMessage.of("Goodbye")]},
        {"tools": []},
        {"max_output_tokens": 98},
        {"settings": {"effort": "high"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_canonical_tells_requests_apart(change):
    """Whatever the provider is told differently makes another digest."""
    assert canonical(replace(ASKED, **change)) != canonical(ASKED)


def test_patience_is_not_told():
    """How long we wait for an answer is ours: it is neither sent nor part of the digest."""
    patient = replace(ASKED, settings={**ASKED.settings, "read_timeout": 600})

    assert patient.read_timeout_s == 600.0
    assert patient.parameters == {"effort": "low"}
    assert canonical(patient) == canonical(ASKED)


@pytest.mark.parametrize(
    "id, problem",
    [
        ("claude", "write provider:name"),
        ("openai:", "write provider:name"),
        ("opne:x", "no provider"),
    ],
)
def test_model_names(id, problem):
    """A wrong name is found when the model is made."""
    with pytest.raises(Misuse, match=problem):
        Model(id)


@pytest.mark.parametrize("seconds", [0, -1, "60", None, float("inf"), float("nan")])
def test_read_timeout_is_checked(seconds):
    """A read timeout that cannot be waited for is found when the model is made."""
    with pytest.raises(Misuse, match="read_timeout"):
        Model("openai:x", settings={"read_timeout": seconds})


def test_request_takes_the_models_parameters():
    """The request that a model makes has its settings and its longest output."""
    model = Model("openai:x", max_output_tokens=7, settings={"effort": "low"})

    assert model.request("Be brief.", ASKED.messages, [SPEC]) == replace(ASKED, max_output_tokens=7)


async def test_missing_key(monkeypatch):
    """Without its key a model says which variable to set; with an offline one it answers."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stand_in = Model("scripted:x", script=["So."])

    with pytest.raises(BadRequest, match="OPENAI_API_KEY is not set"):
        await Model("openai:x").answer(ASKED)
    reply = await Model("openai:x", offline=stand_in).answer(ASKED)

    assert reply.made_by("scripted", "x")
