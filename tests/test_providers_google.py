"""Gemini over its real SDK, byte by byte: what is sent, what is kept, what its failures are."""

import pytest

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
from substrate.models.providers.google.client import MOST_CONTINUATIONS
from substrate.models.request import Request
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TransportFailed,
    Unusable,
)
from tests.llm_providers import HELLO, SEARCH, SEARCHING, SETUPS, after, failure, served
from tests.llm_servers import gemini_events, refusal, stream

GEMINI = Model(SETUPS["google"].model)
THOUGHT = {"text": "Owls…\n\u2028 “hm”", "thought": True}
SIGNED = {
    "functionCall": {"name": "search", "args": {"query": "owls"}},
    "thoughtSignature": "Ag+/==",
}
UNSIGNED = {"functionCall": {"name": "search", "args": {"query": "bats"}}}
SEAL = {"text": "", "thoughtSignature": "c2Vh+/bA=="}
FOUND = ToolResult("call_0_2", "search", "two found")


async def test_thoughts_go_back_byte_exact(monkeypatch):
    """Thoughts and signed parts go back as they came, each in its place, through the journal."""
    parts = [THOUGHT, {"text": "I search."}, SIGNED, UNSIGNED, SEAL]
    answers = stream(*gemini_events(*parts)), stream(*gemini_events({"text": "So."}))
    async with served(monkeypatch, "google", *answers) as server:
        reply = await GEMINI.answer(SEARCHING)
        replayed = Reply.from_json(reply.to_json(), reply.usage)
        await GEMINI.answer(after(replayed, FOUND))

    assert replayed == reply
    assert reply.stop is StopReason.TOOL_CALLS
    assert [call.id for call in reply.tool_calls] == ["call_0_2", "call_0_3"]
    assert server.bodies[1]["contents"][1] == {"role": "model", "parts": parts}


async def test_thoughts_of_another_model_are_dropped(monkeypatch):
    """Another model is told the words and the calls, with the mark that stands for a signature."""
    parts = [THOUGHT, {"text": "I search."}, SIGNED]
    answers = stream(*gemini_events(*parts)), stream(*gemini_events({"text": "So."}))
    async with served(monkeypatch, "google", *answers) as server:
        reply = await GEMINI.answer(SEARCHING)
        await Model("google:gemini-3.1-pro-preview").answer(after(reply, FOUND))

    call = {**SIGNED, "thoughtSignature": "skip_thought_signature_validator"}
    assert server.bodies[1]["contents"][1]["parts"] == [{"text": "I search."}, call]


async def test_before_gemini_3(monkeypatch):
    """A Gemini that asks for no signatures is shown none that stands for one."""
    reply = Reply((ToolCall("a", "search"),), StopReason.TOOL_CALLS, "openai", "gpt")
    async with served(monkeypatch, "google", stream(*gemini_events({"text": "So."}))) as server:
        await Model("google:gemini-2.5-flash").answer(after(reply, ToolResult("a", "search", "1")))

    (part,) = server.bodies[0]["contents"][1]["parts"]
    assert part == {"functionCall": {"name": "search", "args": {}, "id": "a"}}


async def test_request(monkeypatch):
    """A request says everything: system, tools, files, results with their errors, settings."""
    settings = {
        "temperature": 0,
        "thinkingConfig": {"thinkingLevel": "low"},
        "safetySettings": [{"category": "x"}],
        "tools": [{"googleSearch": {}}],
    }
    model = Model(GEMINI.id, max_output_tokens=99, settings=settings)
    messages = [
        UserMessage((Text("Look"), Image(b"png"), Document(b"pdf", title="Owls"))),
        Reply((Thinking("hm", native={"type": "?"}),), StopReason.END, "openai", "gpt"),
        Reply((ToolCall("a", "search"), ToolCall("b", "search")), StopReason.END, "openai", "gpt"),
        ToolMessage((ToolResult("a", "search", "1"), ToolResult("b", "search", "no", True))),
    ]
    async with served(monkeypatch, "google", stream(*gemini_events({"text": "So."}))) as server:
        await model.answer(model.request("Be brief.", messages, [SEARCH]))

    mark = {"thoughtSignature": "skip_thought_signature_validator"}
    assert server.bodies[0] == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "safetySettings": [{"category": "x"}],
        "generationConfig": {
            "temperature": 0,
            "thinkingConfig": {"thinkingLevel": "low"},
            "maxOutputTokens": 99,
        },
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "search",
                        "description": SEARCH.description,
                        "parametersJsonSchema": SEARCH.parameters,
                    }
                ]
            },
            {"googleSearch": {}},
        ],
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look"},
                    {"inlineData": {"mimeType": "image/png", "data": "cG5n"}},
                    {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "search", "args": {}, "id": "a"}, **mark},
                    {"functionCall": {"name": "search", "args": {}, "id": "b"}, **mark},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "name": "search",
                            "response": {"output": "1"},
                            "id": "a",
                        }
                    },
                    {
                        "functionResponse": {
                            "name": "search",
                            "response": {"error": "no"},
                            "id": "b",
                        }
                    },
                ],
            },
        ],
    }
    assert "x-server-timeout" not in server.headers[0], "it would end an answer that is only long"


