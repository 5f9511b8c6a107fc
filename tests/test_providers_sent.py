"""What is sent can be sent: texts, ids, arguments, roles; and to nobody who was not named."""

import json
from dataclasses import replace

import pytest

from substrate.models.messages import (
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
from substrate.models.providers.anthropic.request import LONGEST_OUTPUT
from substrate.models.request import Request
from substrate.values.errors import (
    BadRequest,
)
from tests.llm_providers import (
    HELLO,
    SEARCH,
    SEARCHING,
    SETUPS,
    after,
    calls_told,
    complete,
    failure,
    results_told,
    said,
    served,
    told,
)
from tests.llm_servers import (
    anthropic_events,
    chat_events,
    refusal,
    stream,
)

HALF = "\ud83d"
WHOLE = "\U0001f600"


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


@pytest.fixture
def model(provider) -> Model:
    """Return the provider's model."""
    return Model(SETUPS[provider].model)


async def test_half_a_character_is_sent(monkeypatch, provider, model):
    """A text with half a character is sent, whole or with a mark, wherever it stands."""
    tool = replace(SEARCH, description=HALF, parameters={"type": "object", "description": HALF})
    reply = Reply(
        (Text(f"So {HALF}"), ToolCall("a", "search", {HALF: [HALF]})),
        StopReason.TOOL_CALLS,
        *("scripted", "x"),
    )
    results = (ToolResult("a", "search", f"broken {HALF} and \ud83d\ude00"),)
    asked = UserMessage((Text(HALF),))
    request = Request(f"Be {HALF}", [asked, reply, ToolMessage(results)], [tool], 9, {"user": HALF})
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(request)

    ((_, words),) = results_told(provider, server.bodies[0])
    assert words == f"broken \ufffd and {WHOLE}"
    assert calls_told(provider, server.bodies[0])[0][1] == {"\ufffd": ["\ufffd"]}
    assert '\\ud83d"' not in json.dumps(server.bodies[0])


async def test_halves_that_come_apart(monkeypatch, provider, model):
    """A character whose halves come in two pieces is whole in the reply."""
    events = json.loads(
        json.dumps(complete(provider, "owl\u0001\u0002."))
        .replace("\\u0001", HALF)
        .replace("\\u0002", "\ude00")
    )
    async with served(monkeypatch, provider, stream(*events)):
        reply = await model.answer(HELLO)

    assert reply.text == f"owl{WHOLE}."


async def test_the_models_own_script(monkeypatch, provider, model):
    """Arguments go back in the script in which they were written."""
    events = said(provider, "", ("a", "search", '{"query": "漢字"}'))
    async with served(
        monkeypatch, provider, stream(*events), stream(*complete(provider))
    ) as server:
        reply = await model.answer(SEARCHING)
        await model.answer(after(reply, ToolResult("a", "search", "1")))

    assert "\\\\u" not in json.dumps(server.bodies[1])
    assert calls_told(provider, server.bodies[1])[0][1] == {"query": "漢字"}


async def test_calls_under_one_id(monkeypatch, provider, model):
    """Calls that came under one id go back under an id each, with the result of each."""
    calls = [("same", "search", json.dumps({"query": each})) for each in ("owls", "bats", "newts")]
    events = said(provider, "", *calls)
    async with served(
        monkeypatch, provider, stream(*events), stream(*complete(provider))
    ) as server:
        reply = await model.answer(SEARCHING)
        results = [
            ToolResult(each.id, each.name, each.arguments["query"]) for each in reply.tool_calls
        ]
        await model.answer(after(reply, *results))

    sent, given = (tell(provider, server.bodies[1]) for tell in (calls_told, results_told))
    assert [id for id, _ in sent] == [id for id, _ in given] == ["same", "same_2", "same_3"]
    assert [arguments["query"] for _, arguments in sent] == [words for _, words in given]


async def test_roles_alternate(monkeypatch, provider, model):
    """Messages of the user that follow each other are sent as one."""
    reply = Reply((ToolCall("a", "search"),), StopReason.TOOL_CALLS, provider, model.name)
    messages = [
        UserMessage.of("Hello"),
        UserMessage.of("there"),
        reply,
        ToolMessage((ToolResult("a", "search", "1"),)),
        UserMessage.of("Be quick."),
        UserMessage.of("Little is left."),
    ]
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(Request("", messages, [SEARCH]))

    roles = [each.get("role") or each["type"] for each in told(provider, server.bodies[0])]
    expected = {
        "anthropic": ["user", "assistant", "user"],
        "google": ["user", "model", "user"],
        "openai": ["user", "function_call", "function_call_output", "user"],
    }
    assert roles == expected.get(provider, ["user", "assistant", "tool", "user"])
    assert "Little is left." in json.dumps(told(provider, server.bodies[0])[-1])


async def test_white_space_is_no_question(monkeypatch, provider, model):
    """Words that are only white space are not sent, of the user's and of the system's."""
    messages = [UserMessage((Text(" \n"), Text("Hello"))), UserMessage.of("  ")]
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(Request(" ", messages))

    (message,) = told(provider, server.bodies[0])
    assert "Hello" in json.dumps(message)
    assert not {"system", "instructions", "systemInstruction"} & server.bodies[0].keys()
    assert len(message.get("parts") or message["content"]) in (1, len("Hello"))


async def test_a_name_that_cannot_be_sent(monkeypatch, provider):
    """What cannot be sent and is no part of a conversation is the caller's mistake, not theirs."""
    async with served(monkeypatch, provider) as server:
        error = await failure(Model(f"{provider}:{HALF}"))

    assert type(error) is BadRequest
    assert "was not asked" in str(error)
    assert server.bodies == []


async def test_redirects(monkeypatch, provider, model):
    """A redirect is refused in a clear word: the conversation goes to nobody who was not named."""
    async with served(monkeypatch, provider) as elsewhere:
        away = refusal(307, {}, location=f"{elsewhere.url}/v1")
        async with served(monkeypatch, provider, away) as server:
            error = await failure(model)

    assert type(error) is BadRequest
    assert f"a redirect to {elsewhere.url}/v1, and nothing was sent there" in str(error)
    assert (len(server.bodies), elsewhere.bodies) == (1, [])


async def test_the_longest_output_is_the_models_own(monkeypatch, provider, model):
    """Where nobody says how long an answer may be, it may be as long as the model can write."""
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await model.answer(model.request("", HELLO.messages))

    body = server.bodies[0]
    named = {"max_tokens", "max_completion_tokens", "max_output_tokens"} & body.keys()
    assert named == ({"max_tokens"} if provider == "anthropic" else set())
    assert "maxOutputTokens" not in body.get("generationConfig", {})


@pytest.mark.parametrize(
    "name, longest",
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-latest", 8192),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-1", 32_000),
        ("claude-opus-4-5", LONGEST_OUTPUT),
        ("claude-of-tomorrow", LONGEST_OUTPUT),
    ],
)
async def test_the_longest_output_of_claudes(monkeypatch, name, longest):
    """The API wants a number: it is the model's own, as far as it is known."""
    async with served(monkeypatch, "anthropic", stream(*complete("anthropic"))) as server:
        await Model(f"anthropic:{name}").answer(HELLO)

    assert server.bodies[0]["max_tokens"] == longest


