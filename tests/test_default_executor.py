"""What hangs in the event loop's default executor holds up neither a skill nor a lease."""

import ast
import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed
from skills.web import fetch_url
from substrate import Client, Context, durable
from substrate.engine.worker.heartbeat import Heartbeat
from substrate.store.connect import open_store
from substrate.values.records import Owner

KIT = Path(__file__).resolve().parent.parent
SKILLS = sorted(path for path in KIT.glob("skills/*/**/*.py") if "tests" not in path.parts)
LEASE = [
    KIT / "substrate" / f"{name}.py"
    for name in (
        "engine/worker/heartbeat",
        "engine/worker/watchdog",
        "engine/run/lifecycle",
        "engine/run/threads",
        "store/sqlite/heartbeat",
        "store/postgres/heartbeat",
    )
]
SHARED = {"to_thread", "run_in_executor", "getaddrinfo", "getnameinfo", "open_connection"}


def uses(file: Path) -> list[str]:
    """Return where a file calls what runs in the default executor of a loop, or may."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [
        f"{file.name}:{call.lineno}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in SHARED
        and not (isinstance(call.func.value, ast.Name) and call.func.value.id == "socket")
    ]


@pytest.mark.parametrize("file", [*SKILLS, *LEASE], ids=lambda path: str(path.relative_to(KIT)))
def test_nothing_is_called_there(file: Path) -> None:
    """No skill, and nothing that keeps a lease, calls what the default executor does."""
    assert uses(file) == []


@asynccontextmanager
async def full() -> AsyncIterator[None]:
    """Fill the loop's default executor with calls that hang, for the block."""
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    size = min(32, (os.cpu_count() or 1) + 4)
    hanging = [loop.run_in_executor(None, go_on.wait, 60) for _ in range(size)]
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(None, int), 0.1)
        yield
    finally:
        go_on.set()
        await asyncio.gather(*hanging)


async def test_a_page_is_fetched_all_the_same() -> None:
    """A page of a host that must be looked up is fetched and made text of."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p>hello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with full(), server:
        fetching = fetch_url(allow_private=True).function(f"http://localhost:{port}/")
        result = await asyncio.wait_for(fetching, 10)

    assert result["text"] == "hello"


async def test_a_database_is_asked_all_the_same(tmp_path: Path, postgres_url: str) -> None:
    """A file is read and described, and a server answers, even if it is only to refuse."""
    (tmp_path / "empty.db").touch()
    url = f"sqlite:///{tmp_path / 'empty.db'}"

    async with full():
        answer = await asyncio.wait_for(query_sql(url).function("SELECT 1"), 20)
        described = await asyncio.wait_for(describe_schema(url).function(), 20)
        with pytest.raises(QueryFailed, match="is a superuser"):
            await asyncio.wait_for(query_sql(postgres_url).function("SELECT 1"), 20)

    assert (answer["rows"], described["tables"]) == ([[1]], [])


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@durable
async def adding(ctx: Context) -> int:
    """Make a step in a thread."""
    return await ctx.step(add, 1, 2)


async def test_a_lease_is_kept_and_runs_go_on(store_url: str) -> None:
    """A worker's heartbeat is acknowledged whenever it asks, and it drives its runs."""
    store = await open_store(store_url)
    heart = Heartbeat(store, Owner(str(uuid4())), timedelta(seconds=5))
    client = Client(store)

    async with client.work([adding]), full():
        await asyncio.wait_for(heart.born(), 10)
        for _ in range(5):
            before = heart._sent
            await asyncio.wait_for(heart.confirm(), 10)
            assert heart._sent > before
        await client.start(adding, id="run")
        assert await asyncio.wait_for(client.result("run"), 10) == 3

    heart.stop()
    await heart.ended(10)
    await store.close()
