"""Each rule of the table of mendings, with each provider: refused as it is, taken as it is mended.

The real SDKs, against a server that refuses what their provider does (`tests/strict`).
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from substrate.models import messages as m
from substrate.models.mending.mended import mends_of
from substrate.models.mending.rules import PROVIDERS, TABLE, Rule
from substrate.models.mending.takes import takes
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
from substrate.models.model import Model
from substrate.models.request import Request, ToolSpec
from substrate.values.errors import ModelError
from tests.llm_providers import SETUPS, calls_told, complete, served, told
from tests.llm_providers import said as said_by
from tests.llm_servers import Json, stream

README = Path("substrate/models/README.md")
HALF = "\ud83d"
ASKED = UserMessage.of("Search for owls")
SEARCH = ToolSpec("search", "Search.", {"type": "object", "properties": {"query": {}}})
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01"
WIDE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x30\x39\0\0\0\x01"

MODELS = {
    **{provider: setup.model.partition(":")[2] for provider, setup in SETUPS.items()},
    "groq": "llama-4-scout",
}


def model_of(provider: str, rule: Rule) -> str:
    """Return the name of a model that a rule is about."""
    if rule is Rule.NO_REPLY:
        return "mistral-large"
    return MODELS[provider]


def said(provider: str, *parts: Any, model: str = "") -> Reply:
    """Return a reply of this provider's model."""
    return Reply(tuple(parts), StopReason.END, provider, model or MODELS[provider])


SIGNED = {"thoughtSignature": "c2ln"}


def call(provider: str, id: str = "call_1a2b3", name: str = "search", **arguments: Any) -> ToolCall:
    """Return a call as this provider's model makes it."""
    native = SIGNED if provider == "google" else None
    return ToolCall(id, name, arguments, native=native)


def result(id: str = "call_1a2b3", name: str = "search", content: str = "Two.") -> ToolResult:
    """Return the result of a call."""
    return ToolResult(id, name, content)


def given(*results: ToolResult) -> ToolMessage:
    """Return results as a message."""
    return ToolMessage(results)


def asking(*messages: m.Message, tools: Sequence[ToolSpec] = (SEARCH,), **more: Any) -> Request:
    """Return a request with these messages."""
    return Request(more.pop("system", "Be brief."), messages, tools, **more)


def schema(parameters: Json) -> Request:
    """Return a request with a tool of these parameters."""
    return asking(ASKED, tools=[ToolSpec("search", "Search.", parameters)])


def thought(provider: str, of: str) -> Thinking:
    """Return thinking of a model, in the shape of its provider."""
    natives = {
        "anthropic": {"type": "thinking", "signature": f"of:{of}"},
        "google": {"thought": True, "thoughtSignature": f"of:{of}"},
        "groq": {"reasoning_content": "hm"},
        "openai": {"type": "reasoning", "id": "rs_1", "encrypted_content": f"of:{of}"},
        "openai-chat": {"reasoning_content": f"of:{of}"},
    }
    return Thinking("hm", native=natives[provider])


def turn(provider: str, *calls: ToolCall) -> Reply:
    """Return a reply that calls."""
    return said(provider, Text("I search."), *calls)


TWO = (("call_1a2b3", "search"), ("call_4c5d6", "find"))


def two(provider: str) -> Reply:
    """Return a reply with two calls."""
    return turn(provider, *(call(provider, *each) for each in TWO))


def unanswered(provider: str) -> Request:
    return asking(ASKED, turn(provider, call(provider)), UserMessage.of("Well?"))


def displaced(provider: str) -> Request:
    second, first = given(result("call_4c5d6", "find")), given(result())
    return asking(ASKED, two(provider), UserMessage.of("Well?"), second, first)


def many_pictures(provider: str) -> Request:
    most = takes(provider, MODELS[provider]).most_pictures or 0
    return asking(UserMessage((Text("Look"), *[Image(PNG)] * (most + 1))))


def many_tools(provider: str) -> Request:
    most = takes(provider, MODELS[provider]).most_tools or 0
    return asking(ASKED, tools=[replace(SEARCH, name=f"search_{i}") for i in range(most + 1)])


def unseen(provider: str) -> Request:
    return asking(UserMessage((Text("Look"), Image(b"II*\0", "image/tiff"))))


def deep(levels: int) -> Json:
    return {"type": "object", "properties": {"a": deep(levels - 1)}} if levels else {}


def misnamed(provider: str) -> Request:
    return asking(ASKED, turn(provider, call(provider)), given(result(name="find")))