async def test_a_claude_that_writes_less(monkeypatch):
    """A model that cannot write as much says how much, and is asked for that from then on."""
    words = "max_tokens: 64000 > 16000, which is the maximum allowed number of output tokens for x"
    no = refusal(400, {"error": {"type": "invalid_request_error", "message": words}})
    yes = [stream(*complete("anthropic")) for _ in range(2)]
    model = Model("anthropic:claude-small")
    async with served(monkeypatch, "anthropic", no, *yes) as server:
        await model.answer(HELLO)
        await model.answer(HELLO)

    assert [body["max_tokens"] for body in server.bodies] == [LONGEST_OUTPUT, 16_000, 16_000]


async def test_a_number_that_somebody_gave_stands(monkeypatch):
    """A longest output that was asked for is not corrected behind the caller's back."""
    words = "max_tokens: 9999999 > 16000, which is the maximum allowed number of output tokens"
    async with served(monkeypatch, "anthropic", refusal(400, {"error": {"message": words}})):
        error = await failure(
            Model("anthropic:claude-small"), replace(HELLO, max_output_tokens=9_999_999)
        )

    assert type(error) is BadRequest


INCLUDE = {
    "error": {
        "message": "Encrypted content is not supported with this model.",
        "type": "invalid_request_error",
        "param": "include",
        "code": None,
    }
}


