"""Whatever was said can be said again: a mended request is one that every provider takes."""

import gc
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from substrate.models.mending.mended import mended, mends_of
from substrate.models.mending.order import BEGINNING, GO_ON, NO_RESULT
from substrate.models.mending.sound import sound_for
from substrate.models.mending.takes import takes
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
    UserMessage,
)
from substrate.models.providers.anthropic import request as anthropic
from substrate.models.providers.chat import request as chat
from substrate.models.providers.chat.request import Server
from substrate.models.providers.google import request as google
from substrate.models.providers.openai import request as openai
from substrate.models.request import Request, ToolSpec
from substrate.values.errors import BadRequest
from tests.strict import check

CHAT = Server("openai-chat", limit="max_tokens", takes_formats=True)
GROQ = Server("groq", limit="max_completion_tokens", takes_formats=False)
BODIES = {
    "anthropic": anthropic.body_of,
    "google": google.body_of,
    "groq": lambda model, request: chat.body_of(GROQ, model, request),
    "openai": openai.body_of,
    "openai-chat": lambda model, request: chat.body_of(CHAT, model, request),
}
ANY = takes("anthropic", "m")
MODELS = [
    *((provider, "m") for provider in BODIES),
    ("google", "gemini-2.5-flash"),
    ("groq", "openai/gpt-oss-120b"),
    ("openai-chat", "mistral-small"),
]
MAKERS = [*MODELS, ("scripted", "x"), ("anthropic", "other")]

WORDS = st.one_of(
    st.sampled_from(["", " \n", "So.", "\ud83d", "\ud83d\ude00", "漢字", "\0", "a\0b"]),
    st.text(st.characters(exclude_categories=[]), max_size=8),
)
NAMES = st.one_of(st.sampled_from(["search", "a.b", "a_b", "", "x" * 70, "1st", "größe"]), WORDS)
IDS = st.sampled_from(["same", "same_2", "a.b", "a_b", "", "\ud83d", "call_0_0", "x" * 70])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2))
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=2)
WRITTEN = st.sampled_from(["", '{"a": 1, "b"', '{"a": 1}', "[1]"])

SEARCHED = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
NATIVES = {
    "anthropic": [
        {"type": "thinking", "signature": "s"},
        {"type": "thinking", "signature": ""},
        {"type": "redacted_thinking", "data": "x"},
        SEARCHED,
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    ],
    "openai": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
    ],
    "google": [{"thought": True}, {"thought": True, "thoughtSignature": "x"}],
    "groq": [{"reasoning": "hm"}, {"reasoning_content": "hm"}],
    "openai-chat": [{"reasoning": "hm"}, {"reasoning_content": "\0"}],
}


@st.composite
def replies(draw) -> Reply:
    """Make a reply of any model, with the parts that only it understands."""
    provider, model = draw(st.sampled_from(MAKERS))
    natives = st.sampled_from(NATIVES.get(provider, [None]))
    part = st.one_of(
        st.builds(Text, WORDS),
        st.builds(Thinking, WORDS, natives),
        st.builds(ToolCall, IDS, NAMES, OBJECTS),
        st.builds(ToolCall, IDS, NAMES, malformed=WRITTEN),
    )
    parts = draw(st.lists(part, max_size=4))
    return Reply(tuple(parts), draw(st.sampled_from(StopReason)), provider, model)


PICTURES = st.sampled_from(
    ["image/png", "image/gif", "image/heic", "image/tiff", "application/pdf"]
)
FILES = st.sampled_from(
    ["application/pdf", "text/plain", "text/csv", "application/json", "video/mp4"]
)
USERS = st.builds(
    lambda parts: UserMessage(tuple(parts)),
    st.lists(
        st.one_of(
            st.builds(Text, WORDS),
            st.builds(Image, st.sampled_from([b"", b"png", b"\xff\xd8\xff", b"II*\0"]), PICTURES),
            st.builds(
                Document, st.sampled_from([b"", b"pdf", b"\0\xff"]), FILES, st.none() | WORDS
            ),
        ),
        max_size=2,
    ),
)
RESULTS = st.builds(
    lambda results: ToolMessage(tuple(results)),
    st.lists(st.builds(ToolResult, IDS, NAMES, WORDS, st.booleans()), max_size=3),
)
TRANSCRIPTS = st.lists(st.one_of(USERS, replies(), RESULTS), max_size=8)