async def test_ids_of_gemini_are_kept(monkeypatch):
    """An id that Gemini gives goes back with the call and its result; one of ours does not."""
    parts = [
        {"functionCall": {"id": "fc_7", "name": "search", "args": {}}},
        {"functionCall": {"name": "search", "args": {}}},
    ]
    answers = stream(*gemini_events(*parts)), stream(*gemini_events({"text": "So."}))
    async with served(monkeypatch, "google", *answers) as server:
        reply = await GEMINI.answer(SEARCHING)
        results = [ToolResult(call.id, call.name, "1") for call in reply.tool_calls]
        await GEMINI.answer(after(reply, *results))

    responses = [part["functionResponse"] for part in server.bodies[1]["contents"][2]["parts"]]
    assert [each.get("id") for each in responses] == ["fc_7", None]


async def test_tools_may_not_be_called(monkeypatch):
    """Where no tool may be called, the tools are named and calling them is forbidden."""
    request = Request("", HELLO.messages, [SEARCH], may_call_tools=False)
    async with served(monkeypatch, "google", stream(*gemini_events({"text": "So."}))) as server:
        await GEMINI.answer(request)

    assert server.bodies[0]["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}


@pytest.mark.parametrize(
    "finish, expected",
    [
        ("STOP", StopReason.END),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("SAFETY", StopReason.REFUSAL),
        ("RECITATION", StopReason.REFUSAL),
        ("MODEL_ARMOR", StopReason.REFUSAL),
        ("ESCALATION", StopReason.REFUSAL),
        ("FUNCTION_CALL", StopReason.END),
    ],
)
async def test_stops(monkeypatch, finish, expected):
    """Each finish reason is one of ours, and keeps what was said."""
    events = gemini_events({"text": "So."}, finish=finish)
    async with served(monkeypatch, "google", stream(*events)):
        reply = await GEMINI.answer(HELLO)

    assert (reply.stop, reply.text) == (expected, "So.")


async def test_blocked_prompt(monkeypatch):
    """A prompt that is blocked is refused, with the reason that Gemini gives, and is paid for."""
    feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "No owls."}
    event = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 17}}
    async with served(monkeypatch, "google", stream(event)):
        reply = await GEMINI.answer(HELLO)

    assert (reply.stop, reply.text) == (StopReason.REFUSAL, "No owls.")
    assert reply.usage.input_tokens == 17


MALFORMED = "Malformed function call: print(default_api.search(query=owls))"


async def test_malformed_call_is_told_to_the_model(monkeypatch):
    """A call that Gemini cannot read is one with malformed arguments; its tokens are counted."""
    events = gemini_events(
        {"text": "Hm."}, finish="MALFORMED_FUNCTION_CALL", finishMessage=MALFORMED
    )
    async with served(monkeypatch, "google", stream(*events)):
        reply = await GEMINI.answer(SEARCHING)

    (call,) = reply.tool_calls
    assert (call.name, call.malformed) == ("search", MALFORMED)
    assert (reply.stop, reply.usage.output_tokens) == (StopReason.TOOL_CALLS, 20)


@pytest.mark.parametrize(
    "finish, message",
    [
        ("MALFORMED_FUNCTION_CALL", "Malformed function call: print(7 * 6)"),
        ("UNEXPECTED_TOOL_CALL", ""),
        ("MALFORMED_RESPONSE", ""),
    ],
)
async def test_mistakes(monkeypatch, finish, message):
    """A mistake of which nothing can be made may be tried again."""
    events = gemini_events(finish=finish, finishMessage=message)
    async with served(monkeypatch, "google", stream(*events)):
        error = await failure(GEMINI, SEARCHING)

    assert type(error) is ModelMistake
    assert finish in str(error)


