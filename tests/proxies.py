"""A way to Postgres that can fail as networks do: in silence, with every connection still open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_KEY_DATA = b"K\x00\x00\x00\x0c"  # how the message begins that names the backend's process


@dataclass(slots=True, eq=False)
class Line:
    """One connection through the proxy. What is swallowed is gone for ever."""

    swallows_questions: bool = False
    swallows_answers: bool = False


class Proxy:
    """A proxy on the loopback to a server's socket."""

    def __init__(self, url: str, *, is_pooler: bool = False) -> None:
        self.delay = 0.0
        self.is_silent = False
        """Whether new connections are accepted, and never answered."""
        self.accepted = 0
        self._parts = urlsplit(url)
        self._is_pooler = is_pooler
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the same database through the proxy, to which nobody is long in connecting."""
        address = self._server.sockets[0].getsockname()
        way = f"{self._parts.username}@127.0.0.1:{address[1]}{self._parts.path}"
        return f"postgresql://{way}?connect_timeout=2"

    def fall_silent(self, *, only_answers: bool = False) -> None:
        """Let every connection that is open swallow what is sent, now and for ever."""
        for line in self._lines:
            line.swallows_answers = True
            line.swallows_questions = not only_answers

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        """Close every connection."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        line = Line(self.is_silent, self.is_silent)
        self._lines.add(line)
        folder = parse_qs(self._parts.query)["host"][0]
        port = self._parts.port or 5432
        try:
            answers, questions = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        except OSError:
            writer.close()
            return
        with suppress(asyncio.CancelledError):  # the proxy is closed, which streams take ill
            await asyncio.gather(
                self._pump(reader, questions, line, are_answers=False),
                self._pump(answers, writer, line, are_answers=True),
            )
        self._lines.discard(line)
        writer.close()
        questions.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        line: Line,
        *,
        are_answers: bool,
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                if line.swallows_answers if are_answers else line.swallows_questions:
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                if are_answers and self._is_pooler and _KEY_DATA in data:
                    at = data.index(_KEY_DATA) + len(_KEY_DATA)
                    data = data[:at] + b"\x00\x00\x00\x01" + data[at + 4 :]
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.write_eof()


@asynccontextmanager
async def proxy_to(url: str, *, is_pooler: bool = False) -> AsyncIterator[Proxy]:
    """Run a proxy to a server for the block.

    As a pooler it invents the number of the backend's process, as poolers do.
    """
    proxy = Proxy(url, is_pooler=is_pooler)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
