"""The providers as the tests meet them: their models, their environment, the events they stream."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from substrate.models.limits.model_limits import ModelLimits
from substrate.models.messages import Reply, ToolMessage, ToolResult, Usage, UserMessage
from substrate.models.model import Model, disconnect
from substrate.models.request import Request, ToolSpec
from substrate.values.clock import OffsetClock
from substrate.values.errors import ModelError
from tests.llm_servers import (
    Answer,
    Json,
    Wire,
    anthropic_events,
    chat_events,
    gemini_events,
    openai_events,
    wire,
)
from tests.strict import refusal_of


@dataclass(frozen=True, slots=True)
class Setup:
    """How a provider is reached: its model and variables, and its path on llmock and on `wire`.

    `prices` is its name in the price list, None where nobody knows what it takes.
    """

    model: str
    key: str
    url: str
    mock_path: str
    wire_path: str = ""
    prices: str | None = None

    def env(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        """Point the provider's SDK at a server."""
        monkeypatch.setenv(self.key, "a-key")
        monkeypatch.setenv(self.url, url)


SETUPS = {
    "anthropic": Setup(
        "anthropic:claude-sonnet-5-5",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "/anthropic",
        prices="anthropic",
    ),
    "google": Setup(
        "google:gemini-3.8-flash",
        "GEMINI_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "/gemini",
        prices="google",
    ),
    "groq": Setup(
        "groq:openai/gpt-oss-120b", "GROQ_API_KEY", "GROQ_BASE_URL", "/groq", prices="groq"
    ),
    "openai": Setup(
        "openai:gpt-6-luna", "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1", "/v1", prices="openai"
    ),
    "openai-chat": Setup(
        "openai-chat:some-model", "OPENAI_CHAT_API_KEY", "OPENAI_CHAT_BASE_URL", "/v1", "/v1"
    ),
}

SEARCH = ToolSpec(
    "search",
    "Search the library.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
HELLO = Request("Be brief.", [UserMessage.of("Hello")])
SEARCHING = Request("Be brief.", [UserMessage.of("Search for owls")], [SEARCH])
SAYING = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "phase": "commentary",
    "content": [{"type": "output_text", "text": "I search.", "annotations": []}],
}


@asynccontextmanager
async def served(monkeypatch: Any, provider: str, *answers: Answer) -> AsyncIterator[Wire]:
    """Point the provider's SDK at a server with these answers, which refuses as that one does."""
    async with wire(*answers, judge=partial(refusal_of, provider)) as server:
        SETUPS[provider].env(monkeypatch, server.url + SETUPS[provider].wire_path)
        try:
            yield server
        finally:
            await disconnect()


async def failure(model: Model, request: Request = HELLO) -> ModelError:
    """Return the error that the model answers with, whatever it asked for before."""
    limits = ModelLimits.on(OffsetClock())
    with pytest.raises(ModelError) as caught:
        await model.answer(request, limits=limits)
    return caught.value


def after(reply: Reply, *results: ToolResult) -> Request:
    """Return the request that follows a reply that called tools."""
    return Request("Be brief.", [*SEARCHING.messages, reply, ToolMessage(results)], [SEARCH])


def complete(provider: str, text: str = "So.") -> list[Json | str]:
    """Return the events of a whole answer."""
    match provider:
        case "anthropic":
            return [*anthropic_events({"type": "text", "text": text})]
        case "openai":
            return [*openai_events({**SAYING, "content": [{"type": "output_text", "text": text}]})]
        case "google":
            return [*gemini_events({"text": text})]
    return chat_events(text, usage_in="x_groq" if provider == "groq" else "usage")


def usage(provider: str) -> Usage:
    """Return what `complete` says that it took; not every provider tells everything."""
    writes = 0 if provider == "google" else 2
    return Usage(17, 20, 5, writes, 7)


def authorization(headers: dict[str, str]) -> str:
    """Return the key that a request showed, in whichever header its provider wants it."""
    return headers.get("x-goog-api-key") or headers["authorization"].removeprefix("Bearer ")


def unfinished(provider: str) -> list[Json | str]:
    """Return the events of `complete` that come before its terminal marker."""
    markers = ("message_stop", "response.completed", '"stop"', '"STOP"')
    events = complete(provider)
    return events[: next(i for i, each in enumerate(events) if _is_marked(each, markers))]


def _is_marked(event: Json | str, markers: tuple[str, ...]) -> bool:
    return any(marker in json.dumps(event) for marker in markers)


Called = tuple[str, str, str | None]
"""A call as a model writes it: its id, its name, its arguments as text, None where none came."""