KEYWORDS = st.sampled_from(
    [
        *("type", "properties", "items", "anyOf", "allOf", "oneOf", "$ref", "required", "enum"),
        *("const", "format", "minimum", "exclusiveMinimum", "additionalProperties", "prefixItems"),
        *("not", "pattern", "description", "$schema", "default", "dependencies", "definitions"),
        *("$defs", "title", "minItems", "uniqueItems", "x-own"),
    ]
)
REFS = st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "https://x.org/s", "#/no"])
KINDS = st.sampled_from(["object", "array", "string", "STRING", "any", "integer"])
SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.builds(lambda ref: {"$ref": ref}, REFS),
        st.builds(lambda kind: {"type": kind}, KINDS),
        LEAVES,
    ),
    lambda inner: st.one_of(
        st.dictionaries(KEYWORDS, st.one_of(inner, KINDS, REFS, st.lists(inner, max_size=2))),
        st.builds(lambda each: {"properties": each}, st.dictionaries(NAMES, inner, max_size=2)),
        st.builds(
            lambda each, ref: {"$defs": each, "properties": {"a": {"$ref": ref, "title": "x"}}},
            st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            REFS,
        ),
        st.builds(lambda each: {"type": "array", "prefixItems": each}, st.lists(inner, max_size=2)),
    ),
    max_leaves=8,
).filter(lambda made: isinstance(made, dict))
TOOLS = st.lists(st.builds(ToolSpec, NAMES, WORDS, SCHEMAS), max_size=3)
SPEC = ToolSpec("search", "\ud83d", {"type": "object", "description": "\ud83d"})


@pytest.mark.parametrize("provider, model", MODELS)
@settings(max_examples=60, deadline=None)
@given(TRANSCRIPTS, TOOLS, WORDS)
def test_any_transcript_can_be_sent(provider, model, messages, tools, system):
    """Any transcript of any replies, with any tools, becomes a request that its provider takes."""
    to, request = (
        takes(provider, model),
        Request(system, messages, tools, settings={"user": system}),
    )
    before = repr(request)

    sent = mended(request, to)

    check(provider, BODIES[provider](model, sent), model)
    assert repr(request) == before


@pytest.mark.parametrize("provider, model", MODELS)
@settings(max_examples=30, deadline=None)
@given(TRANSCRIPTS, TOOLS, WORDS)
def test_mended_once_is_mended(provider, model, messages, tools, system):
    """What is mended needs no more mending, says so, and comes back as the object that it is."""
    to, request = takes(provider, model), Request(system, messages, tools)

    once = mended(request, to)

    assert mended(once, to) is once
    assert mends_of(once, to) == []
    assert bool(mends_of(request, to)) == (once != request)


@pytest.mark.parametrize("provider, model", MODELS)
@settings(max_examples=20, deadline=None)
@given(TRANSCRIPTS, TOOLS)
def test_replayed_it_is_mended_alike(provider, model, messages, tools):
    """The same transcript is mended the same in another process, from the journal's record."""
    to, again = takes(provider, model), [_reread(message) for message in messages]
    noted: list[Any] = []

    sent = mended(Request("", messages, tools), to)

    assert mended(Request("", again, tools), to) == sent
    assert mended(Request("", again, tools), to, lambda *each: noted.append(each)) == sent


def _reread(message: Message) -> Message:
    return type(message).from_json(message.to_json())


@settings(max_examples=100, deadline=None)
@given(TRANSCRIPTS, TRANSCRIPTS)
def test_what_was_sent_is_sent_alike(first, more):
    """A transcript that goes on begins as it was sent before, but for its last turn."""
    before = mended(Request("", first), ANY).messages
    after = mended(Request("", [*first, *more]), ANY).messages
    sure = max((i for i, each in enumerate(before) if isinstance(each, Reply)), default=0)

    assert after[:sure] == before[:sure]


def test_nothing_to_mend():
    """A request to which nothing is wrong is the one that is sent."""
    call = ToolCall("a", "search", {"query": "漢字"})
    messages = [
        UserMessage.of("Hello"),
        Reply((Text("I search."), call), StopReason.TOOL_CALLS, "openai", "m"),
        ToolMessage((ToolResult("a", "search", ""),)),
        UserMessage.of("Be quick."),
    ]
    tool = replace(SPEC, description="", parameters={"type": "object", "properties": {}})
    request = Request("Be brief.", messages, [tool])

    assert all(mended(request, takes(each, "x")) is request for each in ("anthropic", "openai"))


