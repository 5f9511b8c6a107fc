"""Any server that speaks the OpenAI chat protocol: vLLM, Ollama, OpenRouter, LM Studio and others.

The server is named by ``Model(…, base_url=…)``, by ``OPENAI_CHAT_BASE_URL``, or by
``OPENAI_BASE_URL``, in this order; without any of them it is OpenAI's own. A model of OpenAI's is
better asked by ``openai:``, the Responses API, which hands its reasoning back.

Invariants: those of `chat.reply`. OpenAI's key goes to the server that ``OPENAI_BASE_URL`` names
and to no other: a server named in another way is shown the key of ``Model(…, key=…)`` or
``OPENAI_CHAT_API_KEY``, or none, which servers on one's own machine don't ask for.
"""

import os

import httpx2
import openai
from openai import AsyncOpenAI

from substrate.models import prices
from substrate.models.messages import Reply
from substrate.models.providers.address import Address
from substrate.models.providers.chat import reply as chat
from substrate.models.providers.chat.request import Server, body_of
from substrate.models.providers.sdk import Sdk
from substrate.models.request import OnText, Request

PROVIDER = "openai-chat"
NO_KEY = "none"
"""What a server is shown that asks for no key: the SDK insists on one."""

_SDK = Sdk(openai, openai.OpenAIError, httpx2)


def connect(address: Address) -> "OpenAIChat":
    """Return the adapter for the server at an address.

    Raises `BadRequest` when it cannot be used.
    """
    prices.load("openai")
    base_url = address.base_url or os.environ.get("OPENAI_CHAT_BASE_URL")
    key = address.key or os.environ.get("OPENAI_CHAT_API_KEY")
    if not base_url and not key:
        key = os.environ.get("OPENAI_API_KEY")
    client = _SDK.client(
        AsyncOpenAI,
        PROVIDER,
        "check OPENAI_CHAT_BASE_URL",
        api_key=key or NO_KEY,
        base_url=base_url,
    )
    return OpenAIChat(client)


class OpenAIChat:
    """The adapter: one client and its connections."""

    __slots__ = ("_client", "_server")

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._server = Server(
            PROVIDER,
            limit="max_tokens",
            takes_formats=True,
            address=str(client.base_url),
        )

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once."""
        body = body_of(self._server, model, request)
        opening = _SDK.open(self._client.post, "/chat/completions", body, request.read_timeout_s)
        return await chat.answer(
            self._server, model, request, translator=_SDK, opening=opening, on_delta=on_delta
        )
