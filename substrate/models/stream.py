"""An answer as it comes in: the events of an SDK's stream, as plain JSON.

An adapter has its SDK decode events to `object`, JSON as it came: what an SDK's own types make of
an event loses what they do not know, and some of it has to go back byte for byte.

What an answer's headers say of the limits is passed to the process's `Quota`.

Invariants: whatever breaks while the stream is read is raised as `ModelError`; what the reader of
the events raises is not touched; the response is closed when the reader is done, however it ends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

from substrate.models.failures import Translator, broken
from substrate.models.messages import Json
from substrate.models.quota import QUOTA
from substrate.values.errors import ModelError

DRAIN_S = 0.25
"""How long to wait for the end of a stream whose answer is complete."""

COUNTS_S = 2.0
"""How long to wait for it where the tokens are counted after the answer."""

Events = AsyncGenerator[dict[str, Json], None]


class Response(Protocol):
    """What begins a stream."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, their names in lower case."""
        ...


class Stream(Protocol):
    """A streaming call of an SDK that has begun: a context that closes it, and its events."""

    @property
    def response(self) -> Response:
        """What began it."""
        ...

    def __aiter__(self) -> AsyncIterator[object]:
        """Return its events."""
        ...


Opening = Awaitable[AbstractAsyncContextManager[Stream]]
"""A streaming call of an SDK, not yet awaited."""


async def events(model: str, sdk: Translator, opening: Opening) -> Events:
    """Yield the events of a call as they come in. Close it when done, `contextlib.aclosing`."""
    with sdk.failing_as_ours(model):
        async with await opening as stream:
            QUOTA.heard(model, stream.response.headers)
            async for event in stream:
                if not isinstance(event, dict):
                    raise broken(model, f"sent {event!r} where an event belongs")
                yield event


async def drain(rest: Events, patience_s: float = DRAIN_S) -> Events:
    """Yield what follows a complete answer, so that its connection can be used again.

    The answer stands whatever happens here, so nothing is raised, and nothing waited for long.
    """
    ends = asyncio.get_running_loop().time() + patience_s
    with suppress(ModelError, TimeoutError):
        while True:
            async with asyncio.timeout_at(ends):
                event = await anext(rest, None)
            if event is None:
                return
            yield event


async def finish(rest: Events) -> None:
    """Read what follows a complete answer, and forget it."""
    async for _ in drain(rest):
        pass
