"""However Postgres is set up, runs work on it as ever, or `connect` refuses it with the cure."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from substrate import Context, connect, durable
from substrate.store.postgres.connections import Connections
from substrate.store.postgres.session import Cursor
from substrate.values.errors import StoreError, StoreUnusable
from tests.proxies import proxy_to
from tests.runs import QUICK, reached
from tests.stores import LIMIT_S, database

STRICT = ("repeatable read", "serializable")
SETTINGS = (
    *(f"default_transaction_isolation = '{each}'" for each in STRICT),
    "default_transaction_deferrable = on",
    "statement_timeout = '2s'",
    "lock_timeout = '50ms'",
    "idle_session_timeout = '400ms'",
    "idle_in_transaction_session_timeout = '500ms'",
    "client_encoding = 'LATIN1'",
    "search_path = 'mine'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "DateStyle = 'German'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Kathmandu'",
    "plan_cache_mode = 'force_generic_plan'",
    "enable_indexscan = off",
    "synchronous_commit = off",
)


async def act(i: int) -> int:
    return i


def write(tx: Any, i: int) -> int:
    tx.execute("SELECT 1")
    return i


@durable
async def child(ctx: Context, i: int) -> int:
    return await ctx.step(act, i, effect="once")


@durable
async def job(ctx: Context, i: int) -> int:
    """Take steps side by side, in a transaction, below, and wait for a signal."""
    sums = await ctx.gather(*(ctx.step(act, k) for k in range(4)))
    sums.append(await ctx.step(write, i, effect="transactional"))
    return sum(sums) + await ctx.spawn(child, i) + await ctx.receive("go", int)


@durable
async def echo(ctx: Context, text: str) -> str:
    return await ctx.step(say, text)


async def say(text: str) -> str:
    return text


async def load(url: str) -> list[int]:
    """Have two workers drive runs that are started and signalled side by side."""
    ids = [f"run-{i}" for i in range(16)]
    async with (
        asyncio.timeout(LIMIT_S),
        connect(url) as one,
        connect(url) as other,
        one.work([job, child], options=QUICK),
        other.work([job, child], options=QUICK),
    ):
        ways = [one, other] * len(ids)
        await asyncio.gather(*(ways[i].start(job, i, id=ids[i]) for i in range(len(ids))))
        sent = (ways[i + 1].signal(ids[i], "go", 1) for i in range(len(ids)))
        assert all(await asyncio.gather(*sent))
        return [await ways[i].result(ids[i]) for i in range(len(ids))]


EXPECTED = [6 + 2 * i + 1 for i in range(16)]


def set_up(url: str, setting: str) -> None:
    """Give the database a setting, as an administrator does."""
    with database(url) as db:
        db.rows("CREATE SCHEMA mine")
        db.rows(f"ALTER DATABASE {db.value('SELECT current_database()')} SET {setting}")


@pytest.mark.parametrize("setting", SETTINGS)
async def test_settings(postgres_url, setting, caplog):
    """Whatever the database's defaults are, two workers and their callers see no difference."""
    set_up(postgres_url, setting)

    assert await load(postgres_url) == EXPECTED
    if "isolation" in setting:
        assert "broke a transaction off" not in caplog.text


@pytest.mark.parametrize("isolation", STRICT)
async def test_isolation_behind_a_pooler(postgres_url, isolation, caplog):
    """Behind a pooler, where no session can be set up, each transaction says what it needs."""
    set_up(postgres_url, f"default_transaction_isolation = '{isolation}'")
    async with proxy_to(postgres_url, is_pooler=True) as proxy:
        results = await load(proxy.url)
        connections = Connections(proxy.url)

        async def level(db: Cursor) -> Any:
            return await (await db.execute("SHOW transaction_isolation")).fetchone()

        levels = {await connections.on_pool(level), await connections.on_committer(level)}
        await connections.close()

    assert results == EXPECTED
    assert levels == {("read committed",)}
    assert "broke a transaction off" not in caplog.text


async def test_a_database_that_is_read_only(postgres_url):
    """A database that is read-only by default is refused, and the error says what to change."""
    set_up(postgres_url, "default_transaction_read_only = on")
    with pytest.raises(StoreUnusable, match=r"is read-only .* default_transaction_read_only"):
        async with connect(postgres_url):
            pass


TURNS = 150


@durable
async def many_steps(ctx: Context) -> str:
    """Write to the database all the time."""
    for turn in range(TURNS):
        await ctx.step(say, str(turn))
        await ctx.step(asyncio.sleep, 0.01)
    return "all of them"


CUT = """
SELECT pg_terminate_backend(pid)
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.mark.parametrize("setting", ["default_transaction_read_only = on", "statement_timeout = 1"])
async def test_a_setting_that_is_taken_back(postgres_url, setting):
    """A worker whose connections were opened under a setting goes on once it is taken back."""
    async with connect(postgres_url) as client, client.work([many_steps], options=QUICK):
        await client.start(many_steps, id="run")
        await reached(client, "run", "say.3")
        with database(postgres_url) as db:
            name = db.value("SELECT current_database()")
            db.rows(f'ALTER DATABASE "{name}" SET {setting}')
            db.rows(CUT)
            await asyncio.sleep(0.7)  # so that all connections are opened anew, the heartbeat's too
            db.rows(f'ALTER DATABASE "{name}" RESET {setting.partition(" ")[0]}')
        async with asyncio.timeout(20):
            said = None
            while said is None:
                with suppress(StoreError):
                    said = await client.result("run")
    assert said == "all of them"


@contextmanager
def encoded(url: str, encoding: str) -> Iterator[str]:
    """Create a database of another encoding for the block, and yield its URL."""
    name = f"ostinato_test_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'"
            " LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
async def test_an_encoding_that_cannot_hold_it(postgres_dsn, encoding):
    """A database that cannot hold every text is refused before anything is written to it."""
    with encoded(postgres_dsn, encoding) as url:
        with pytest.raises(StoreUnusable, match=f"encoded in {encoding}.* ENCODING 'UTF8'"):
            async with connect(url):
                pass
        with psycopg.connect(url, autocommit=True) as connection:
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname='public'")
            assert tables.fetchone() == (0,)


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
@pytest.mark.parametrize("client_encoding", ["", "?client_encoding=LATIN1"])
async def test_an_encoding_that_can(postgres_dsn, encoding, client_encoding):
    """Every text comes back as it was given, whatever encoding the URL or the server asks for."""
    text = "🎻 ü 漢字 \x00 \ud83d"
    with encoded(postgres_dsn, encoding) as url:
        if client_encoding and urlsplit(url).query:
            client_encoding = client_encoding.replace("?", "&")
        async with (
            asyncio.timeout(LIMIT_S),
            connect(url + client_encoding) as client,
            client.work([echo], options=QUICK),
        ):
            await client.start(echo, text, id="run")
            assert await client.result("run") == text
            await client.start(echo, text * 20_000, id="long")
            assert await client.result("long") == text * 20_000
