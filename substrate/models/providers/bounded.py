"""Answers of a server, bounded: one that never ends its answer fills no memory and blocks no loop.

A reader keeps the event that is coming in until it is complete, and copies it at each of its lines.
So bytes are counted before a reader gets them, as they are after decoding.

Invariants: of a stream of events, at most `LONGEST_ANSWER` bytes are read, and of one event at most
`LONGEST_EVENT` bytes and `MOST_LINES` lines; of any other body at most `LONGEST_BODY` bytes. An
encoding that can grow without bound in one step is refused.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

LONGEST_ANSWER = 64 * 2**20
"""Bytes of a stream of events. The event of one token takes 200 to 500 bytes."""

LONGEST_EVENT = 16 * 2**20
"""Bytes of one event: a picture may lie in it."""

LONGEST_BODY = 16 * 2**20
"""Bytes of a body that is no stream of events, such as an error's."""

MOST_LINES = 256
"""Ends of lines in one event. Providers send two."""

# One of these grows at most a thousandfold in one step. Brotli, Zstandard and one encoding inside
# another have no such bound.
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class AnswerRefused(ValueError):
    """An answer is longer than any answer is, or is encoded in a way that nobody asked for."""


class Body(Protocol):
    """A response of httpx or httpx2 whose body has not been read."""

    status_code: int
    headers: Any
    aiter_bytes: Any


def bounding(*, reads_all_as_events: bool) -> Callable[[Any], Awaitable[None]]:
    """Return a hook of an HTTP client, by which the body of each response is counted when read.

    `reads_all_as_events`: whether the reader takes each successful answer for a stream of events,
    whatever its content type says.
    """

    async def bound(response: Body) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise AnswerRefused(f"its answer is encoded as {encoding[:40]!r}; nobody asked for it")
        says_events = response.headers.get("content-type", "").startswith("text/event-stream")
        is_events = says_events or (reads_all_as_events and response.status_code < 400)
        read = response.aiter_bytes

        async def counted(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            count = _Count(is_events=is_events)
            async for piece in read(chunk_size):
                count.add(piece)
                yield piece

        response.aiter_bytes = counted

    return bound


class _Count:
    """What has come of one body."""

    __slots__ = ("_bytes", "_end", "_event", "_is_events", "_lines")

    def __init__(self, *, is_events: bool) -> None:
        self._is_events = is_events
        self._bytes = 0
        self._event = 0
        self._lines = 0
        self._end = b""

    def add(self, piece: bytes) -> None:
        """Count a piece. Raises `AnswerRefused` when it is too much."""
        self._bytes += len(piece)
        longest = LONGEST_ANSWER if self._is_events else LONGEST_BODY
        if self._bytes > longest:
            raise AnswerRefused(f"its answer is longer than {longest // 2**20} MiB")
        if self._is_events:
            # The end of an event may lie in two pieces, so line ends before it are looked at again.
            first, *others = _END.split(self._end + piece)
            self._grow(first)
            for event in others:
                self._event = self._lines = 0
                self._grow(event)
            last = others[-1] if others else first
            self._end = last[len(last.rstrip(b"\r\n")) :][-3:]

    def _grow(self, part: bytes) -> None:
        self._event += len(part)
        self._lines += part.count(b"\n") + part.count(b"\r")
        if self._event > LONGEST_EVENT:
            raise AnswerRefused(f"one event is longer than {LONGEST_EVENT // 2**20} MiB")
        if self._lines > MOST_LINES:
            raise AnswerRefused(f"one event has more than {MOST_LINES} lines")
