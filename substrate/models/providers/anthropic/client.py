"""Anthropic's Messages API, over its own SDK.

`claude` has what is said and what comes back.

Invariants: an answer counts only when `message_stop` has come and a stop reason with it. A turn
that pauses for the provider's own tools is continued, and counted once.
"""

from contextlib import aclosing
from dataclasses import replace

import httpx2
from anthropic import (
    AnthropicError,
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncAnthropic,
    AsyncStream,
    Timeout,
)

from substrate.models import prices
from substrate.models.messages import Json, OnText, Reply, Request, Usage
from substrate.models.providers.address import Address
from substrate.models.providers.anthropic import wire as claude
from substrate.models.providers.anthropic.wire import PROVIDER, Draft
from substrate.models.providers.failures import Sdk, broken, overflowed, parsing
from substrate.models.providers.stream import Patience, charged, events, finish
from substrate.values.errors import BadRequest

MOST_PAUSES = 8
"""How often one answer may pause for the provider's own tools before it counts as lost."""

_SDK = Sdk(
    status=APIStatusError,
    connection=APIConnectionError,
    api=APIError,
    sdk=AnthropicError,
    transport=httpx2.HTTPError,
)


def connect(address: Address) -> "Anthropic":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    try:
        return Anthropic(
            AsyncAnthropic(
                api_key=address.key, base_url=address.base_url, max_retries=0, open_telemetry=False
            )
        )
    except (AnthropicError, httpx2.InvalidURL) as error:
        raise BadRequest(f"{PROVIDER}: {error}; check ANTHROPIC_BASE_URL and the key") from error


class Anthropic:
    """The adapter: one client, its connections, and how long answers may be, where it was told."""

    __slots__ = ("_client", "_longest")

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client
        self._longest: dict[str, int] = {}

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once. An answer that pauses for the provider's own tools is continued.

        A model that cannot write as much as was asked for in its place is asked for what it can.
        """
        if request.max_output_tokens is not None:
            return await self._answer(model, request, on_delta)
        try:
            return await self._answer(model, self._limited(model, request), on_delta)
        except BadRequest as error:
            longest = claude.longest_in(error.body)
            if longest is None or longest == self._longest.get(model):
                raise
            self._longest[model] = longest
            return await self._answer(model, self._limited(model, request), on_delta)

    def _limited(self, model: str, request: Request) -> Request:
        return replace(request, max_output_tokens=self._longest.get(model))

    async def _answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        body = claude.body(model, request)
        asked: list[Json] = body["messages"]
        drafts: list[Draft] = []
        patience = Patience.of(request)
        with charged(lambda: _charge(model, request, drafts)):
            while len(drafts) <= MOST_PAUSES:
                drafts.append(Draft())
                await self._stream(body, patience, drafts[-1], on_delta)
                if drafts[-1].stop != "pause_turn" or claude.calls_ours(drafts[-1]):
                    with parsing(f"{PROVIDER}:{model}"):
                        return claude.reply(model, request, drafts)
                so_far = claude.paused(drafts)
                said = [{"role": "assistant", "content": so_far}] if so_far else []
                body["messages"] = [*asked, *said]
            raise BadRequest(
                f"{PROVIDER}:{model} paused its turn {len(drafts)} times and did not end it; "
                "give its own tools a lower max_uses"
            )

    async def _stream(
        self, body: dict[str, Json], patience: Patience, draft: Draft, on_delta: OnText
    ) -> None:
        model = f"{PROVIDER}:{body['model']}"
        opening = self._client.post(
            "/v1/messages",
            cast_to=object,
            body=body,
            options={
                "timeout": Timeout(patience.silence_s, connect=min(patience.silence_s, 10)),
                "follow_redirects": False,
            },
            stream=True,
            stream_cls=AsyncStream[object],
        )
        async with aclosing(events(model, _SDK, opening, patience, claude.says)) as coming:
            async for event in coming:
                with parsing(model):
                    words = claude.take(draft, event)
                if words:
                    on_delta(words)
                if draft.is_complete:
                    await finish(coming)
        if not draft.is_complete or draft.stop is None:
            raise broken(model, "ended its stream before the answer was complete")
        if draft.stop == "model_context_window_exceeded":
            raise overflowed(model)


def _charge(model: str, request: Request, drafts: list[Draft]) -> Usage | None:
    begun = [draft for draft in drafts if draft.has_begun]
    return claude.usage(model, request, begun) if begun else None
