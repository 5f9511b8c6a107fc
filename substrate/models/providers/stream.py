"""An answer as it comes in: the events of an SDK's stream, as plain JSON.

An adapter has its SDK decode events to `object`, JSON as it came: what an SDK's own types make of
an event loses what they do not know, and some of it has to go back byte for byte.

What an answer's headers say of the limits is handed to the `RateLimiter` of the call.

Silence is measured in events that say something: a server, or a gateway before it, can send its
keep-alives for hours beside a model that died.

Invariants: whatever breaks while the stream is read is raised as `ModelError`; what the reader of
the events raises is not touched; the response is closed when the reader is done, however it ends.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from substrate.models.limits.limiter import observe_headers
from substrate.models.messages import Json, Usage
from substrate.models.providers.failures import Translator, transport_failed
from substrate.models.request import Request
from substrate.values.errors import ModelError, TransportFailed

DRAIN_S = 0.25
"""How long to wait for the end of a stream whose answer is complete."""

COUNTS_S = 2.0
"""How long to wait for it where the tokens are counted after the answer."""

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is waited for.

    An answer that comes in several calls, one after the other, is one answer.
    """

    #: For how many seconds nothing may be said.
    silence_s: float
    #: For how many seconds it may come in.
    whole_s: float
    #: When these are over, by the event loop's clock.
    ends: float

    @classmethod
    def of(cls, request: Request) -> "Patience":
        """Return what the request says, from now on."""
        whole_s = request.call_timeout_s
        now = asyncio.get_running_loop().time()
        return cls(request.read_timeout_s, whole_s, now + whole_s)


Says = Callable[[dict[str, Json]], bool]
"""Whether an event says something; a keep-alive, or a delta of nothing, does not."""


async def events(
    model: str, sdk: Translator, opening: Opening, patience: Patience, says: Says
) -> Events:
    """Yield the events of a call as they come in. Close it when done, `contextlib.aclosing`."""
    now = asyncio.get_running_loop().time

    async def within(until: float, coming: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(min(until, patience.ends)):
                return await coming
        except TimeoutError as error:
            if until < patience.ends:
                what = f"said nothing for {patience.silence_s:g} s (read_timeout)"
            else:
                what = f"did not end its answer in {patience.whole_s:g} s (call_timeout)"
            raise transport_failed(model, what) from error

    is_taken = False
    try:
        with sdk.failing_as_ours(model):
            # Until the answer begins there are no keep-alives: the transport's own limit is enough.
            async with await within(patience.ends, opening) as stream:
                headers = stream.response.headers
                observe_headers(headers)
                # A page where an answer belongs is no model that has read anything.
                is_taken = headers.get("content-type", "").startswith(EVENT_STREAM)
                source, heard_at, has_come = aiter(stream), now(), False
                while True:
                    event = await within(heard_at + patience.silence_s, _next(source))
                    if event is _END:
                        if not has_come:
                            raise transport_failed(model, "ended its stream without a word")
                        return
                    if not isinstance(event, dict):
                        raise transport_failed(model, f"sent {event!r} where an event belongs")
                    has_come = True
                    yield event
                    if says(event):  # what the reader did with it is no silence of theirs
                        heard_at = now()
    except TransportFailed as error:
        error.was_taken = is_taken
        raise


EVENT_STREAM = "text/event-stream"
"""The media type of a stream that a provider has begun."""

_END = object()


async def _next(source: AsyncIterator[object]) -> object:
    return await anext(source, _END)


@contextmanager
def charged(usage: Callable[[ModelError], Usage | None]) -> Iterator[None]:
    """Put what an answer had used into the failure that ends it, where the failure has no usage.

    `usage` is given the failure, which knows whether the call was taken, so that at least what it
    read was charged. It gives None where nothing had come of one that was not: then nothing was,
    as far as is known.
    """
    try:
        yield
    except ModelError as error:
        if error.usage is None:
            error.usage = usage(error)
        raise


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
