"""The chat protocol over its two real SDKs, byte by byte: Groq, and any server with a base URL."""

import json
import sys
from dataclasses import replace
from decimal import Decimal

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
from substrate.models.model import Model, disconnect
from substrate.models.request import Request
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    Misuse,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TransportFailed,
)
from tests.llm_providers import (
    HELLO,
    SEARCH,
    SEARCHING,
    SETUPS,
    after,
    complete,
    failure,
    served,
)
from tests.llm_servers import Ending, chat_events, refusal, stream, wire

GROQ = Model(SETUPS["groq"].model)
CHAT = Model(SETUPS["openai-chat"].model)
CALL = ("call_1", "search", '{"query": "owls"}')
CALLED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "search", "arguments": '{"query": "owls"}'},
}
FOUND = ToolResult("call_1", "search", "two found")


@pytest.fixture(params=["groq", "openai-chat"])
def provider(request):
    """Name both in turn."""
    return request.param


@pytest.fixture
def model(provider) -> Model:
    """Return the provider's model."""
    return Model(SETUPS[provider].model)


@pytest.mark.parametrize(
    "provider, name",
    [("groq", "reasoning"), ("openai-chat", "reasoning"), ("openai-chat", "reasoning_content")],
)
async def test_reasoning_goes_back(monkeypatch, provider, name):
    """Reasoning goes back under the name it came under, to its own model, through the journal."""
    model = Model(SETUPS[provider].model)
    events = chat_events("I search.", CALL, finish="tool_calls", reasoning={name: "Owls…\u2028"})
    answers = stream(*events), stream(*chat_events("So.")), stream(*chat_events("So."))
    async with served(monkeypatch, provider, *answers) as server:
        reply = await model.answer(SEARCHING)
        replayed = Reply.from_json(reply.to_json(), reply.usage)
        await model.answer(after(replayed, FOUND))
        await Model(f"{provider}:another").answer(after(replayed, FOUND))

    assert replayed == reply
    assert reply.parts[0] == Thinking("Owls…\u2028", native={name: "Owls…\u2028"})
    said = {"role": "assistant", "content": "I search.", "tool_calls": [CALLED]}
    assert server.bodies[1]["messages"][2] == {**said, name: "Owls…\u2028"}
    called = CALLED if provider == "groq" else {**CALLED, "id": "wuLC2JotI"}
    assert server.bodies[2]["messages"][2] == {**said, "tool_calls": [called]}


async def test_reasoning_alone_is_not_sent_back(monkeypatch, provider, model):
    """Reasoning that was cut off before its answer is no message."""
    cut = chat_events("", finish="length", reasoning={"reasoning": "Owls"})
    async with served(monkeypatch, provider, stream(*cut), stream(*chat_events("So."))) as server:
        reply = await model.answer(HELLO)
        await model.answer(Request("", [*HELLO.messages, reply, UserMessage.of("Go on")]))

    assert server.bodies[1]["messages"] == [{"role": "user", "content": "Hello\n\nGo on"}]


async def test_reasoning_details_go_back(monkeypatch):
    """A gateway's reasoning blocks are put together by index, and go back as they were."""
    pieces = [
        {"type": "reasoning.summary", "summary": "Ow", "index": 0},
        {"type": "reasoning.summary", "summary": "ls", "index": 0},
        {"type": "reasoning.encrypted", "data": "Z0FB+/==", "index": 1, "id": "rs_1"},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"reasoning_details": [p]}}]} for p in pieces]
    answers = stream(*chunks, *chat_events("So.")), stream(*chat_events("So."))
    async with served(monkeypatch, "openai-chat", *answers) as server:
        reply = await CHAT.answer(HELLO)
        await CHAT.answer(Request("", [*HELLO.messages, reply, UserMessage.of("More")]))

    whole = [{**pieces[0], "summary": "Owls"}, pieces[2]]
    assert server.bodies[1]["messages"][1]["reasoning_details"] == whole


