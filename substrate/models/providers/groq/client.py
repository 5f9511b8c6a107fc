"""Groq's chat API, over its own SDK.

Groq checks a model's tool calls itself and answers 400, ``tool_use_failed``, where one is wrong,
with what the model had written. Asked again the same way, the model makes the same mistake, and
what it wrote is paid for; so the mistake becomes a reply with that call in it, which the loop
answers like any other wrong call, and the model mends it.

Invariants: those of `chat.reply`; a mistake in which no call can be found stays a `ModelMistake`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import groq
import httpx
from groq import AsyncGroq

from substrate.models import prices
from substrate.models.messages import Json, Reply, StopReason, ToolCall, Usage
from substrate.models.providers.address import Address
from substrate.models.providers.chat import reply as chat
from substrate.models.providers.chat.request import Server, body_of
from substrate.models.providers.sdk import Sdk
from substrate.models.request import OnText, Request
from substrate.values.errors import ModelMistake

PROVIDER = "groq"

_SERVER = Server(
    PROVIDER,
    limit="max_completion_tokens",
    takes_formats=False,
    prices=PROVIDER,
)
_SDK = Sdk(groq, groq.GroqError, httpx)
_TAGGED = re.compile(r"<function=([\w.-]+)[^{\[<]*(.*?)(?:</function>|$)", re.DOTALL)
_BARE = re.compile(r"^\s*([\w.-]+)\s*(\{.*\})\s*(?:</function>)?\s*$", re.DOTALL)
_REJECTED = re.compile(r"(?:parameters for tool|attempted to call tool) '?([\w.-]+)'?")


def connect(address: Address) -> "Groq":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    client = _SDK.client(
        AsyncGroq,
        PROVIDER,
        "check GROQ_BASE_URL and the key",
        api_key=address.key,
        base_url=address.base_url,
    )
    return Groq(client)


class Groq:
    """The adapter: one client and its connections."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncGroq) -> None:
        self._client = client

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once."""
        opening = _SDK.open(
            self._client.post,
            "/openai/v1/chat/completions",
            body_of(_SERVER, model, request),
            request.read_timeout_s,
        )
        try:
            return await chat.answer(
                _SERVER, model, request, translator=_SDK, opening=opening, on_delta=on_delta
            )
        except ModelMistake as mistake:
            if reply := _mistaken(model, request, mistake):
                return reply
            # What the model wrote is paid for, though nobody says how much it was.
            mistake.usage = mistake.usage or _estimated(model, request, mistake.body)
            raise


def _mistaken(model: str, request: Request, mistake: ModelMistake) -> Reply | None:
    """Return the reply that Groq refused to pass on, or None where it holds no call."""
    calls = [
        ToolCall.read(request.call_id(position), name, written)
        for position, (name, written) in enumerate(_calls(mistake.body or ""))
    ]
    if not calls or not request.may_call_tools:
        return None
    usage = _estimated(model, request, mistake.body)
    return Reply(tuple(calls), StopReason.TOOL_CALLS, PROVIDER, model, usage)


def _estimated(model: str, request: Request, body: str | None) -> Usage:
    return prices.priced(
        prices.counted(Usage(), request, _generation(body), PROVIDER), PROVIDER, model
    )


def _generation(body: str | None) -> str:
    """Return what the model had written, where the refusal says so."""
    error = _json(body or "")
    error = error.get("error", error) if isinstance(error, dict) else {}
    written = error.get("failed_generation") if isinstance(error, dict) else None
    return written if isinstance(written, str) else ""


def _calls(body: str) -> Iterator[tuple[str, str]]:
    """Yield the name and arguments of each call in a ``tool_use_failed``, as they were written."""
    error = _json(body)
    error = error.get("error", error) if isinstance(error, dict) else {}
    written = error.get("failed_generation") or ""
    found = list(_written(written))
    if not found and (named := _REJECTED.search(error.get("message") or "")):
        found = [(named[1], written or error["message"])]
    yield from found


def _written(text: str) -> Iterator[tuple[str, str]]:
    """Yield the calls in a text: models write them as JSON, or in a markup of their own."""
    for name, arguments in _TAGGED.findall(text):
        yield name, arguments.strip()
    if "<function=" in text:
        return  # the rest is no call, though it may look like JSON
    if bare := _BARE.match(text):
        yield bare[1], bare[2]
        return
    # Words may stand around the JSON: from its first bracket to its last.
    start, end = min((text + "{[").find(each) for each in "{["), max(map(text.rfind, "}]"))
    yield from _of_json(_json(text[start : end + 1]))


def _of_json(value: Json) -> Iterator[tuple[str, str]]:
    """Yield the calls in a JSON value: an object with a name, or something that holds such."""
    if isinstance(value, list):
        for each in value:
            yield from _of_json(each)
    elif isinstance(value, dict):
        if "tool_calls" in value:
            yield from _of_json(value["tool_calls"])
            return
        function = value.get("function")
        inner: dict[str, Any] = {**value, **function} if isinstance(function, dict) else value
        arguments = inner.get("arguments", inner.get("parameters", {}))
        if isinstance(inner.get("name"), str):
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            yield inner["name"], written


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
