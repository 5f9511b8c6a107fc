"""The providers as the tests meet them: their models, their environment, the events they stream."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from substrate.models.messages import (
    Reply,
    Request,
    ToolMessage,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from substrate.models.model import Model, disconnect
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
    """Point the provider's SDK at a server with these answers."""
    async with wire(*answers) as server:
        SETUPS[provider].env(monkeypatch, server.url + SETUPS[provider].wire_path)
        try:
            yield server
        finally:
            await disconnect()


async def failure(model: Model, request: Request = HELLO) -> ModelError:
    """Return the error that the model answers with."""
    with pytest.raises(ModelError) as caught:
        await model.answer(request)
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
