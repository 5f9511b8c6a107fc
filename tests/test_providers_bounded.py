"""A server that never ends its answer, or has it grow, makes a call fail and no process grow."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache

import pytest

from substrate.models.model import Model
from substrate.models.providers.bounded import (
    LONGEST_ANSWER,
    LONGEST_BODY,
    LONGEST_EVENT,
    MOST_LINES,
    AnswerRefused,
    bounding,
)
from substrate.models.providers.registry import disconnect
from substrate.values.errors import ModelError, TransportFailed
from tests.llm_providers import SETUPS, failure

MIB = 2**20
EVENTS = "text/event-stream"
JSON = "application/json"


@pytest.fixture(params=sorted(SETUPS))
def provider(request):
    """Name each provider in turn."""
    return request.param


@dataclass
class Sent:
    """How many bytes of a body have gone out."""

    bytes: int = 0


@asynccontextmanager
async def sending(
    monkeypatch, provider: str, head: str, pieces: Iterable[bytes]
) -> AsyncIterator[Sent]:
    """Point the provider's SDK at a server that answers with this head, and all of the pieces."""
    sent = Sent()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {head}\r\nconnection: close\r\n\r\n".encode())
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                sent.bytes += len(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    setup = SETUPS[provider]
    setup.env(monkeypatch, f"http://127.0.0.1:{port}{setup.wire_path}")
    try:
        yield sent
    finally:
        server.close()
        await disconnect()


def endless(piece: bytes, before: bytes = b"") -> Iterable[bytes]:
    """Yield much more than may be read: a test that fails ends, too."""
    yield before
    for _ in range(4 * LONGEST_ANSWER // len(piece)):
        yield piece


@pytest.mark.parametrize(
    "provider, status", [*((each, 200) for each in sorted(SETUPS)), ("openai", 400)]
)
async def test_a_line_without_end(monkeypatch, provider, status):
    """An event that never ends is given up once it is longer than any event is."""
    head = f"{status} x\r\ncontent-type: {EVENTS if status == 200 else JSON}"
    pieces = endless(b"a" * 65536, b"data: ")
    async with sending(monkeypatch, provider, head, pieces) as sent:
        error = await failure(Model(SETUPS[provider].model))

    assert isinstance(error, ModelError)
    assert max(LONGEST_EVENT, LONGEST_BODY) / 2 < sent.bytes < 2 * LONGEST_EVENT
    assert "16 MiB" in str(error)


async def test_lines_without_end(monkeypatch, provider):
    """An event of very many lines, each of which is copied with all before it, is given up soon."""
    head = f"200 x\r\ncontent-type: {EVENTS}"
    async with sending(monkeypatch, provider, head, endless(b"a\n" * 32768)) as sent:
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is TransportFailed
    assert f"more than {MOST_LINES} lines" in str(error)
    assert sent.bytes < 4 * MIB


@cache
def a_bomb() -> bytes:
    """Return a few bytes that decode to more than may be read."""
    return gzip.compress(b"data: " + b"a" * (128 * MIB), 1)


@pytest.mark.parametrize("status", [200, 400])
async def test_what_grows_when_it_is_decoded(monkeypatch, provider, status):
    """A small body that decodes to a large one is given up, and never held."""
    bomb = a_bomb()
    kind = EVENTS if status == 200 else JSON
    head = f"{status} x\r\ncontent-type: {kind}\r\ncontent-encoding: gzip"
    async with sending(monkeypatch, provider, head, [bomb]):
        tracemalloc.start()
        try:
            error = await failure(Model(SETUPS[provider].model))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert isinstance(error, ModelError)
    assert most < 160 * MIB  # one step of a decoder is 64 MiB at most


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip, gzip"])
async def test_encodings_without_a_bound(monkeypatch, provider, encoding):
    """An encoding that may grow without bound in one step is not decoded."""
    head = f"200 x\r\ncontent-type: {EVENTS}\r\ncontent-encoding: {encoding}"
    async with sending(monkeypatch, provider, head, [b"data: x\n\n"]):
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is TransportFailed
    assert repr(encoding) in str(error)


async def test_events_that_are_too_deep(monkeypatch, provider):
    """An event that is nested too deeply to be read is an answer that makes no sense."""
    head = f"200 x\r\ncontent-type: {EVENTS}"
    async with sending(monkeypatch, provider, head, [b"data: " + b"[" * 100_000 + b"\n\n"]):
        error = await failure(Model(SETUPS[provider].model))

    assert type(error) is TransportFailed
    assert SETUPS[provider].model in str(error)


async def test_events_without_end(monkeypatch):
    """A stream of good events is given up once it is longer than any answer is."""
    word = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"h" * MIB)
    pieces = endless(word)
    async with sending(
        monkeypatch, "openai-chat", f"200 x\r\ncontent-type: {EVENTS}", pieces
    ) as sent:
        error = await failure(Model(SETUPS["openai-chat"].model))

    assert type(error) is TransportFailed
    assert "longer than 64 MiB" in str(error)
    assert error.usage is not None
    assert sent.bytes < LONGEST_ANSWER + 16 * MIB


class Response:
    """A body in pieces, as the hook of an HTTP client is given it."""

    def __init__(self, *pieces: bytes, status: int = 200, kind: str = EVENTS) -> None:
        self.pieces = pieces
        self.status_code = status
        self.headers = {"content-type": kind}

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        for piece in self.pieces:
            yield piece


async def read(response: Response, *, reads_all_as_events: bool = True) -> bytes:
    """Read a body through the hook."""
    await bounding(reads_all_as_events=reads_all_as_events)(response)
    return b"".join([piece async for piece in response.aiter_bytes()])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_that_end(end, size):
    """Events that end are as many as they like, wherever they are cut into pieces."""
    line = end[: len(end) // 2]
    body = (b"event: a" + line + b"data: b" + end) * (MOST_LINES * 2)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]

    assert await read(Response(*pieces)) == body


@pytest.mark.parametrize(
    "response, as_events",
    [
        (Response(b"a\n" * 300), True),
        (Response(*[b"a\n"] * 300), True),
        (Response(b"\n\n", b"a\r" * 300), True),
        (Response(b"a\r\n" * 200, b"b\n\n" * 9), True),
        (Response(b"a\n" * 300, kind=JSON), True),
        (Response(b"a\n" * 300), False),
        (Response(*[b"a" * MIB] * 17), True),
        (Response(*[b"a" * MIB] * 17, kind=JSON), False),
        (Response(*[b"a" * MIB] * 17, kind=JSON, status=500), True),
        (Response(*[b"a" * MIB + b"\n\n"] * 65), True),
    ],
)
async def test_too_much(response, as_events):
    """What is too much is refused before it is read, in whatever pieces and kind it comes."""
    with pytest.raises(AnswerRefused):
        await read(response, reads_all_as_events=as_events)


async def test_json_of_many_lines():
    """A body that is read as JSON may have any number of lines."""
    body = b"[\n" + b"1,\n" * 1000 + b"2]"

    assert await read(Response(body, kind=JSON), reads_all_as_events=False) == body