async def test_what_hangs_on_a_call_goes_back(monkeypatch):
    """What a server hangs on a call, such as a signature, goes back with it to the same model."""
    extra = {"extra_content": {"google": {"thought_signature": "Ag+/=="}}}
    events = chat_events("", CALL, finish="tool_calls")
    events[1]["choices"][0]["delta"]["tool_calls"][0].update(extra)
    answers = stream(*events), stream(*chat_events("So."))
    async with served(monkeypatch, "openai-chat", *answers) as server:
        reply = await CHAT.answer(SEARCHING)
        await CHAT.answer(after(reply, FOUND))

    assert server.bodies[1]["messages"][2]["tool_calls"] == [{**CALLED, **extra}]


async def test_request(monkeypatch, provider):
    """A request says everything: system, tools, files, results, settings."""
    settings = {"temperature": 0, "read_timeout": 9}
    sees = {"groq": "groq:llama-4-scout"}.get(provider, SETUPS[provider].model)
    model = Model(sees, max_output_tokens=99, settings=settings)
    messages = [
        UserMessage((Text("Look"), Image(b"png"), Document(b"hi", "text/plain", "Owls"))),
        Reply((Thinking("hm", native={"reasoning": "?"}),), StopReason.END, "openai", "gpt"),
        Reply((ToolCall("a", "search", {}, "{oops"),), StopReason.END, "openai", "gpt"),
        ToolMessage((ToolResult("a", "search", "not JSON", True),)),
    ]
    async with served(monkeypatch, provider, stream(*chat_events("So."))) as server:
        await model.answer(model.request("Be brief.", messages, [SEARCH]))

    limit = "max_completion_tokens" if provider == "groq" else "max_tokens"
    url = {"url": "data:image/png;base64,cG5n"}
    id = "a" if provider == "groq" else "n1WG7tx4u"  # another server's id, as all servers take it
    assert server.bodies[0] == {
        "model": model.name,
        "temperature": 0,
        limit: 99,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "search",
                    "description": SEARCH.description,
                    "parameters": SEARCH.parameters,
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": url},
                    {"type": "text", "text": "Owls:\n\nhi"},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": id,
                        "type": "function",
                        "function": {"name": "search", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": id, "content": "not JSON"},
        ],
    }


async def test_files(monkeypatch, provider, model):
    """A document that is not text is sent where the server can read it, else said in words."""
    request = Request("", [UserMessage((Document(b"pdf"),))])
    async with served(monkeypatch, provider, stream(*chat_events("So."))) as server:
        await model.answer(request)

    content = server.bodies[0]["messages"][0]["content"]
    if provider == "groq":
        assert content.startswith("(a document, application/pdf, that cannot be shown")
    else:
        assert content[0]["file"]["file_data"] == "data:application/pdf;base64,cGRm"


async def test_calls_that_share_an_index(monkeypatch):
    """Calls to which a server gives one index, or arguments as an object, stay apart."""
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "search", "arguments": '{"query": "owls"}'}},
        {"index": 0, "id": "b", "function": {"name": "search", "arguments": {"query": "bats"}}},
        {"index": 0, "id": "c", "function": {"name": "search", "arguments": '{"query": '}},
        {"index": 0, "function": {"arguments": '"newts"}'}},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in pieces]
    async with served(monkeypatch, "openai-chat", stream(*chunks, *chat_events(""))):
        reply = await CHAT.answer(SEARCHING)

    calls = [(call.id, call.arguments["query"]) for call in reply.tool_calls]
    assert calls == [("a", "owls"), ("b", "bats"), ("c", "newts")]


async def test_missing_ids(monkeypatch, provider, model):
    """A call without an id is given one that no other call of the transcript has."""
    calls = [("", "search", "{}"), ("", "search", "{}")]
    answers = [stream(*chat_events("", *calls)) for _ in range(2)]
    async with served(monkeypatch, provider, *answers):
        first = await model.answer(SEARCHING)
        results = [ToolResult(call.id, call.name, "1") for call in first.tool_calls]
        second = await model.answer(after(first, *results))

    ids = [call.id for reply in (first, second) for call in reply.tool_calls]
    assert len(set(ids)) == 4
    assert first.stop is StopReason.TOOL_CALLS, "whatever the server called it"


