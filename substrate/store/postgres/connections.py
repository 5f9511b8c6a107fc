"""Connections to Postgres: autocommit, safe behind a transaction pooler.

- Every transaction is one statement, or an explicit ``transaction()``, and READ COMMITTED: the
  fence and the skipping of locked rows are made for it. Where the database's default is another
  one, a direct connection sets it, and behind a pooler each work says it for itself.
- What was said is UTF-8. A database that cannot hold it all is refused; one that takes bytes as
  they come (SQL_ASCII) holds it.
- Nothing else rests on a session's state. A direct connection prepares its statements and keeps the
  planner to indexes, both for speed only; behind a pooler, where ``pg_backend_pid()`` differs from
  what the protocol announced, the next statement may meet another backend, so it does neither.
- A connection that the server closed while it lay idle is replaced before it is used, and one is
  opened when it is wanted: who asks while the server is down is told so at once, and who asks
  when it is back is served at once. (A pool that reconnects behind the scenes, at growing
  intervals, does neither.)
- No work waits for an answer without a limit (`deadline`). Where one connection does not answer,
  those that lie idle went the same way, and are not asked.
- Work is done through one cursor: it fetches the rows of a statement before it executes the next.
  The committer's connection keeps its cursor, since making one costs a twentieth of a step.
- ``json`` columns arrive as text; whoever needs the value decodes it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from traceback import format_exception
from typing import Any, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import TextLoader

from substrate.store.postgres.deadline import (
    ANSWER_WAIT,
    STATEMENT_WAIT,
    Deadline,
    Unanswered,
    is_usable,
)
from substrate.store.postgres.pool import CROWDED_FOR, IDLE_FOR, Crowded, Pool, crowded
from substrate.store.secrets import PostgresUrl, shown_url
from substrate.values.errors import (
    BadDatabaseUrl,
    CheckpointRefused,
    StoreError,
    StoreUnreachable,
    StoreUnusable,
)

T = TypeVar("T")


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """One connection, and what was found out about the way to its backend."""

    backend_pid: int | None = None
    """The process that is behind it for as long as it lives; None behind a pooler."""

    is_strict = False
    """Whether a statement without a transaction of its own would be isolated more than we want."""


Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
Work = Callable[[Cursor], Awaitable[T]]

NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
"""The database's time in milliseconds, as SQL."""

CONNECT_WAIT = 15.0
"""How many seconds opening a connection may take, over all addresses of its host."""

