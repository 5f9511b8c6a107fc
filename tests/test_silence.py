"""A database that is there and does not answer stops nobody for good: each wait for it ends."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from substrate import Client, Context, WorkerOptions, connect, durable
from substrate.store.postgres import PostgresBackend
from substrate.store.postgres.connections import Connections
from substrate.store.postgres.deadline import ANSWER_WAIT, STATEMENT_WAIT
from substrate.store.postgres.session import Cursor
from substrate.store.store import Store
from substrate.values.errors import StoreUnreachable
from tests.postgres import fresh_database, postgres
from tests.proxies import Proxy, proxy_to
from tests.runs import reached
from tests.stores import LIMIT_S, claimed, database, eventually, opened
from tests.stores import signal as a_signal

calls: Counter[str] = Counter()
LIMITS = WorkerOptions(
    lease=timedelta(seconds=3), poll=timedelta(milliseconds=50), shutdown_grace=timedelta(seconds=1)
)
WAIT = 0.7
"""How many seconds the stores of these tests wait for an answer."""


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def count(what: str) -> str:
    calls[what] += 1
    return what


@durable
async def job(ctx: Context, name: str) -> Any:
    """Take a step, wait for a signal, and take another one."""
    await ctx.step(count, f"{name} begins")
    told = await ctx.receive("go")
    await ctx.step(count, f"{name} ends")
    return told


@asynccontextmanager
async def through(proxy: Proxy) -> AsyncIterator[Client]:
    """Open a client that reaches its database through the proxy, and does not wait long."""
    backend = PostgresBackend(proxy.url, answer_wait=WAIT)
    await backend.open()
    store = Store(backend)
    try:
        yield Client(store)
    finally:
        await store.close()


async def patiently(call: Any) -> Any:
    """Ask until the database answers."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await call()
            except StoreUnreachable:
                await asyncio.sleep(0.05)


async def test_a_call_on_a_silent_connection(postgres_url):
    """A call on a connection that never answers raises in time, and the next one is answered."""
    async with proxy_to(postgres_url) as proxy, through(proxy) as client:
        await asyncio.gather(*(client.list() for _ in range(10)))
        proxy.fall_silent()
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match="has not answered for"):
            await client.start(job, "a", id="run")
        took = time.monotonic() - began
        began = time.monotonic()
        await client.start(job, "a", id="run")
        took_after = time.monotonic() - began

    assert WAIT <= took < WAIT + 2
    assert took_after < WAIT  # none of the other silent ones is asked


async def test_connecting_to_silence(postgres_url):
    """Who connects to what accepts and never answers is told so in time."""
    async with proxy_to(postgres_url) as proxy:
        proxy.is_silent = True
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match="cannot be reached"):
            async with connect(proxy.url):
                pass

    assert time.monotonic() - began < 5


async def test_a_worker_survives_silent_connections(postgres_url):
    """When every connection of a worker falls silent, it opens others and loses no lease."""
    async with (
        proxy_to(postgres_url) as proxy,
        through(proxy) as client,
        client.work([job], options=LIMITS),
        connect(postgres_url) as other,
    ):
        await client.start(job, "a", id="run")
        await reached(other, "run", "go.0")
        proxy.fall_silent()
        await other.signal("run", "go", "done")
        assert await other.result("run") == "done"
        # The lease would have lapsed since, had the heartbeat waited for its silent connection.
        await asyncio.sleep(LIMITS.lease.total_seconds())
        await other.start(job, "b", id="next")
        await reached(other, "next", "go.0")
        runs = [await other.get("run"), await other.get("next")]

    assert calls == {"a begins": 1, "a ends": 1, "b begins": 1}
    assert [(run.epoch, run.crashes) for run in runs] == [(1, 0), (1, 0)]


async def test_a_worker_comes_back_from_silence(postgres_url):
    """Cut off for longer than its lease, a worker lets go, and takes runs again afterwards."""
    limits = WorkerOptions(
        lease=timedelta(seconds=1),
        poll=timedelta(milliseconds=50),
        shutdown_grace=timedelta(seconds=1),
    )
    async with (
        proxy_to(postgres_url) as proxy,
        through(proxy) as client,
        client.work([job], options=limits) as worker,
        connect(postgres_url) as other,
    ):
        await client.start(job, "a", id="run")
        await reached(other, "run", "go.0")
        proxy.is_silent = True
        proxy.fall_silent()
        async with other.work([job], options=limits):
            await other.signal("run", "go", "done")
            assert await other.result("run") == "done"
        await eventually(lambda: worker.running == 0)
        proxy.fall_silent()  # what was tried meanwhile never answers, either
        proxy.is_silent = False
        await other.start(job, "b", id="next")
        await other.signal("next", "go", "done too")
        async with asyncio.timeout(LIMIT_S):
            assert await other.result("next") == "done too"

    assert calls == {"a begins": 1, "a ends": 1, "b begins": 1, "b ends": 1}