@pytest.mark.parametrize(
    "finish, expected",
    [
        ("stop", StopReason.END),
        ("length", StopReason.LENGTH),
        ("content_filter", StopReason.REFUSAL),
        ("eos", StopReason.END),
    ],
)
async def test_stops(monkeypatch, provider, model, finish, expected):
    """Each finish reason is one of ours, and keeps what was said."""
    async with served(monkeypatch, provider, stream(*chat_events("So.", finish=finish))):
        reply = await model.answer(HELLO)

    assert (reply.stop, reply.text) == (expected, "So.")


async def test_uncounted_tokens_are_estimated(monkeypatch, provider, model):
    """Where a server counts nothing, four characters are a token; they have a price like others."""
    events = chat_events("So, two owls it is.", usage_in="")
    async with served(monkeypatch, provider, stream(*events)):
        reply = await model.answer(HELLO)

    assert 5 <= reply.usage.output_tokens <= 20
    assert reply.usage.input_tokens > 20
    assert (reply.usage.cost_usd is None) == (provider == "openai-chat")


async def test_counted_after_the_finish(monkeypatch, provider, model):
    """A connection that is cut between the answer and its count costs neither."""
    events = chat_events("So.", usage_in="")[:-1]
    async with served(monkeypatch, provider, stream(*events, ending=Ending.CUT)):
        reply = await model.answer(HELLO)

    assert reply.text == "So."
    assert reply.usage.input_tokens > 0


async def test_a_gateways_bill(monkeypatch):
    """What a gateway says that it took is the cost."""
    events = chat_events("So.")
    events[-2]["usage"]["cost"] = 0.00012
    async with served(monkeypatch, "openai-chat", stream(*events)):
        reply = await CHAT.answer(HELLO)

    assert reply.usage.cost_usd == Decimal("0.00012")


async def test_a_price_of_ones_own(monkeypatch):
    """What a model is said to take is what its replies cost, free ones too."""
    answers = [stream(*chat_events("So.")) for _ in range(2)]
    async with served(monkeypatch, "openai-chat", *answers):
        free = await replace(CHAT, price=(0, 0)).answer(HELLO)
        paid = await replace(CHAT, price=(0.5, 1.5)).answer(HELLO)

    assert free.usage.cost_usd == 0
    assert paid.usage.cost_usd == (17 * Decimal("0.5") + 20 * Decimal("1.5")) / 1_000_000
    with pytest.raises(Misuse, match="price="):
        replace(CHAT, price=(-1, 0))


async def test_error_inside_a_stream(monkeypatch, provider, model):
    """An error in the middle of a stream is what its code says, number or word."""
    for code, expected in (
        (502, Overloaded),
        (429, RateLimited),
        ("insufficient_quota", QuotaExhausted),
    ):
        said = {"id": "x", "choices": [], "error": {"code": code, "message": "Oh."}}
        async with served(monkeypatch, provider, stream(*chat_events("So.")[:2], said)):
            error = await failure(model)

        assert type(error) is expected


async def test_stopped_early(monkeypatch):
    """A stream that Groq says it stopped early is no answer."""
    said = {"choices": [], "x_groq": {"error": "internal"}}
    async with served(monkeypatch, "groq", stream(*chat_events("So.")[:2], said)):
        error = await failure(GROQ)

    assert type(error) is TransportFailed


@pytest.mark.parametrize("other", ["anthropic", "google", "openai"])
async def test_ids_travel_to_other_providers(monkeypatch, other):
    """A call whose id another provider would refuse is known to it by one that it takes."""
    call = ("functions.search:0", "search", "{}")
    async with served(monkeypatch, "groq", stream(*chat_events("", call))):
        reply = await GROQ.answer(SEARCHING)
    found = ToolResult(reply.tool_calls[0].id, "search", "two")
    async with served(monkeypatch, other, stream(*complete(other))) as server:
        await Model(SETUPS[other].model).answer(after(reply, found))

    sent = json.dumps(server.bodies[0])
    assert sent.count("functions_search_0") == 2 or other == "google"
    assert reply.tool_calls[0].id == "functions.search:0"


