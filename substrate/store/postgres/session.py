"""One session with Postgres, as this kit wants it: autocommit, safe behind a transaction pooler.

- What was said is UTF-8. A database that cannot hold it all is refused; one that takes bytes as
  they come (SQL_ASCII) holds it.
- Nothing else rests on a session's state. A direct connection prepares its statements and keeps the
  planner to indexes, both for speed only; behind a pooler, where ``pg_backend_pid()`` differs from
  what the protocol announced, the next statement may meet another backend, so it does neither.
- ``json`` columns arrive as text; whoever needs the value decodes it.
- Nothing that others have made in a schema of the path is called in the place of PostgreSQL's own.
  Where an operator or function of exactly these argument types is in the catalogue, and the
  catalogue comes first, that one is taken; else the nearest one, wherever it is. So each statement
  gives exact types: an ``int`` goes as bigint whatever its size, what is multiplied with a numeric
  is numeric, a parameter beside another is cast. And the catalogue does come first: a path that
  names it later is put right, or refused behind a pooler.
"""

import re
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import PyFormat
from psycopg.sql import SQL, Identifier
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

from substrate.store.postgres.deadline import STATEMENT_WAIT, AnyConnection
from substrate.values.errors import StoreUnusable


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """One connection, and what was found out about the way to its backend."""

    backend_pid: int | None = None
    """The process that is behind it for as long as it lives; None behind a pooler."""

    is_strict = False
    """Whether a statement without a transaction of its own would be isolated more than we want."""


Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


def new_cursor(connection: Connection) -> Cursor:
    """Return a cursor for statements of ours, of which each sends exact types."""
    return connection.cursor()


def users_cursor(connection: AnyConnection) -> Cursor:
    """Return a cursor for statements of users: it sends integers as psycopg does."""
    cursor = connection.cursor()
    for form in (PyFormat.TEXT, PyFormat.BINARY):  # the last is what psycopg takes of itself
        if dumper := psycopg.adapters.get_dumper(int, form):
            cursor.adapters.register_dumper(int, dumper)
    return cursor


# No operator stands here: none is to be trusted before the path has been looked at.
_LOOK = """
SELECT pg_catalog.pg_backend_pid(),
       pg_catalog.current_setting('default_transaction_isolation'),
       pg_catalog.current_setting('statement_timeout'),
       pg_catalog.current_schemas(true)
"""

# A plan made and kept while a table was small must not scan it when it has grown.
_SETTINGS = """
SET enable_seqscan = off; SET jit = off; SET default_transaction_isolation = 'read committed'
"""
_PATIENCE = f"; SET statement_timeout = '{STATEMENT_WAIT:.0f}s'"
_PATH = SQL("SET search_path = {}")  # where the catalogue is not named, it comes first


async def set_up(connection: Connection) -> None:
    """Make a new connection one of ours. Raises `StoreUnusable` where that cannot be."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", "SQL_ASCII", None):
        raise StoreUnusable(
            f"the database {connection.info.dbname!r} is encoded in {encoding}, which cannot hold "
            "every text; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    connection.adapters.register_loader("json", TextLoader)
    # Here and not at each cursor, which would copy the whole table of types for it.
    connection.adapters.register_dumper(int, Int8Dumper)
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    cursor = await connection.execute(_LOOK, prepare=False)
    pid, isolation, timeout, path = await cursor.fetchone() or (None, "", "0", [])
    if pid == connection.info.backend_pid:
        connection.backend_pid = pid
        connection.prepare_threshold = 0
        # Where the server gives up sooner, that was its administrator's wish.
        settings = _SETTINGS if _is_impatient(timeout) else _SETTINGS + _PATIENCE
        await connection.execute(settings.encode(), prepare=False)
        if not _is_catalog_first(path):
            rest = [each for each in path if not each.startswith((_CATALOG, _TEMPORARY))]
            named = SQL(", ").join(map(Identifier, rest))
            await connection.execute(_PATH.format(named), prepare=False)
    else:
        connection.prepare_threshold = None
        connection.is_strict = isolation != "read committed"
        if not _is_catalog_first(path):
            raise StoreUnusable(
                f"the search_path of this user has {path[0]!r} before pg_catalog, so what others "
                "make there would be called in the place of PostgreSQL's own; leave pg_catalog out "
                "of it (ALTER ROLE … SET search_path = …), then it comes first"
            )


_CATALOG = "pg_catalog"
_TEMPORARY = "pg_temp"  # where no function or operator is ever looked for
_UNITS = {"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SETTING = re.compile(r"(\d+)([a-z]*)", re.ASCII)


def _is_catalog_first(path: Sequence[str]) -> bool:
    """Whether functions and operators are looked for in the catalogue first."""
    return [each for each in path if not each.startswith(_TEMPORARY)][:1] == [_CATALOG]


def _is_impatient(timeout: str) -> bool:
    """Whether the server gives a statement up within our own time for one; "0" is never."""
    found = _SETTING.fullmatch(timeout)
    return found is not None and 0 < int(found[1]) * _UNITS[found[2]] <= STATEMENT_WAIT * 1000
