"""Where the server gives few connections, a worker is slow, not stuck; without any it says so."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from substrate import Context, WorkerOptions, connect, durable
from substrate.values.errors import StoreUnreachable
from tests.runs import reached
from tests.stores import database

calls: Counter[str] = Counter()
LIMITS = WorkerOptions(lease=timedelta(seconds=5), poll=timedelta(milliseconds=50))
RUNS = 12


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def count(what: str) -> str:
    calls[what] += 1
    return what


def write(tx: Any, what: str) -> str:
    calls[what] += 1
    tx.execute("SELECT 1")
    return what


@durable
async def child(ctx: Context, name: str) -> str:
    return await ctx.step(count, f"{name} child", effect="once")


@durable
async def job(ctx: Context, name: str) -> str:
    """Use every way to the database: side by side, in a transaction, below, and waiting."""
    await ctx.gather(*(ctx.step(count, f"{name} {i}") for i in range(5)))
    await ctx.step(write, f"{name} written", effect="transactional")
    await ctx.spawn(child, name)
    return await ctx.receive("go")


@contextmanager
def limited(url: str, connections: int) -> Iterator[str]:
    """Yield the URL for a user who may open so many connections, and owns the database."""
    role = f"few_{uuid4().hex[:8]}"
    with database(url) as db:
        name = db.value("SELECT current_database()")
        db.rows(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections}")
        db.rows(f"ALTER DATABASE {name} OWNER TO {role}")
        try:
            parts = urlsplit(url)
            user = f"{role}@{parts.netloc.rpartition('@')[2]}"
            yield parts._replace(netloc=user).geturl()
        finally:
            db.rows(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
            db.rows(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
            db.rows(f"DROP OWNED BY {role}")
            db.rows(f"DROP ROLE {role}")


@pytest.mark.parametrize("connections", [2, 3, 4, 6])
async def test_few_connections_are_enough(postgres_url, connections, caplog):
    """With two connections or a few more everything is done, once, and the log says it once."""
    with limited(postgres_url, connections) as url:
        async with (
            asyncio.timeout(60),
            connect(url) as client,
            client.work([job, child], options=LIMITS),
        ):
            names = [f"run-{i}" for i in range(RUNS)]
            await asyncio.gather(*(client.start(job, name, id=name) for name in names))
            await asyncio.gather(*(client.signal(name, "go", "done") for name in names))
            results = await asyncio.gather(*(client.result(name) for name in names))
            runs = await client.list()

    assert results == ["done"] * RUNS
    assert set(calls.values()) == {1}
    assert len(calls) == RUNS * 7
    assert {(run.epoch, run.crashes) for run in runs if run.parent_id is None} == {(1, 0)}
    told = [line for line in caplog.messages if "no room for another connection" in line]
    assert len(told) == 1
    assert "at least 2, and is fast with 14" in told[0]


async def test_one_connection_is_too_few(postgres_url):
    """A worker that finds no room for its heartbeat says how many connections it needs."""
    with limited(postgres_url, 1) as url:
        async with connect(url) as client:
            with pytest.raises(StoreUnreachable, match="needs at least 2"):
                async with client.work([job], options=LIMITS):
                    pass
            await client.start(job, "run", id="run")


async def test_no_connection_at_all(postgres_url):
    """Who finds the server full is told so at once, and how many connections it takes."""
    full = pytest.raises(StoreUnreachable, match="no room for another connection")
    with limited(postgres_url, 1) as url, database(url), full:
        async with connect(url):
            pass


async def test_the_heartbeat_comes_first(postgres_url):
    """When every connection is cut and others are quicker, the heartbeat still gets its own."""
    with limited(postgres_url, 3) as url:
        async with connect(url) as client, client.work([job, child], options=LIMITS) as worker:
            await client.start(job, "run", id="run")
            await reached(client, "run", "go.0")
            last_beat = worker.lines[0].registration.heartbeat._sent
            with database(postgres_url) as db:
                db.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'ostinato'"
                )
            async with asyncio.timeout(LIMITS.lease.total_seconds()):
                while worker.lines[0].registration.heartbeat._sent == last_beat:
                    listing = (client.list() for _ in range(20))
                    await asyncio.gather(*listing, return_exceptions=True)
            await client.signal("run", "go", "done")
            assert await client.result("run") == "done"
            assert (await client.get("run")).epoch == 1