# Groq: calls that it refuses to pass on


def failed(generation: str | None = None, message: str = "Failed to call a function.") -> dict:
    """Return the body of a ``tool_use_failed``."""
    error = {"message": message, "type": "invalid_request_error", "code": "tool_use_failed"}
    return {"error": error | ({"failed_generation": generation} if generation else {})}


OWLS = {"query": "owls"}


@pytest.mark.parametrize(
    "generation, name, arguments",
    [
        ('<function=search>{"query": "owls"}</function>', "search", OWLS),
        ('<function=search{"query": "owls"}</function>', "search", OWLS),
        ('<function=search {"query": "owls"}', "search", OWLS),
        ('search{"query": "owls"}</function>', "search", OWLS),
        ('{"name": "search", "arguments": {"query": "owls"}}', "search", OWLS),
        ('{"name": "search", "arguments": "{\\"query\\": \\"owls\\"}"}', "search", OWLS),
        ('[{"name": "search", "parameters": {"query": "owls"}}]', "search", OWLS),
        (
            (
                '```\n{"tool_calls": [{"id": "pending", "type": "function", '
                '"function": {"name": "search"}, "parameters": {"query": "owls"}}]}\n```'
            ),
            "search",
            OWLS,
        ),
        ('<function=search>{"query": owls}</function>', "search", None),
    ],
)
async def test_failed_generation_is_a_reply(monkeypatch, generation, name, arguments):
    """What the model wrote, and Groq refused, is a reply with that call, for the model to mend."""
    async with served(monkeypatch, "groq", refusal(400, failed(generation))) as server:
        reply = await GROQ.answer(SEARCHING)

    (call,) = reply.tool_calls
    assert (call.name, call.malformed is None) == (name, arguments is not None)
    assert call.arguments == (arguments or {})
    assert reply.stop is StopReason.TOOL_CALLS
    assert reply.usage.input_tokens > 0
    assert len(server.bodies) == 1


async def test_failed_generation_inside_a_stream(monkeypatch):
    """The same, told in the middle of a stream."""
    said = json.dumps(failed('{"name": "search", "arguments": {"query": "owls"}}'))
    event = f"event: error\ndata: {said}\n\n"
    async with served(monkeypatch, "groq", stream(*chat_events("So.")[:2], event)):
        reply = await GROQ.answer(SEARCHING)

    assert reply.tool_calls[0].arguments == OWLS


async def test_rejected_parameters(monkeypatch):
    """Parameters that don't fit the schema are told to the model, in Groq's own words."""
    message = (
        "tool call validation failed: parameters for tool search did not match schema: "
        "errors: [`/query`: expected string, but got number]"
    )
    async with served(monkeypatch, "groq", refusal(400, failed(message=message))):
        reply = await GROQ.answer(SEARCHING)

    assert reply.tool_calls[0].name == "search"
    assert reply.tool_calls[0].malformed == message


@pytest.mark.parametrize("generation", [None, "I would rather not.", "{", "[[[["])
async def test_mistake_without_a_call(monkeypatch, generation):
    """A mistake in which there is no call stays one, and may be tried again."""
    async with served(monkeypatch, "groq", refusal(400, failed(generation))):
        error = await failure(GROQ, SEARCHING)

    assert type(error) is ModelMistake


async def test_mistake_where_no_tool_may_be_called(monkeypatch):
    """A call where none is allowed stays a mistake."""
    request = Request("", HELLO.messages, [SEARCH], may_call_tools=False)
    body = failed('{"name": "search", "arguments": {}}')
    async with served(monkeypatch, "groq", refusal(400, body)) as server:
        error = await failure(GROQ, request)

    assert type(error) is ModelMistake
    assert server.bodies[0]["tool_choice"] == "none"


LIMIT = "Rate limit reached for model `x` on {}: Limit 6000, Used 5999. Please try again in {}."