STOPS = {
    "anthropic": {"cut": "max_tokens", "filtered": "refusal"},
    "google": {"cut": "MAX_TOKENS", "filtered": "SAFETY"},
    "groq": {"cut": "length", "filtered": "content_filter"},
    "openai": {"cut": "max_output_tokens", "filtered": "content_filter"},
    "openai-chat": {"cut": "length", "filtered": "content_filter"},
}
"""What each provider says of an answer that was cut off, or filtered."""


def said(provider: str, text: str = "", *calls: Called, stop: str | None = None) -> list[Any]:
    """Return the events of an answer: its words, its calls, and how it stopped if not by itself."""
    word = STOPS[provider].get(stop or "", stop)
    match provider:
        case "anthropic":
            blocks: list[Json] = [{"type": "text", "text": text}] if text else []
            blocks += [
                {"type": "tool_use", "id": id, "name": name, "input": written or ""}
                for id, name, written in calls
            ]
            return anthropic_events(*blocks, stop=word or ("tool_use" if calls else "end_turn"))
        case "openai":
            return _responses(text, calls, word)
        case "google":
            parts: list[Json] = [{"text": text}] if text else []
            for id, name, written in calls:
                arguments = {} if written is None else {"args": json.loads(written)}
                parts.append({"functionCall": {"id": id, "name": name, **arguments}})
            return gemini_events(*parts, finish=word or "STOP")
    usage_in = "x_groq" if provider == "groq" else "usage"
    written = [(id, name, arguments or "") for id, name, arguments in calls]
    natural = "tool_calls" if calls else "stop"
    return chat_events(text, *written, finish=word or natural, usage_in=usage_in)


def _responses(text: str, calls: Sequence[Called], word: str | None) -> list[Json]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    items: list[Json] = [{"type": "message", "role": "assistant", "content": content}] * bool(text)
    items += [
        {"type": "function_call", "call_id": id, "name": name, "arguments": written or ""}
        for id, name, written in calls
    ]
    if word is None:
        return openai_events(*items)
    status = {"status": "incomplete", "incomplete_details": {"reason": word}}
    return openai_events(*items, ending="response.incomplete", **status)


def without_counts(events: Sequence[Json | str]) -> list[Json | str]:
    """Return the events of an answer whose server counts nothing, nor names a place for it."""
    return [each if isinstance(each, str) else _pruned(each) for each in events]


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in ("usage", "usageMetadata")}
        return {key: _pruned(each) for key, each in kept.items()}
    return [_pruned(each) for each in value] if isinstance(value, list) else value


def told(provider: str, body: Json) -> list[Json]:
    """Return the messages of a request, or its items, as its provider was sent them."""
    messages: list[Json] = body[{"google": "contents", "openai": "input"}.get(provider, "messages")]
    return messages


def calls_told(provider: str, body: Json) -> list[tuple[str, Any]]:
    """Return the id and the arguments of each call in a request, decoded."""
    found: list[tuple[str, Any]] = []
    for message in told(provider, body):
        match provider:
            case "anthropic":
                blocks = [each for each in message["content"] if each["type"] == "tool_use"]
                found += [(each["id"], each["input"]) for each in blocks]
            case "google":
                named = [p["functionCall"] for p in message["parts"] if "functionCall" in p]
                found += [(each.get("id", ""), each["args"]) for each in named]
            case "openai" if message.get("type") == "function_call":
                found.append((message["call_id"], json.loads(message["arguments"])))
            case "groq" | "openai-chat":
                found += [
                    (each["id"], json.loads(each["function"]["arguments"]))
                    for each in message.get("tool_calls") or ()
                ]
    return found


def results_told(provider: str, body: Json) -> list[tuple[str, str]]:
    """Return the id and the words of each result in a request."""
    found: list[tuple[str, str]] = []
    for message in told(provider, body):
        match provider:
            case "anthropic":
                blocks = [each for each in message["content"] if each["type"] == "tool_result"]
                found += [(each["tool_use_id"], each["content"]) for each in blocks]
            case "google":
                given = [p["functionResponse"] for p in message["parts"] if "functionResponse" in p]
                words = [next(iter(each["response"].values())) for each in given]
                found += [(g.get("id", ""), word) for g, word in zip(given, words, strict=True)]
            case "openai" if message.get("type") == "function_call_output":
                found.append((message["call_id"], message["output"]))
            case "groq" | "openai-chat" if message["role"] == "tool":
                found.append((message["tool_call_id"], message["content"]))
    return found