ASKED = UserMessage.of("Hello")
CALLS = Reply((ToolCall("a", "f"), ToolCall("b", "g")), StopReason.TOOL_CALLS, "x", "y")
A, B = ToolResult("a", "f", "1"), ToolResult("b", "g", "2")
NONE = ToolResult("b", "g", NO_RESULT, is_error=True)
SAID = Reply((Text("So."),), StopReason.END, "x", "y")
MUTE = Reply((), StopReason.END, "x", "y")


@pytest.mark.parametrize(
    "messages, expected",
    [
        ([], [UserMessage((BEGINNING,))]),
        ([SAID, ASKED], [UserMessage((BEGINNING,)), SAID, ASKED]),
        ([ASKED, SAID], [ASKED, SAID, UserMessage((GO_ON,))]),
        ([ASKED, SAID, SAID, ASKED], [ASKED, SAID, UserMessage((GO_ON,)), SAID, ASKED]),
        ([ASKED, MUTE, ASKED], [UserMessage((*ASKED.parts, *ASKED.parts))]),
        ([ASKED, CALLS, ToolMessage((B, A))], [ASKED, CALLS, ToolMessage((A, B))]),
        ([ASKED, CALLS, ToolMessage((A,))], [ASKED, CALLS, ToolMessage((A, NONE))]),
        (
            [ASKED, CALLS, ToolMessage((A,)), ASKED, ToolMessage((B,))],
            [ASKED, CALLS, ToolMessage((A, B)), ASKED],
        ),
        (
            [ASKED, ToolMessage((A,))],
            [UserMessage((Text("(From f, whose call is not shown:)\n1"), *ASKED.parts))],
        ),
    ],
)
def test_who_speaks_after_whom(messages, expected):
    """Turns that are missing, doubled or displaced are put right, and nothing said is lost."""
    assert list(mended(Request("", messages), ANY).messages) == expected


def test_complete_arguments_of_a_cut_reply_go_back():
    """A call that was not made goes back as it was meant, where it was whole."""
    parts = (ToolCall("a", "f", malformed='{"q": 1}'), ToolCall("b", "g", malformed='{"q": 1, "'))
    cut = Reply(parts, StopReason.LENGTH, "x", "y")

    (reply,) = [m for m in mended(Request("", [ASKED, cut]), ANY).messages if isinstance(m, Reply)]

    assert [call.arguments for call in reply.tool_calls] == [{"q": 1}, {}]


def test_what_contains_itself():
    """A setting that contains itself is the caller's mistake, and said to be."""
    endless: dict[str, Any] = {}
    endless["again"] = endless

    with pytest.raises(BadRequest, match="contains itself"):
        mended(Request("", [ASKED], settings={"metadata": endless}), ANY)


def test_many_calls_under_one_id_take_no_time():
    """A reply of thousands of calls under one id is mended in a moment, each with its result."""
    many = 5000
    calls = tuple(ToolCall("same", "f") for _ in range(many))
    results = tuple(ToolResult("same", "f", str(i)) for i in range(2 * many))
    reply = Reply(calls, StopReason.TOOL_CALLS, "x", "y")
    request = Request("", [ASKED, reply, ToolMessage(results)])

    messages = mended(request, ANY).messages
    took_s = _seconds(lambda: mended(request, ANY))

    given = messages[2]
    assert isinstance(given, ToolMessage)
    assert [each.content for each in given.results] == [str(i) for i in range(many)]
    assert took_s < 1


def test_what_is_remembered_of_messages_goes_with_them():
    """A message that is gone leaves nothing behind."""
    gc.collect()
    before = len(sound_for(ANY))
    messages = [UserMessage.of(f"\ud83d {i}") for i in range(50)]
    mended(Request("", messages), ANY)
    grown = len(sound_for(ANY))

    messages.clear()
    gc.collect()

    assert (grown, len(sound_for(ANY))) == (before + 50, before)


def test_a_long_transcript_is_looked_at_quickly():
    """Mending costs less than writing the request down, at a thousand turns too."""
    messages: list[Message] = [ASKED]
    for i in range(1000):
        call = ToolCall(f"call_{i}", "search", {"query": "漢字 " * 100})
        messages += [
            Reply((Text("I search."), call), StopReason.TOOL_CALLS, "x", "y"),
            ToolMessage((ToolResult(call.id, "search", "é" * 2000),)),
        ]
    request = Request("Be brief.", messages, [SPEC])
    mended(request, ANY)

    took_s = min(_seconds(lambda: mended(request, ANY)) for _ in range(5))
    written_s = min(_seconds(lambda: json.dumps(anthropic.body_of("m", request))) for _ in range(5))

    assert took_s < written_s


def _seconds(do) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun
