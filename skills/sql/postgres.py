"""PostgreSQL for a model: one SELECT, as a role that could not write if it tried.

A read-only transaction alone is no boundary: whoever may send any statement can end it, and a
superuser's SELECT reads files and starts programs. So, each on its own:

- the role is asked first what it may do, itself and by every role that it can become; a superuser
  or a role that may write is refused;
- the statement is declared as a cursor over the extended protocol: PostgreSQL takes one SELECT
  there, or VALUES, and nothing else;
- the transaction is read-only and never committed;
- ``statement_timeout`` ends it on the server, and a deadline of our own on this side.

Every setting is local to the transaction, so a pooler in between hands none of them on.

Limits: functions that act with their owner's rights or on other connections (``SECURITY DEFINER``,
dblink) do what they do, so give the role none of these; a value is fetched whole before it is cut.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection, AsyncRawServerCursor, AsyncServerCursor, Error, errors
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader

from skills.sql.answer import Answer, QueryFailed, too_slow
from skills.sql.schema import Column, Table, column_hint, table_hint
from substrate.models.messages import Json

Parameters = list[Json] | dict[str, Json] | None

FETCHED = 20
"""Rows asked for at once: few, since a row may be large."""

GRACE = timedelta(seconds=1)
"""What the server gets beyond the deadline to say itself that it stopped the statement."""

ONE_SELECT = "only one SELECT, VALUES, TABLE or WITH … SELECT can be run"

# As the server writes them: Python's own dates end at the year 9999 and know no infinity.
_AS_TEXT = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric")

_SETTINGS = """
SELECT
    set_config('statement_timeout', %s, true),
    set_config('datestyle', 'ISO, YMD', true)
"""

_POWER = """
WITH reachable AS (
    SELECT * FROM pg_catalog.pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
)
SELECT format('the role %I is a superuser', rolname)
FROM reachable WHERE rolsuper
UNION ALL
SELECT format('the role %I may replicate, or create roles or databases', rolname)
FROM reachable WHERE rolreplication OR rolcreaterole OR rolcreatedb
UNION ALL
SELECT format('the role %I acts beyond reading', rolname)
FROM reachable
WHERE rolname IN (
    'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program',
    'pg_signal_backend'
)
LIMIT 1
"""

_WRITES = """
WITH reachable AS (
    SELECT oid, rolname FROM pg_catalog.pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
), spaces AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
)
SELECT format('the role %I may create in the database %I', rolname, current_database())
FROM reachable WHERE has_database_privilege(oid, current_database(), 'CREATE')
UNION ALL
SELECT format('the role %I may create in the schema %I', rolname, nspname)
FROM reachable, spaces WHERE has_schema_privilege(reachable.oid, spaces.oid, 'CREATE')
UNION ALL
SELECT format('the role %I may write to %s', rolname, relation.oid::regclass)
FROM reachable, spaces JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = spaces.oid
WHERE CASE relation.relkind
    WHEN 'S' THEN has_sequence_privilege(reachable.oid, relation.oid, 'USAGE, UPDATE')
    ELSE relation.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
        relation.relowner = reachable.oid
        OR has_table_privilege(reachable.oid, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(reachable.oid, relation.oid, 'INSERT, UPDATE'))
END
LIMIT 1
"""

_READ_ONLY_ROLE = """use a role that can only read, made by:
CREATE ROLE reader LOGIN PASSWORD '…';
GRANT pg_read_all_data TO reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;"""

_TABLES = """
SELECT
    relation.oid::regclass::text,
    CASE relation.relkind
        WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        ELSE 'table'
    END,
    CASE WHEN relation.relkind IN ('r', 'p', 'm') AND relation.reltuples >= 0
        THEN 'about ' || relation.reltuples::bigint
    END,
    ARRAY(
        SELECT ARRAY[
            quote_ident(attname),
            format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
        ]
        FROM pg_catalog.pg_attribute
        WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
            AND has_column_privilege(relation.oid, attnum, 'SELECT')
        ORDER BY attnum
    ),
    ARRAY(
        SELECT pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
        WHERE conrelid = relation.oid AND contype IN ('p', 'f')
        ORDER BY contype DESC, conname
    )
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS space ON space.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relation.relispartition
    AND space.nspname NOT LIKE 'pg\\_%' AND space.nspname <> 'information_schema'
    AND has_schema_privilege(space.oid, 'USAGE')
    AND has_any_column_privilege(relation.oid, 'SELECT')
