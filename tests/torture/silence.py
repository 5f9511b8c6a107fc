"""Connections to Postgres that fall silent and stay open, as through a frozen pooler.

Worker and client reach the server through a proxy of ours. It falls silent: what comes is taken and
answered by nothing, and no connection is closed. After a while new connections work again, the old
ones never speak any more. Whoever waits on one of them has to give it up by himself.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from substrate import Client, Context, OutcomeUnknown, WorkerOptions, connect, durable
from substrate.values.errors import StoreUnreachable
from tests.crew import Outside, WorkerProcess
from tests.leftovers import left_open
from tests.processes import Process
from tests.torture.tally import LEFT_OPEN, LOST, NEVER_BACK, ONCE_TWICE, Tally

LIMITS = WorkerOptions(lease=timedelta(seconds=2), poll=timedelta(milliseconds=50))
SILENT_S = 4.0
BACK_S = 60.0
"""Within so long after it a worker has to work again, over new connections."""

STEPS = 40


async def send(folder: str, what: str) -> str:
    """Do something that may be done once."""
    Outside(Path(folder)).note(f"send {what}")
    await asyncio.sleep(0.05)
    return what


@durable
async def talks(ctx: Context, folder: str) -> int:
    for i in range(STEPS):
        with suppress(OutcomeUnknown):
            await ctx.step(send, folder, f"{ctx.run_id} {i}", effect="once")
    return STEPS


class Proxy:
    """Passes bytes between clients and a server, until it falls silent."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._heard: list[asyncio.Event] = []
        self._is_silent = False
        self._served: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection for as long as both sides speak."""
        self._served.add(asyncio.create_task(self._serve(reader, writer)))

    async def close(self) -> None:
        """Let go of every connection."""
        for task in self._served:
            task.cancel()
        await asyncio.wait(self._served)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_silent:
            await asyncio.Event().wait()
        may_speak = asyncio.Event()
        may_speak.set()
        self._heard.append(may_speak)
        theirs, ours = await asyncio.open_unix_connection(self._server)
        await asyncio.gather(_pass_on(reader, ours, may_speak), _pass_on(theirs, writer, may_speak))

    def fall_silent(self) -> None:
        """Let no connection that there is speak again, and no new one begin."""
        self._is_silent = True
        for may_speak in self._heard:
            may_speak.clear()
        self._heard.clear()

    def take_calls(self) -> None:
        """Let new connections work."""
        self._is_silent = False


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_speak: asyncio.Event
) -> None:
    try:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await may_speak.wait()
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """Put a proxy in front of a server; yield the URL of the same database through it."""
    parts = urlsplit(url)
    socket = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
    proxy = Proxy(socket)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}?sslmode=disable", proxy
    finally:
        server.close()
        await proxy.close()


async def silent_connections(url: str, folder: Path, runs: int, rounds: int, tally: Tally) -> None:
    """Let connections fall silent so often under a worker; see that it comes back, and compare."""
    folder.mkdir(parents=True, exist_ok=True)
    async with connect(url) as client, proxied(url) as (through, proxy):
        for i in range(runs):
            await client.start(talks, str(folder), id=f"silence/{i}")
        process = Process(target=_be_worker, args=(through,))
        process.start()
        worker = WorkerProcess(process)
        try:
            for number in range(rounds):
                await asyncio.sleep(1.5)
                proxy.fall_silent()
                tally.counts["silences"] += 1
                await asyncio.sleep(SILENT_S)
                proxy.take_calls()
                await _comes_back(client, folder, f"silence/back-{number}", tally)
            for i in range(runs):
                await _compare(client, f"silence/{i}", tally)
        finally:
            worker.kill()
    for what, times in Outside(folder).notes.items():
        if what.startswith("send ") and times > 1:
            tally.fault(ONCE_TWICE, what)
    for id_ in left_open(url):
        tally.fault(LEFT_OPEN, id_)
    tally.counts["runs"] += runs


async def _comes_back(client: Client, folder: Path, id_: str, tally: Tally) -> None:
    """See that the only worker works again, and tell how long that took."""
    began = time.monotonic()
    await client.start(talks, str(folder), id=id_)
    note = f"send {id_} 0"
    while not Outside(folder).notes[note]:
        if time.monotonic() - began > BACK_S:
            tally.fault(NEVER_BACK, f"{id_} was not begun {BACK_S:g} s after a silence")
            return
        await asyncio.sleep(0.05)
    took = f"seconds until a worker was back, at most {round(time.monotonic() - began + 0.5)}"
    tally.counts[took] += 1


async def _compare(client: Client, id_: str, tally: Tally) -> None:
    try:
        async with asyncio.timeout(60):
            await client.result(id_)
    except Exception as error:  # noqa: BLE001 - counted
        tally.fault(LOST, f"{id_}: {type(error).__name__}: {error}")


def _be_worker(url: str) -> None:
    logging.getLogger("ostinato").setLevel(logging.CRITICAL)
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    while True:
        with suppress(StoreUnreachable):
            async with connect(url) as client, client.work([talks], options=LIMITS):
                await asyncio.Event().wait()
        await asyncio.sleep(0.1)