SAME = ToolMessage((result("same", content="1"), result("same", content="2")))
TREE = {
    "type": "object",
    "properties": {"tree": {"$ref": "#/$defs/Tree", "description": "The root."}},
    "$defs": {"Tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}}},
}
CUT = {
    "anthropic": Thinking("hm", native={"type": "thinking", "signature": ""}),
    "openai": Thinking("", native={"type": "reasoning", "id": "rs_1", "encrypted_content": None}),
}
SEARCHING = Thinking(
    "", native={"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
)
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}

CASES: Mapping[Rule, Callable[[str], Request]] = {
    Rule.HALF: lambda p: asking(UserMessage.of(f"broken {HALF}")),
    Rule.NUL: lambda p: asking(UserMessage.of("broken \0")),
    Rule.NO_NUMBER: lambda p: asking(ASKED, settings={"temperature": float("nan")}),
    Rule.BLANK: lambda p: asking(UserMessage((Text(" \n"), Image(PNG)))),
    Rule.BLANK_SYSTEM: lambda p: asking(ASKED, system=" \n"),
    Rule.NOTHING: lambda p: asking(ASKED, said(p, Text("So.")), UserMessage(())),
    Rule.NO_MESSAGE: lambda p: asking(),
    Rule.BEGINS: lambda p: asking(said(p, Text("So.")), ASKED),
    Rule.ENDS: lambda p: asking(ASKED, said(p, Text("So."))),
    Rule.TWO_REPLIES: lambda p: asking(ASKED, said(p, Text("So.")), said(p, Text("So.")), ASKED),
    Rule.TWO_USERS: lambda p: asking(ASKED, ASKED),
    Rule.NO_REPLY: lambda p: asking(
        ASKED,
        said(p, call(p, "a1b2c3d4e"), model="mistral-large"),
        given(result("a1b2c3d4e")),
        UserMessage.of("Be quick."),
    ),
    Rule.UNANSWERED: unanswered,
    Rule.UNASKED: lambda p: asking(ASKED, said(p, Text("So.")), given(result())),
    Rule.DISPLACED: displaced,
    Rule.MISNAMED: misnamed,
    Rule.SAME_ID: lambda p: asking(ASKED, turn(p, call(p, "same"), call(p, "same")), SAME),
    Rule.BAD_ID: lambda p: asking(
        ASKED, turn(p, call(p, "x" * 70 + "!")), given(result("x" * 70 + "!"))
    ),
    Rule.FOREIGN: lambda p: asking(
        ASKED, said(p, thought(p, "other"), Text("So."), model="other"), ASKED
    ),
    Rule.CUT: lambda p: asking(ASKED, said(p, CUT[p], Text("So.")), ASKED),
    Rule.LAST: lambda p: asking(ASKED, said(p, thought(p, MODELS[p])), ASKED),
    Rule.SEARCH: lambda p: asking(ASKED, said(p, SEARCHING, Text("So.")), ASKED),
    Rule.UNSIGNED: lambda p: asking(
        ASKED, said("openai", ToolCall("a", "search")), given(result("a"))
    ),
    Rule.UNTHOUGHT: lambda p: asking(ASKED, turn(p, call(p)), given(result()), settings=THINKS),
    Rule.NAME: lambda p: asking(ASKED, tools=[replace(SEARCH, name="über.suche")]),
    Rule.SAME_NAME: lambda p: asking(ASKED, tools=[SEARCH, SEARCH]),
    Rule.MANY_TOOLS: many_tools,
    Rule.NO_TOOLS: lambda p: asking(ASKED, turn(p, call(p)), given(result()), tools=()),
    Rule.LONG: lambda p: asking(ASKED, tools=[replace(SEARCH, description="owls " * 300)]),
    Rule.KEY: lambda p: schema({"type": "object", "properties": {"größe[]": {"type": "string"}}}),
    Rule.DIALECT: lambda p: schema(
        {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": True}}}
    ),
    Rule.ROOT: lambda p: schema({"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
    Rule.UNSAID: lambda p: schema({"type": "object", "properties": {"a": {"type": "array"}}}),
    Rule.REFERENCE: lambda p: schema(TREE),
    Rule.KEYWORD: lambda p: schema({"type": "object", "properties": {"a": {"multipleOf": 2}}}),
    Rule.DEEP: lambda p: schema(deep(40)),
    Rule.EMPTY: lambda p: asking(UserMessage((Text("Look"), Image(b"")))),
    Rule.MISTYPED: lambda p: asking(
        UserMessage((Text("Look"), Image(b"\xff\xd8\xff", "image/png")))
    ),
    Rule.UNSEEN: unseen,
    Rule.UNREAD: lambda p: asking(UserMessage((Text("Read"), Document(b"x", "video/mp4")))),
    Rule.IN_WORDS: lambda p: asking(
        UserMessage((Text("Read"), Document(b"{}", "application/json")))
    ),
    Rule.MANY_PICTURES: many_pictures,
}
"""A request, of each provider's own making, to which nothing is wrong but this."""

PAIRS = [
    (rule, provider) for rule in CASES for provider in PROVIDERS if TABLE[rule].is_for(provider)
]


@pytest.mark.parametrize("rule, provider", PAIRS, ids=lambda each: str(each).replace(" ", "_"))
async def test_each_rule(monkeypatch, rule, provider):
    """A request is refused as it is by who refuses it, and taken by all when it is mended."""
    row, name = TABLE[rule], model_of(provider, rule)
    model, request = Model(f"{provider}:{name}"), CASES[rule](provider)
    record = request.messages, request.tools, request.settings
    kept = repr(record)
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        refused = await _as_it_is(model, request)
        assert (refused is not None) == (provider in row.refused_by), refused
        server.bodies.clear()
        reply = await _answer(model, request, server)

    assert reply.text == "So."
    assert rule in [each.rule for each in mends_of(request, takes(provider, name))]
    assert len(server.bodies) == 1
    assert repr(record) == kept


async def _as_it_is(model: Model, request: Request) -> ModelError | None:
    """Return the refusal of a request that is sent as it is; None where it is taken."""
    adapter = await model.adapter()
    try:
        await adapter.answer(model.name, request, lambda text: None)
    except ModelError as error:  # of the server, or of the SDK, which could not write it
        return error
    return None


async def _answer(model: Model, request: Request, server: Any) -> Reply:
    """Return the reply to a mended request; the one answer may have gone to the one that is not."""
    if not server.answers:
        server.answers.append(stream(*complete(model.provider)))
    return await model.answer(request)


def test_a_row_has_a_case():
    """Each rule has a row in the table, and a case here but for one that no adapter can send."""
    assert set(TABLE) == set(Rule)
    assert set(Rule) - set(CASES) == {Rule.NO_OBJECT}
    assert not TABLE[Rule.NO_OBJECT].refused_by


def test_the_table_is_written_down():
    """The table of `substrate/models/README.md` is that of the code."""
    text = README.read_text()

    for rule, row in TABLE.items():
        marks = [
            "●" if each in row.refused_by else "○" if row.is_for_all else "" for each in PROVIDERS
        ]
        assert f"| {rule.value} | {row.done} | {' | '.join(marks)} |" in text


async def test_arguments_that_are_no_object(monkeypatch):
    """Arguments that are no object are sent as one, to everybody."""
    broken = ToolCall("call_1a2b3", "search", malformed="[1")
    for provider in PROVIDERS:
        request = asking(ASKED, turn(provider, broken), given(result()))
        async with served(monkeypatch, provider, stream(*complete(provider))):
            await Model(f"{provider}:{MODELS[provider]}").answer(request)
        found = [each.rule for each in mends_of(request, takes(provider, MODELS[provider]))]
        assert Rule.NO_OBJECT in found


@pytest.mark.parametrize(
    "provider, picture",
    [
        ("anthropic", Image(PNG + b"\0" * 4_000_000)),
        ("anthropic", Image(WIDE)),
        ("google", Image(b"GIF89a", "image/gif")),
        ("groq", Image(PNG + b"\0" * 3_200_000)),
    ],
)
async def test_pictures_that_are_not_taken(monkeypatch, provider, picture):
    """A picture that is too large, or of a type that is taken elsewhere, is said in words."""
    model, request = Model(f"{provider}:{MODELS[provider]}"), asking(UserMessage((picture,)))
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        assert await _as_it_is(model, request) is not None
        await model.answer(request)

    assert "that cannot be shown" in str(server.bodies[1])
    assert base64.b64encode(picture.data).decode() not in str(server.bodies[1])


async def test_a_model_that_sees_nothing(monkeypatch):
    """A picture for a model that is known to see nothing is said in words."""
    model, request = Model(SETUPS["groq"].model), asking(UserMessage((Text("Look"), Image(PNG))))
    async with served(monkeypatch, "groq", stream(*complete("groq"))) as server:
        assert "must be a string" in str(await _as_it_is(model, request))
        await model.answer(request)

    assert "this model sees none" in server.bodies[1]["messages"][1]["content"]


ODD = ToolSpec(
    "such.über",
    "Search.",
    {"type": "object", "properties": {"größe": {}, "gr__e": {}}, "required": ["größe"]},
)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_a_tool_is_called_comes_back(monkeypatch, provider):
    """A tool that is sent under another name is called by its own, and so are its arguments."""
    request = asking(ASKED, tools=[replace(ODD, name="such__ber"), ODD])
    key = "gr__e_2" if provider == "anthropic" else "größe"
    events = said_by(provider, "", ("call_1a2b3", "such__ber_2", f'{{"{key}": 1, "gr__e": 2}}'))
    answers = stream(*events), stream(*complete(provider))
    model = Model(f"{provider}:{MODELS[provider]}")
    async with served(monkeypatch, provider, *answers) as server:
        reply = await model.answer(request)
        again = replace(request, messages=[ASKED, reply, given(result(name=ODD.name))])
        await model.answer(again)

    (made,) = reply.tool_calls
    assert (made.name, made.arguments) == (ODD.name, {"größe": 1, "gr__e": 2})
    assert "such__ber_2" in str(told(provider, server.bodies[1]))
    ((_, arguments),) = calls_told(provider, server.bodies[1])
    assert arguments == {key: 1, "gr__e": 2}