ORDER BY space.nspname, relation.relname
"""


async def query(
    url: str, sql: str, parameters: Parameters, *, max_rows: int, timeout: timedelta
) -> dict[str, Json]:
    """Run one SELECT and return its answer, or raise `QueryFailed`."""
    async with _reading(url, timeout) as connection:
        try:
            return (await _select(connection, sql, parameters, max_rows)).to_json()
        except errors.QueryCanceled:
            raise
        except Error as error:
            raise await _explained(error, connection, sql, timeout) from None


async def tables(url: str, *, timeout: timedelta) -> list[Table]:
    """Return every table and view that the role may read, in the order of their names."""
    async with _reading(url, timeout) as connection:
        return await _tables(connection)


@asynccontextmanager
async def _reading(url: str, timeout: timedelta) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """Provide a connection of a role that can only read; its transaction is never committed."""
    try:
        async with asyncio.timeout((timeout + GRACE).total_seconds()):
            connection = await _connect(url)
            try:
                await connection.set_read_only(True)
                await _set_limits(connection, timeout)
                await _refuse_power(connection)
                yield connection
            finally:
                await connection.close()
    except (errors.QueryCanceled, TimeoutError):
        raise too_slow(timeout) from None
    except Error as error:
        raise QueryFailed(f"the database can't be read: {_said(error)}") from None


async def _connect(url: str) -> AsyncConnection[TupleRow]:
    try:
        return await AsyncConnection.connect(url, prepare_threshold=None, client_encoding="UTF8")
    except errors.ProgrammingError:
        # Its message quotes the URL, and the password in it would go to the model.
        raise QueryFailed(
            "the database URL can't be understood; it has the form "
            "postgresql://user:password@host:port/name, with %-codes for special characters"
        ) from None


async def _set_limits(connection: AsyncConnection[TupleRow], timeout: timedelta) -> None:
    milliseconds = max(1, int(timeout.total_seconds() * 1000))
    await connection.execute(_SETTINGS, [str(milliseconds)])


async def _refuse_power(connection: AsyncConnection[TupleRow]) -> None:
    for question in (_POWER, _WRITES):
        cursor = await connection.execute(question)
        if found := await cursor.fetchone():
            raise QueryFailed(f"this connection is not used: {found[0]}; {_READ_ONLY_ROLE}")


async def _select(
    connection: AsyncConnection[TupleRow], sql: str, parameters: Parameters, max_rows: int
) -> Answer:
    for kind in _AS_TEXT:
        connection.adapters.register_loader(kind, TextLoader)
    answer = Answer(max_rows)
    # $1 is PostgreSQL's own, and leaves the % of a LIKE alone; names are psycopg's.
    cursors = AsyncServerCursor if isinstance(parameters, dict) else AsyncRawServerCursor
    async with cursors(connection, "answer") as cursor:
        await cursor.execute(sql, parameters or None)
        answer.columns = [column.name for column in cursor.description or ()]
        while rows := await cursor.fetchmany(FETCHED):
            if not all(answer.take(row) for row in rows):
                break
    return answer


async def _explained(
    error: Error, connection: AsyncConnection[TupleRow], sql: str, timeout: timedelta
) -> QueryFailed:
    """Return the error with what helps to write the next statement."""
    said = _said(error)
    if isinstance(
        error, errors.SyntaxError | errors.FeatureNotSupported | errors.ReadOnlySqlTransaction
    ):
        return QueryFailed(f"{said}; {ONE_SELECT}")
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        await connection.rollback()
        await _set_limits(connection, timeout)
        known = await _tables(connection)
        is_table = isinstance(error, errors.UndefinedTable)
        return QueryFailed(f"{said}; {table_hint(known) if is_table else column_hint(sql, known)}")
    return QueryFailed(said)


def _said(error: Error) -> str:
    """Return the server's own words, without the statement that they were said about."""
    told = error.diag
    parts = [told.message_primary, told.message_detail, told.message_hint]
    return "; ".join(part for part in parts if part) or str(error).strip()


async def _tables(connection: AsyncConnection[TupleRow]) -> list[Table]:
    cursor = await connection.execute(_TABLES)
    return [_table(row) for row in await cursor.fetchall()]


def _table(row: Sequence[Any]) -> Table:
    name, kind, rows, columns, keys = row
    return Table(name, kind, tuple(Column(*column) for column in columns), tuple(keys), rows)