async def test_a_commit_whose_answer_is_lost(postgres_url):
    """A commit that the server made and whose answer never came is read back, not made again."""
    async with proxy_to(postgres_url) as proxy, through(proxy) as client:

        async def lose_answers() -> str:
            proxy.fall_silent(only_answers=True)
            return await count("step")

        @durable
        async def loses(ctx: Context) -> str:
            told = await ctx.step(lose_answers)
            return told + await ctx.step(count, "next")

        async with client.work([loses], options=LIMITS), connect(postgres_url) as other:
            await client.start(loses, id="run")
            assert await other.result("run") == "stepnext"
            run = await other.get("run")

    assert calls == {"step": 1, "next": 1}
    assert (run.epoch, run.crashes) == (1, 0)


async def test_a_backend_that_stands_still():
    """A server process that is stopped in the middle costs its connection, and no run."""
    with postgres() as dsn, fresh_database(dsn) as url:
        backend = PostgresBackend(url, answer_wait=WAIT)
        await backend.open()
        store = Store(backend)
        client = Client(store)
        async with client.work([job], options=LIMITS), connect(url) as other:
            await client.start(job, "a", id="run")
            await reached(other, "run", "go.0")
            (stopped,) = await store.backend._connections.on_committer(_backend)
            os.kill(stopped, signal.SIGSTOP)
            try:
                await client.signal("run", "go", "done")
                assert await other.result("run") == "done"
            finally:
                os.kill(stopped, signal.SIGCONT)
        await store.close()

    assert calls == {"a begins": 1, "a ends": 1}


async def _backend(db: Cursor) -> tuple[int]:
    cursor = await db.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return (row[0],)


async def test_slow_answers_are_answers(postgres_url):
    """A way that delays everything costs time, and neither a lease nor a call."""
    async with proxy_to(postgres_url) as proxy, through(proxy) as client:
        proxy.delay = 0.02
        async with client.work([job], options=LIMITS):
            await patiently(lambda: client.start(job, "a", id="run"))
            await client.signal("run", "go", "done")
            assert await client.result("run") == "done"
            assert (await client.get("run")).epoch == 1

    assert calls == {"a begins": 1, "a ends": 1}


async def test_closing_in_silence(postgres_url):
    """A worker and its client close in time though nothing answers any more."""
    async with proxy_to(postgres_url) as proxy:
        backend = PostgresBackend(proxy.url)
        await backend.open()
        store = Store(backend)
        async with Client(store).work([job], options=LIMITS):
            await Client(store).start(job, "a", id="run")
            await reached(Client(store), "run", "go.0")
            proxy.is_silent = True
            proxy.fall_silent()
            began = time.monotonic()
        await store.close()
        took = time.monotonic() - began

    assert took < LIMITS.shutdown_grace.total_seconds() + 16


async def test_the_server_gives_a_statement_up_first():
    """A direct connection has the server itself end what waits for a lock, before we cut it."""
    assert STATEMENT_WAIT < ANSWER_WAIT


@pytest.mark.parametrize(
    "given, kept", [("0", "20s"), ("1h", "20s"), ("20s", "20s"), ("7s", "7s"), ("90ms", "90ms")]
)
async def test_patience_is_the_lesser(postgres_url, given, kept):
    """The limit that an administrator has put on statements stands where it is the shorter one."""
    with database(postgres_url) as db:
        name = db.value("SELECT current_database()")
        db.rows(f"ALTER DATABASE \"{name}\" SET statement_timeout = '{given}'")
    connections = Connections(postgres_url)

    async def shown(db: Cursor) -> Any:
        return await (await db.execute("SHOW statement_timeout")).fetchone()

    assert await connections.on_pool(shown) == (kept,)
    await connections.close()


async def test_a_lock_is_no_silence(postgres_url):
    """Who waits for a lock too long is told by the server, and the next one is served at once."""
    with database(postgres_url) as db:
        name = db.value("SELECT current_database()")
        db.rows(f"ALTER DATABASE \"{name}\" SET statement_timeout = '300ms'")
    async with opened(postgres_url) as store:
        claim = await claimed(store)
        with database(postgres_url) as stranger:
            stranger.rows("SET statement_timeout = 0")
            stranger.rows("BEGIN")
            stranger.rows("SELECT id FROM runs WHERE id = 'run' FOR UPDATE")
            with pytest.raises(StoreUnreachable, match="may be tried again"):
                await store.send_signal(a_signal())
            stranger.rows("COMMIT")
        assert await store.send_signal(a_signal())
        assert claim.run.id == "run"
