"""OpenAI's Responses API, over its own SDK.

A model that does not reason refuses to be asked for its reasoning: then it is asked again without,
and so from then on.

Invariant: an answer counts only when the event that ends it has come.
"""

import re
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI

from substrate.models import prices
from substrate.models.messages import Reply, Usage
from substrate.models.parts import Json
from substrate.models.providers.address import Address
from substrate.models.providers.failures import parsing, rejected, transport_failed
from substrate.models.providers.openai import reply as replies
from substrate.models.providers.openai.reply import PROVIDER
from substrate.models.providers.openai.request import ENCRYPTED, body_of, without_reasoning
from substrate.models.providers.sdk import Sdk
from substrate.models.providers.stream import Patience, charged, events, finish
from substrate.models.request import OnText, Request
from substrate.values.errors import BadRequest, ModelError

_INCLUDE = re.compile(r"encrypted.{0,9}content|[\"']include\b", re.IGNORECASE)

_SDK = Sdk(openai, openai.OpenAIError, httpx2)

EMBED_S = 60.0
"""How long the vectors of a batch may take."""


def connect(address: Address) -> "OpenAI":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    client = _SDK.client(
        AsyncOpenAI,
        PROVIDER,
        "check OPENAI_BASE_URL and the key",
        api_key=address.key,
        base_url=address.base_url,
    )
    return OpenAI(client)


class OpenAI:
    """The adapter: one client, its connections, and which models cannot hand reasoning out."""

    __slots__ = ("_client", "_without_reasoning")

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._without_reasoning: set[str] = set()

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once; once more where a model turns out not to reason."""
        body = body_of(model, request)
        if model in self._without_reasoning:
            body = without_reasoning(body)
        try:
            return await self._answer(model, request, body, on_delta)
        except BadRequest as error:
            if ENCRYPTED not in body.get("include", ()) or not _INCLUDE.search(error.body or ""):
                raise
        # Nothing was charged for the refusal, so asking again costs a round trip and no more.
        self._without_reasoning.add(model)
        return await self._answer(model, request, without_reasoning(body), on_delta)

    async def embed(
        self, model: str, texts: Sequence[str], dimension: int
    ) -> Sequence[Sequence[float]]:
        """Return the vectors of texts, in order."""
        called = f"{PROVIDER}:{model}"
        body: dict[str, Any] = {"model": model, "input": list(texts), "dimensions": dimension}
        options = {"timeout": EMBED_S, "follow_redirects": False}
        body["encoding_format"] = "float"
        # Below the SDK's own types, as an answer is asked for.
        post: Any = self._client.post
        with _SDK.failing_as_ours(called):
            answer = await post("/embeddings", cast_to=object, body=body, options=options)
        with parsing(called):
            rows = sorted(answer["data"], key=lambda row: row["index"])
            return [row["embedding"] for row in rows]

    async def _answer(
        self, model: str, request: Request, body: dict[str, Json], on_delta: OnText
    ) -> Reply:
        called = f"{PROVIDER}:{model}"
        draft, patience = replies.Draft(), Patience.of(request)
        opening = _SDK.open(self._client.post, "/responses", body, patience.silence_s)

        def charge(error: ModelError) -> Usage | None:
            has_begun = draft.has_begun or error.was_taken
            return replies.usage(model, request, draft) if has_begun else None

        with charged(charge):
            async with aclosing(events(called, _SDK, opening, patience, replies.says)) as coming:
                async for event in coming:
                    with parsing(called):
                        words = replies.take(draft, event)
                    if words:
                        on_delta(words)
                    if event.get("type") == "error":
                        raise rejected(called, event)
                    if event.get("type") in replies.ENDS:
                        await finish(coming)  # else the connection could not be used again
                        with parsing(called):
                            return replies.reply(model, request, draft)
            raise transport_failed(called, "ended its stream before the answer was complete")