_DEFAULTS: dict[str, Any] = {
    "application_name": "ostinato",
    "connect_timeout": 10,
    # Without these, a peer that vanished is noticed after a quarter of an hour, or never.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_ENCODING = {"client_encoding": "utf8"}
_BROKEN_OFF = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


def prepare(url: str) -> str:
    """Return the URL as a libpq connection string, or raise `BadDatabaseUrl`."""
    shown = PostgresUrl.read(url).shown
    try:
        return make_conninfo(**_DEFAULTS | conninfo_to_dict(url) | _ENCODING)
    except psycopg.ProgrammingError as error:
        reason = re.sub(r"[\"'].*[\"']", '"…"', _first_line(error))  # what it quotes may be secret
        raise BadDatabaseUrl(
            f"{shown!r} has an option or a spelling that no Postgres URL has ({reason}); "
            "write postgresql://user:password@host:5432/database"
        ) from None


def unreachable(url: str, error: Exception) -> StoreUnreachable:
    """Return the error that says who did not answer and what to check."""
    return StoreUnreachable(
        f"Postgres at {shown_url(url)!r} cannot be reached: {_told(url, error)}; "
        "check that it runs, and the host, port, user, password and database in the URL"
    )


def explain(url: str, error: psycopg.Error, *, is_lost: bool) -> StoreError:
    """Tell a lost connection, a transaction broken off and a refused row from all else."""
    if is_lost:
        return unreachable(url, error)
    if isinstance(error, _BROKEN_OFF):
        return StoreUnreachable(
            f"Postgres broke a transaction off ({_told(url, error)}); it may be tried again"
        )
    if isinstance(error, _REFUSALS):
        return CheckpointRefused(f"Postgres refuses a row: {str(error).strip()}")
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return StoreUnusable(
            f"Postgres at {shown_url(url)!r} is read-only ({_told(url, error)}); connect to "
            "the primary server, and let default_transaction_read_only be off for this user"
        )
    return StoreUnusable(
        f"Postgres at {shown_url(url)!r} fails: {_told(url, error)}; see its log, and check "
        "that the user may create and write tables there; what was committed is safe"
    )


def cause(url: str, error: Exception) -> Exception | None:
    """Return what caused an error, to be shown with it; None where that would tell a secret."""
    told = "".join(format_exception(error))
    return error if PostgresUrl.read(url).hide_in(told) == told else None


async def open_connection(conninfo: str, *, within: float = CONNECT_WAIT) -> Connection:
    """Open one connection, set up as the module says. Raises `psycopg.Error` or `StoreError`."""
    try:
        async with asyncio.timeout(within):
            connection = await Connection.connect(conninfo, autocommit=True)
    except TimeoutError:
        raise psycopg.OperationalError(f"no answer within {within:g} s") from None
    except psycopg.OperationalError as error:
        if full := crowded(_first_line(error)):
            raise full from error
        raise
    try:
        with Deadline(connection, within):
            await _set_up(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


_LOOK = f"""
SELECT pg_backend_pid(),
       current_setting('default_transaction_isolation') <> 'read committed',
       current_setting('statement_timeout')::interval
           BETWEEN interval '1 ms' AND interval '{STATEMENT_WAIT} s'
"""

# A plan made and kept while a table was small must not scan it when it has grown.
_SETTINGS = """
SET enable_seqscan = off; SET jit = off; SET default_transaction_isolation = 'read committed'
"""
_PATIENCE = f"; SET statement_timeout = '{STATEMENT_WAIT:.0f}s'"


async def _set_up(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", "SQL_ASCII", None):
        raise StoreUnusable(
            f"the database {connection.info.dbname!r} is encoded in {encoding}, which cannot hold "
            "every text; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    connection.adapters.register_loader("json", TextLoader)
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    cursor = await connection.execute(_LOOK, prepare=False)
    pid, is_strict, is_impatient = await cursor.fetchone() or (None, False, False)
    if pid == connection.info.backend_pid:
        connection.backend_pid = pid
        connection.prepare_threshold = 0
        # Where the server gives up sooner, that was its administrator's wish.
        settings = _SETTINGS if is_impatient else _SETTINGS + _PATIENCE
        await connection.execute(settings.encode(), prepare=False)
    else:
        connection.prepare_threshold = None
        connection.is_strict = is_strict


async def read_time(db: Cursor) -> int:
    """Return the database's time in milliseconds."""
    row = await (await db.execute(f"SELECT {NOW}")).fetchone()
    return int(row[0]) if row else 0


class Connections:
    """One connection for the committer's batches, a few for all else.

    Where the server has no room for one of its own, the committer takes turns with the others.
    """

    def __init__(
        self, url: str, *, answer_wait: float = ANSWER_WAIT, idle_for: float = IDLE_FOR
    ) -> None:
        self.url = url
        self._conninfo = prepare(url)
        self._answer_wait = answer_wait
        self._line: Cursor | None = None
        self._line_turn = asyncio.Lock()
        self._no_line_until = 0.0
        self._pool: Pool[Connection] = Pool(lambda: open_connection(self._conninfo), idle_for)

    async def in_line(self, work: Work[T]) -> T:
        """Do the work on the committer's connection, which does one work at a time."""
        async with self._line_turn:
            try:
                self._line = await self._line_in_order()
                if self._line is not None:
                    return await self._do(work, self._line, self._answer_wait)
            except psycopg.Error as error:
                raise self._explain(self._line, error) from cause(self.url, error)
        return await self.aside(work)

    async def aside(self, work: Work[T], *, within: float | None = None) -> T:
        """Do the work on a connection that nobody else uses meanwhile, within so many seconds."""
        cursor: Cursor | None = None
        connection: Connection | None = None
        try:
            connection = await self._taken()
            cursor = connection.cursor()
            return await self._do(work, cursor, within or self._answer_wait)
        except psycopg.Error as error:
            raise self._explain(cursor, error) from cause(self.url, error)
        finally:
            if connection is not None:
                await self._pool.give_back(connection)

    def check_open(self) -> None:
        """Raise `StoreUnusable` when they were closed."""
        self._pool.check_open()

    async def make_room(self) -> None:
        """Do with a connection less for a while, since a heartbeat has none."""
        if not self._pool.make_room() and len(self._pool) and not self._line_turn.locked():
            await self._close_line()
            self._no_line_until = _now() + CROWDED_FOR

    async def close(self) -> None:
        """Close them all; one that is in use, when its work is done, or soon."""
        await self._close_line()
        await self._pool.close()

    async def _do(self, work: Work[T], cursor: Cursor, seconds: float) -> T:
        """Do the work within so many seconds, isolated as the module says."""
        connection = cast(Connection, cursor.connection)
        try:
            with Deadline(connection, seconds):
                if not connection.is_strict:
                    return await work(cursor)
                async with connection.transaction():
                    return await work(cursor)
        except Unanswered:
            await self._pool.distrust()
            if not self._line_turn.locked():
                await self._close_line()
            raise

    async def _line_in_order(self) -> Cursor | None:
        """Return the committer's cursor, on a new connection where need be; None: there is none."""
        self.check_open()
        kept, self._line = self._line, None
        if kept is not None:
            if is_usable(cast(Connection, kept.connection)):
                return kept
            await kept.connection.close()
        if _now() < self._no_line_until:
            return None
        try:
            return (await open_connection(self._conninfo)).cursor()
        except Crowded as error:
            self._pool.tell(error)
            self._no_line_until = _now() + CROWDED_FOR
            return None

    async def _taken(self) -> Connection:
        """Return a connection of the pool; the committer's becomes one where there is no other."""
        try:
            return await self._pool.take()
        except Crowded:
            if self._line is None or self._line_turn.locked():
                raise
        line, self._line = self._line, None
        self._no_line_until = _now() + CROWDED_FOR
        self._pool.adopt(cast(Connection, line.connection))
        return await self._pool.take()

    async def _close_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.connection.close()

    def _explain(self, used: Cursor | None, error: psycopg.Error) -> StoreError:
        return explain(self.url, error, is_lost=used is None or used.connection.closed)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _told(url: str, error: Exception) -> str:
    """Return what an error says of a connection, but for what the URL has that is secret."""
    return PostgresUrl.read(url).hide_in(_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
