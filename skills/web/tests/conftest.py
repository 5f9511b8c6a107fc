"""A web server on the loopback that answers, byte for byte, what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext

import pytest

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """What a server answers by path, and the heads of the requests that it got."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Return the address of a path."""
        return f"{scheme}://{host}:{self.port}{path}"

    def page(
        self,
        path: str,
        body: bytes | str = b"",
        kind: str | None = "text/plain",
        status: str = "200 OK",
        **headers: str,
    ) -> str:
        """Answer the path with a page, and return its address."""
        data = body.encode() if isinstance(body, str) else body
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", "Connection: keep-alive"]
        head += [f"Content-Type: {kind}"] if kind is not None else []
        head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.answers[path] = "\r\n".join([*head, "", ""]).encode() + data
        return self.url(path)

    def redirect(self, path: str, location: str, **headers: str) -> str:
        """Answer the path with a redirect, and return its address."""
        return self.page(path, status="302 Found", Location=location, **headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until the other side closes it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                answer = self.answers[head.split(" ")[1]]
                if callable(answer):
                    await answer(reader, writer)
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(tls: SSLContext | None = None) -> AsyncIterator[Site]:
    """Run a server for the block."""
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Provide a running server without pages."""
    async with running() as site:
        yield site


@pytest.fixture
async def other_site() -> AsyncIterator[Site]:
    """Provide another server on the same address."""
    async with running() as site:
        yield site


@pytest.fixture
def run_site():
    """Return what runs a server, with TLS where it is given a context."""
    return running


@pytest.fixture
def hang():
    """Return an answer that begins with the bytes given and then never goes on."""

    def make(begin: bytes = b"") -> Answer:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(begin)
            await writer.drain()
            await reader.read()  # until the other side closes the connection

        return answer

    return make


@pytest.fixture
def resolver():
    """Return what makes a resolver of names that answers as told and keeps what it was asked."""

    def make(**answers: list) -> Callable[..., Awaitable[list]]:
        async def resolve(host: str, port: int) -> list:
            resolve.asked.append(host)
            return answers[host.partition(".")[0]]

        resolve.asked = []
        return resolve

    return make
