"""Anthropic's Messages API, over its own SDK.

`claude` has what is said and what comes back.

Invariants: an answer counts only when `message_stop` has come and a stop reason with it. A turn
that pauses for the provider's own tools is continued, and counted once.
"""

from contextlib import aclosing

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

from substrate.models import claude, prices
from substrate.models.address import Address
from substrate.models.claude import PROVIDER, Draft
from substrate.models.failures import Sdk, broken, overflowed, sensible
from substrate.models.messages import Delta, Json, Reply, Request
from substrate.models.stream import events, finish
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
    """The adapter: one client and its connections."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: Delta) -> Reply:
        """Ask once. An answer that pauses for the provider's own tools is continued."""
        body = claude.body(model, request)
        asked: list[Json] = body["messages"]
        drafts: list[Draft] = []
        while len(drafts) <= MOST_PAUSES:
            drafts.append(await self._stream(body, request.read_timeout_s, on_delta))
            if drafts[-1].stop != "pause_turn":
                with sensible(f"{PROVIDER}:{model}"):
                    return claude.reply(model, drafts)
            so_far = [block for draft in drafts for block in draft.content]
            body["messages"] = [*asked, {"role": "assistant", "content": so_far}]
        raise BadRequest(
            f"{PROVIDER}:{model} paused its turn {len(drafts)} times and did not end it; "
            "give its own tools a lower max_uses"
        )

    async def _stream(self, body: dict[str, Json], timeout_s: float, on_delta: Delta) -> Draft:
        model = f"{PROVIDER}:{body['model']}"
        opening = self._client.post(
            "/v1/messages",
            cast_to=object,
            body=body,
            options={"timeout": Timeout(timeout_s, connect=min(timeout_s, 10))},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        draft = Draft()
        async with aclosing(events(model, _SDK, opening)) as coming:
            async for event in coming:
                with sensible(model):
                    words = claude.take(draft, event)
                if words:
                    on_delta(words)
                if draft.is_complete:
                    await finish(coming)
        if not draft.is_complete or draft.stop is None:
            raise broken(model, "ended its stream before the answer was complete")
        if draft.stop == "model_context_window_exceeded":
            raise overflowed(model)
        return draft