async def test_continuation(monkeypatch):
    """An answer that is cut to be continued is continued by its token, and counted as one."""
    first = gemini_events({"text": "Two "}, finish="CONTINUATION", continuationToken="dG9r")
    answers = stream(*first), stream(*gemini_events({"text": "owls."}))
    async with served(monkeypatch, "google", *answers) as server:
        reply = await GEMINI.answer(HELLO)

    assert reply.text == "Two owls."
    assert reply.usage.output_tokens == 40
    assert [body.get("continuationToken") for body in server.bodies] == [None, "dG9r"]


async def test_continuations_without_end(monkeypatch):
    """An answer that is cut again and again is given up, and not asked for anew."""
    cut = gemini_events({"text": "Two "}, finish="CONTINUATION", continuationToken="dG9r")
    answers = [stream(*cut) for _ in range(20)]
    async with served(monkeypatch, "google", *answers) as server:
        error = await failure(GEMINI)

    assert type(error) is BadRequest
    assert len(server.bodies) == MOST_CONTINUATIONS + 1


async def test_redirects(monkeypatch):
    """A redirect is not followed: the key would go along."""
    async with served(monkeypatch, "google", refusal(307, {}, location="/elsewhere")) as server:
        error = await failure(GEMINI)

    assert type(error) is BadRequest
    assert len(server.bodies) == 1


def rpc(code: int, status: str, message: str, *details: dict) -> dict:
    """Return an error body of Google's."""
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return {"error": error}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "58.9s"}
FREE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


def quota(id: str) -> dict:
    """Return a QuotaFailure with one violation."""
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaId": id, "quotaMetric": "requests"}]}


EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    "status, body, expected, wait",
    [
        (429, rpc(429, "RESOURCE_EXHAUSTED", EXCEEDED, quota(FREE), RETRY_INFO), RateLimited, 58.9),
        (
            429,
            rpc(429, "RESOURCE_EXHAUSTED", EXCEEDED + " Please retry in 7.5s."),
            RateLimited,
            7.5,
        ),
        (
            429,
            rpc(
                429, "RESOURCE_EXHAUSTED", EXCEEDED, quota("GenerateRequestsPerDayPer"), RETRY_INFO
            ),
            QuotaExhausted,
            58.9,
        ),
        (
            429,
            rpc(429, "RESOURCE_EXHAUSTED", f"{EXCEEDED}\nPlease retry in 10h17m5.72s."),
            RateLimited,
            37025.72,
        ),
        (
            429,
            rpc(429, "RESOURCE_EXHAUSTED", "* Quota exceeded for metric: x, limit: 0", RETRY_INFO),
            QuotaExhausted,
            None,
        ),
        (503, rpc(503, "UNAVAILABLE", "The model is overloaded."), Overloaded, None),
        (500, rpc(500, "INTERNAL", "An internal error has occurred."), Overloaded, None),
        (504, rpc(504, "DEADLINE_EXCEEDED", "Deadline expired."), Overloaded, None),
        (400, rpc(400, "INVALID_ARGUMENT", TOO_LONG), ContextOverflow, None),
        (400, rpc(400, "INVALID_ARGUMENT", "Invalid value at 'contents'"), BadRequest, None),
        (400, [rpc(400, "INVALID_ARGUMENT", TOO_LONG)], ContextOverflow, None),
    ],
)
async def test_refusals(monkeypatch, status, body, expected, wait):
    """Google's errors are told apart by status word, quota and RetryInfo."""
    async with served(monkeypatch, "google", refusal(status, body)) as server:
        error = await failure(GEMINI)

    assert (type(error), error.retry_after) == (expected, wait)
    assert len(server.bodies) == 1, "the SDK retries on its own"


async def test_bad_key(monkeypatch):
    """A key that is not valid says so in its remedy."""
    body = rpc(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    async with served(monkeypatch, "google", refusal(400, body)):
        error = await failure(GEMINI)

    assert type(error) is Unusable
    assert "check the key" in str(error)


@pytest.mark.parametrize(
    "error, expected",
    [
        ({"code": 503, "status": "UNAVAILABLE", "message": "Overloaded."}, Overloaded),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Slow down."}, RateLimited),
        ({"code": 500, "status": "INTERNAL", "message": "Oh."}, Overloaded),
        ({"message": "Oh."}, TransportFailed),
    ],
)
async def test_error_inside_a_stream(monkeypatch, error, expected):
    """An error in the middle of a stream is what it says, and the words before it no answer."""
    events = [*gemini_events({"text": "So."})[:1], {"error": error}]
    async with served(monkeypatch, "google", stream(*events)):
        raised = await failure(GEMINI)

    assert type(raised) is expected
