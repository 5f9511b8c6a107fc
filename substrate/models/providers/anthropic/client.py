"""Anthropic's Messages API, over its own SDK.

Invariants: an answer counts only when `message_stop` has come and a stop reason with it. A turn
that pauses for the provider's own tools is continued, and counted once.
"""

from contextlib import aclosing
from functools import partial

import anthropic
import httpx2
from anthropic import AsyncAnthropic

from substrate.models import prices
from substrate.models.messages import Reply, Usage
from substrate.models.parts import Json
from substrate.models.providers.address import Address
from substrate.models.providers.anthropic import reply as replies
from substrate.models.providers.anthropic.reply import PROVIDER
from substrate.models.providers.anthropic.request import body_of, longest_in, paused
from substrate.models.providers.failures import overflowed, parsing, transport_failed
from substrate.models.providers.sdk import Sdk
from substrate.models.providers.stream import Patience, charged, events, finish
from substrate.models.request import OnText, Request
from substrate.models.sendable import changed
from substrate.values.errors import BadRequest, ModelError

MOST_PAUSES = 8
"""How often one answer may pause for the provider's own tools before it counts as lost."""

_SDK = Sdk(anthropic, anthropic.AnthropicError, httpx2)


def connect(address: Address) -> "Anthropic":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    client = _SDK.client(
        AsyncAnthropic,
        PROVIDER,
        "check ANTHROPIC_BASE_URL and the key",
        api_key=address.key,
        base_url=address.base_url,
        open_telemetry=False,
    )
    return Anthropic(client)


class Anthropic:
    """The adapter: one client, its connections, and the longest answers, as models told it."""

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
            longest = longest_in(error.body)
            if longest is None or longest == self._longest.get(model):
                raise  # of something else, or asked for as much as it said already
            self._longest[model] = longest
            return await self._answer(model, self._limited(model, request), on_delta)

    def _limited(self, model: str, request: Request) -> Request:
        return changed(request, max_output_tokens=self._longest.get(model))

    async def _answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        body = body_of(model, request)
        asked: list[Json] = body["messages"]
        drafts: list[replies.Draft] = []
        patience = Patience.of(request)
        with charged(partial(_charge, model, request, drafts)):
            while len(drafts) <= MOST_PAUSES:
                drafts.append(replies.Draft())
                await self._stream(body, patience, drafts[-1], on_delta)
                if drafts[-1].stop != "pause_turn" or replies.calls_ours(drafts[-1]):
                    with parsing(f"{PROVIDER}:{model}"):
                        return replies.reply(model, request, drafts)
                # What it has said so far goes back as the last message: the API goes on from there.
                so_far = paused(drafts)
                turn = [{"role": "assistant", "content": so_far}] if so_far else []
                body["messages"] = [*asked, *turn]
            raise BadRequest(
                f"{PROVIDER}:{model} paused its turn {len(drafts)} times and did not end it; "
                "give its own tools a lower max_uses"
            )

    async def _stream(
        self, body: dict[str, Json], patience: Patience, draft: replies.Draft, on_delta: OnText
    ) -> None:
        model = f"{PROVIDER}:{body['model']}"
        opening = _SDK.open(self._client.post, "/v1/messages", body, patience.silence_s)
        async with aclosing(events(model, _SDK, opening, patience, replies.says)) as coming:
            async for event in coming:
                with parsing(model):
                    words = replies.take(draft, event)
                if words:
                    on_delta(words)
                if draft.is_complete:
                    await finish(coming)
        if not draft.is_complete or draft.stop is None:
            raise transport_failed(model, "ended its stream before the answer was complete")
        if draft.stop == "model_context_window_exceeded":
            raise overflowed(model)


def _charge(
    model: str, request: Request, drafts: list[replies.Draft], error: ModelError
) -> Usage | None:
    taken = drafts[-1:] if error.was_taken else []
    begun = [draft for draft in drafts if draft.has_begun or draft in taken]
    return replies.usage(model, request, begun) if begun else None
