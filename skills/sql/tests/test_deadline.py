"""A query ends in time, whoever waits for it, and holds up nothing else."""

import asyncio
import socket
from datetime import timedelta
from time import monotonic

import apsw
import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed

SHORT = timedelta(milliseconds=200)
LONG = timedelta(seconds=20)
ENDLESS = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n
"""


async def test_an_endless_query_is_stopped(shop):
    """A query that never ends is stopped at its deadline, with advice."""
    begun = monotonic()

    with pytest.raises(QueryFailed, match=r"longer than 0\.2 s .* filter"):
        await query_sql(shop, timeout=SHORT).function(ENDLESS)

    assert monotonic() - begun < 5


async def test_others_run_meanwhile(shop):
    """While a query runs, the event loop does other things."""
    tool = query_sql(shop, timeout=timedelta(seconds=3))
    slow = asyncio.create_task(tool.function(ENDLESS))
    quick = asyncio.create_task(tool.function("SELECT 1"))

    done, _ = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)

    assert done == {quick}
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_a_postgres_query_that_nobody_awaits_ends(postgres_shop, owner):
    """When its caller is cancelled, the statement is cancelled on the server."""
    tool = query_sql(postgres_shop, timeout=LONG)
    slow = asyncio.create_task(tool.function(ENDLESS))
    running = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active' AND query LIKE 'FETCH%'"
    )
    async with asyncio.timeout(5):
        while not owner.execute(running).fetchall():
            await tool.function("SELECT 1")

    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)

    async with asyncio.timeout(5):
        while owner.execute(running).fetchall():
            await tool.function("SELECT 1")


async def test_postgres_ends_a_statement_by_itself(postgres_shop):
    """The server knows the deadline too, for the case that this process dies."""
    answer = await query_sql(postgres_shop, timeout=timedelta(seconds=7)).function(
        "SELECT current_setting('statement_timeout')"
    )

    assert answer["rows"] == [["7s"]]


async def test_a_statement_cannot_lift_its_deadline(postgres_shop, owner):
    """Where a function turns the server's limit off for later rows, the statement ends as well."""
    owner.execute(
        "CREATE FUNCTION lift() RETURNS text LANGUAGE sql AS"
        " $$SELECT set_config('statement_timeout', '0', true)$$;"
        "CREATE FUNCTION wait() RETURNS void LANGUAGE sql AS $$SELECT pg_sleep(20)$$"
    )
    lifting = """
    SELECT CASE WHEN i <= 30 THEN lift() ELSE wait()::text END FROM generate_series(1, 100) AS i
    """
    begun = monotonic()

    with pytest.raises(QueryFailed, match="longer than"):
        await query_sql(postgres_shop, timeout=SHORT).function(lifting)

    assert monotonic() - begun < 5


@pytest.mark.parametrize("make", [query_sql, describe_schema])
async def test_a_server_that_never_answers_is_left(make):
    """A server that takes the connection and says nothing is left at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        tool = make(f"postgresql://u:secret@127.0.0.1:{port}/d?sslmode=disable", timeout=SHORT)
        arguments = {"sql": "SELECT 1"} if make is query_sql else {}

        with pytest.raises(QueryFailed, match="longer than"):
            await tool.function(**arguments)


async def test_a_locked_sqlite_file_is_waited_for_until_the_deadline(sqlite_shop, tmp_path):
    """A file that another connection holds is an error at the deadline, not a hang."""
    holder = apsw.Connection(str(tmp_path / "shop.db"))
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(QueryFailed, match="locked"):
        await query_sql(sqlite_shop, timeout=SHORT).function("SELECT count(*) FROM customers")

    holder.close()


def test_the_kit_allows_the_whole_deadline(sqlite_url):
    """The tool's own timeout is longer than the query's, so that the advice arrives."""
    tool = query_sql(sqlite_url, timeout=timedelta(minutes=5))

    assert tool.timeout is not None
    assert tool.timeout > timedelta(minutes=5)