@pytest.mark.parametrize(
    "status, message, expected, wait",
    [
        (429, LIMIT.format("tokens per minute (TPM)", "7.66s"), RateLimited, 7.66),
        (429, LIMIT.format("requests per day (RPD)", "1m26.4s"), RateLimited, 86.4),
        (429, LIMIT.format("tokens per day (TPD)", "2h7m12s"), RateLimited, 7632.0),
        (413, "Request too large for model `x` on tokens per minute", ContextOverflow, None),
        (400, "Please reduce the length of the messages or completion.", ContextOverflow, None),
        (498, "Flex tier capacity exceeded", Overloaded, None),
    ],
)
async def test_groqs_limits(monkeypatch, status, message, expected, wait):
    """Groq's limits are told apart, and waited for as long as its message says."""
    body = {"error": {"message": message, "type": "x", "code": "rate_limit_exceeded"}}
    if status != 429:
        del body["error"]["code"]
    async with served(monkeypatch, "groq", refusal(status, body)):
        error = await failure(GROQ)

    assert (type(error), error.retry_after) == (expected, wait)


# Any server: where it is, and which key it is shown


async def answering(url: str, monkeypatch, *, base_url: str | None = None, **env: str) -> None:
    """Ask a model once with this environment."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_CHAT_API_KEY",
        "OPENAI_CHAT_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    key = "OTHER_KEY" if "OTHER_KEY" in env else None
    await Model("openai-chat:some-model", base_url=base_url, key=key).answer(HELLO)
    await disconnect()


async def test_which_key_a_server_is_shown(monkeypatch):
    """OpenAI's key goes to the server that OPENAI_BASE_URL names, and to no other."""
    secret = {"OPENAI_API_KEY": "openais"}
    async with wire(*(stream(*chat_events("So.")) for _ in range(6))) as server:
        url = f"{server.url}/v1"
        await answering(url, monkeypatch, base_url=url, **secret)
        await answering(url, monkeypatch, OPENAI_CHAT_BASE_URL=url, **secret)
        await answering(url, monkeypatch, OPENAI_BASE_URL=url, **secret)
        await answering(url, monkeypatch, base_url=url, OPENAI_CHAT_API_KEY="chats", **secret)
        await answering(url, monkeypatch, base_url=url, OTHER_KEY="others", **secret)
        await answering(url, monkeypatch, OPENAI_CHAT_BASE_URL=url)

    shown = [headers["authorization"].removeprefix("Bearer ") for headers in server.headers]
    assert shown == ["none", "none", "openais", "chats", "others", "none"]


async def test_sdk_that_is_not_installed(monkeypatch):
    """A provider whose SDK is not there says what to install."""
    monkeypatch.setenv("GROQ_API_KEY", "a-key")
    monkeypatch.setitem(sys.modules, "groq", None)
    monkeypatch.delitem(sys.modules, "substrate.models.providers.groq.client", raising=False)

    error = await failure(Model("groq:x", base_url="http://127.0.0.1:9"))

    assert type(error) is BadRequest
    assert "'groq<2,>=1'" in str(error)


async def test_two_servers_at_once(monkeypatch):
    """Two models of one provider at two addresses are two servers."""
    async with wire(stream(*chat_events("One."))) as one, wire(stream(*chat_events("Two."))) as two:
        replies = [
            await Model("openai-chat:m", base_url=f"{server.url}/v1").answer(HELLO)
            for server in (one, two)
        ]
        await disconnect()

    assert [reply.text for reply in replies] == ["One.", "Two."]


def test_missing_key_of_a_server(monkeypatch):
    """A server with an address of its own needs no key; OpenAI's own does."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_CHAT_API_KEY",
        "OPENAI_CHAT_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)

    assert Model("openai-chat:m", base_url="http://127.0.0.1:9").missing_key is None
    assert Model("openai-chat:m", base_url="http://x", key="OTHER").missing_key == "OTHER"
    assert Model("openai-chat:m").missing_key == "OPENAI_CHAT_API_KEY"
