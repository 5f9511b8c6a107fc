"""The connection of one hop: to an address that was judged, and worth only so much work.

A server can keep a client busy with next to nothing: interim answers without end, a page in chunks
of one byte, compressed blocks that hold nothing. All of it is parsed on the event loop, where the
other runs wait. So beside the page's length, which `fetch` limits, this module limits the bytes
that come over the wire and the pieces that they come in, and lets others run between two reads.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore2
import httpx2

HEAD_BYTES = 128_000
"""What may come before the page begins: interim answers, status and headers, of every one."""

PER_READ = 16_000
"""Bytes taken at once, which bounds how long their parsing holds the event loop up."""

PIECES = 10_000
"""In how many pieces a page may come, and one more for every `PIECE_BYTES` of its limit."""

PIECE_BYTES = 100

PAUSE_EVERY = 200
"""Pieces between two turns of the event loop, if no read comes in between."""


class TooMuch(Exception):
    """The server sent more than is read; the message says of what."""


class Allowance:
    """How many bytes a hop may still send."""

    def __init__(self) -> None:
        self._left = HEAD_BYTES
        self._what = f"more than {HEAD_BYTES} bytes before the page itself"

    def begin_page(self, max_bytes: int) -> None:
        """Allow four times the page's limit: it is what chunks and their framing cost."""
        self._left += 4 * max_bytes
        self._what = f"more than {4 * max_bytes} bytes for a page of at most {max_bytes}"

    def spend(self, count: int) -> None:
        """Take note of what came. Raises `TooMuch` when it is over."""
        self._left -= count
        if self._left < 0:
            raise TooMuch(self._what)


class Backend(httpcore2.AnyIOBackend):
    """Connects as usual; what is read over a connection is spent."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Open a connection to an address."""
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._allowance)


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection of which each byte is counted, inside of TLS."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(min(max_bytes, PER_READ), timeout)
        self._allowance.spend(len(data))
        await asyncio.sleep(0)  # a read of what has come already does not wait
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _Stream(stream, self._allowance)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Pieces(httpx2.AsyncByteStream):
    """A page's body as it comes, of a limited number of pieces."""

    def __init__(self, answer: httpcore2.Response, max_bytes: int) -> None:
        self._answer = answer
        self._limit = PIECES + max_bytes // PIECE_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces. Raises `TooMuch` when they are too many."""
        count = 0
        async for piece in self._answer.aiter_stream():
            count += 1
            if count > self._limit:
                raise TooMuch(f"its page in more than {self._limit} pieces")
            if count % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
            yield piece

    async def aclose(self) -> None:
        """Close the connection."""
        await self._answer.aclose()