async def test_models_that_do_not_reason(monkeypatch):
    """A model that cannot hand out its reasoning is asked without, at once or after its refusal."""
    answers = [stream(*complete("openai")) for _ in range(4)]
    async with served(
        monkeypatch, "openai", answers[0], refusal(400, INCLUDE), *answers[1:]
    ) as server:
        await Model("openai:gpt-4.1").answer(HELLO)
        for _ in range(2):
            await Model("openai:deployment-7").answer(HELLO)
        await Model(SETUPS["openai"].model).answer(HELLO)

    asked = ["reasoning.encrypted_content"]
    assert [body.get("include") for body in server.bodies] == [None, asked, None, None, asked]


@pytest.mark.parametrize(
    "given, sent",
    [
        ([], None),
        (["x"], ["x", "reasoning.encrypted_content"]),
        (["reasoning.encrypted_content"], ["reasoning.encrypted_content"]),
    ],
)
async def test_what_is_included(monkeypatch, given, sent):
    """Settings say what comes beside an answer; a list of nothing switches it off."""
    async with served(monkeypatch, "openai", stream(*complete("openai"))) as server:
        await Model(SETUPS["openai"].model).answer(replace(HELLO, settings={"include": given}))

    assert server.bodies[0].get("include") == sent


async def test_reasoning_without_its_content(monkeypatch):
    """Reasoning that cannot be read again is left out, and the rest goes back as anybody's."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}
    parts = (
        Thinking("", native=reasoning),
        Text("I search.", native={"type": "message", "id": "msg_1", "role": "assistant"}),
        ToolCall("a", "search", native={"id": "fc_1", "status": "completed"}),
    )
    model = Model(SETUPS["openai"].model)
    reply = Reply(parts, StopReason.TOOL_CALLS, "openai", model.name)
    async with served(monkeypatch, "openai", stream(*complete("openai"))) as server:
        await model.answer(after(reply, ToolResult("a", "search", "1")))

    call = {"type": "function_call", "call_id": "a", "name": "search", "arguments": "{}"}
    assert server.bodies[0]["input"][1:3] == [{"role": "assistant", "content": "I search."}, call]


async def test_a_turn_that_pauses_goes_back_as_the_api_takes_it(monkeypatch):
    """A turn that paused goes back without empty words, and without white space at its end."""
    blocks = [
        {"type": "text", "text": ""},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "owls"}},
        {"type": "text", "text": "I look \n"},
    ]
    answers = stream(*anthropic_events(*blocks, stop="pause_turn")), stream(*complete("anthropic"))
    async with served(monkeypatch, "anthropic", *answers) as server:
        reply = await Model(SETUPS["anthropic"].model).answer(HELLO)

    (said_before,) = [each for each in server.bodies[1]["messages"] if each["role"] == "assistant"]
    assert said_before["content"] == [blocks[1], {"type": "text", "text": "I look"}]
    assert reply.text == "I look \nSo."


async def test_what_was_cut_off_is_not_sent_back(monkeypatch):
    """Thinking that is not signed yet, and a search without its results, stay here."""
    events = anthropic_events(
        {"type": "text", "text": "Hm."},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "owls"}},
        {"type": "thinking", "thinking": "Owls", "signature": ""},
        stop="max_tokens",
    )
    async with served(
        monkeypatch, "anthropic", stream(*events), stream(*complete("anthropic"))
    ) as server:
        model = Model(SETUPS["anthropic"].model)
        reply = await model.answer(HELLO)
        await model.answer(Request("", [*HELLO.messages, reply, UserMessage.of("Go on")]))

    assert server.bodies[1]["messages"][1]["content"] == [{"type": "text", "text": "Hm."}]


async def test_ids_after_a_summary(monkeypatch):
    """A call without an id is given one that no call of the transcript has, after a summary too."""
    kept = Reply((ToolCall("call_7_0", "search"),), StopReason.TOOL_CALLS, "groq", "x")
    events = chat_events("", ("", "search", "{}"), finish="tool_calls")
    async with served(monkeypatch, "groq", stream(*events)):
        reply = await Model(SETUPS["groq"].model).answer(
            after(kept, ToolResult("call_7_0", "s", "1"))
        )

    assert reply.tool_calls[0].id == "call_8_0"
