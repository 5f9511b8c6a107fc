"""Connections to Postgres: autocommit, safe behind a transaction pooler.

- Every transaction is one statement, or an explicit ``transaction()``.
- Nothing rests on a session's state. A direct connection prepares its statements and keeps the
  planner to indexes, both for speed only; behind a pooler, where ``pg_backend_pid()`` differs from
  what the protocol announced, the next statement may meet another backend, so it does neither.
- A connection that the server closed while it lay idle is replaced before it is used, and one is
  opened when it is wanted: who asks while the server is down is told so at once, and who asks
  when it is back is served at once. (A pool that reconnects behind the scenes, at growing
  intervals, does neither.)
- Work is done through one cursor: it fetches the rows of a statement before it executes the next.
  The committer's connection keeps its cursor, since making one costs a twentieth of a step.
- ``json`` columns arrive as text; whoever needs the value decodes it.
"""

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from substrate.store.secrets import hide_password, is_telling
from substrate.values.errors import (
    BadDatabaseUrl,
    CheckpointRefused,
    StoreError,
    StoreUnreachable,
    StoreUnusable,
)

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
Work = Callable[[Cursor], Awaitable[T]]

NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
"""The database's time in milliseconds, as SQL."""

MAX_ASIDE = 12
MAX_IDLE = 4
SEAT_WAIT = 10.0
"""How many seconds a call waits for one of `MAX_ASIDE` connections."""

_DEFAULTS: dict[str, Any] = {
    "application_name": "ostinato",
    "connect_timeout": 10,
    # Without these, a peer that vanished is noticed after a quarter of an hour, or never.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_BROKEN_OFF = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


def prepare(url: str) -> str:
    """Return the URL as a libpq connection string, or raise `BadDatabaseUrl`."""
    try:
        return make_conninfo(**_DEFAULTS | conninfo_to_dict(url))
    except psycopg.ProgrammingError as error:
        reason = "" if is_telling(str(error), url) else f" ({_first_line(error)})"
        raise BadDatabaseUrl(
            f"{hide_password(url)!r} is no Postgres URL{reason}; "
            "write postgresql://user:password@host:5432/database"
        ) from None


def unreachable(url: str, error: Exception) -> StoreUnreachable:
    """Return the error that says who did not answer and what to check."""
    return StoreUnreachable(
        f"Postgres at {hide_password(url)!r} cannot be reached: {_first_line(error)}; "
        "check that it runs, and the host, port, user, password and database in the URL"
    )


def explain(url: str, error: psycopg.Error, *, is_lost: bool) -> StoreError:
    """Tell a lost connection, a transaction broken off and a refused row from all else."""
    if is_lost:
        return unreachable(url, error)
    if isinstance(error, _BROKEN_OFF):
        return StoreUnreachable(
            f"Postgres broke a transaction off ({_first_line(error)}); it may be tried again"
        )
    if isinstance(error, _REFUSALS):
        return CheckpointRefused(f"Postgres refuses a row: {str(error).strip()}")
    return StoreUnusable(
        f"Postgres at {hide_password(url)!r} fails: {_first_line(error)}; see its log, and check "
        "that the user may create and write tables there; what was committed is safe"
    )


def is_usable(connection: psycopg.Connection[Any] | Connection) -> bool:
    """Whether the connection is idle, and the server has not closed it meanwhile."""
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)  # nothing was asked, so what there is to read is a farewell


async def open_connection(conninfo: str) -> Connection:
    """Open one connection, set up as the module says."""
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    try:
        await _set_up(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _set_up(connection: Connection) -> None:
    connection.adapters.register_loader("json", TextLoader)
    cursor = await connection.execute("SELECT pg_backend_pid()", prepare=False)
    row = await cursor.fetchone()
    is_direct = row is not None and row[0] == connection.info.backend_pid
    connection.prepare_threshold = 0 if is_direct else None
    if is_direct:
        # A plan made and kept while a table was small must not scan it when it has grown.
        await connection.execute("SET enable_seqscan = off; SET jit = off", prepare=False)


async def read_time(db: Cursor) -> int:
    """Return the database's time in milliseconds."""
    row = await (await db.execute(f"SELECT {NOW}")).fetchone()
    return int(row[0]) if row else 0


class Connections:
    """One connection for the committer's batches, a few for all else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conninfo = prepare(url)
        self._line: Cursor | None = None
        self._line_turn = asyncio.Lock()
        self._idle: list[Connection] = []
        self._seats = asyncio.Semaphore(MAX_ASIDE)
        self._is_closed = False

    async def in_line(self, work: Work[T]) -> T:
        """Do the work on the committer's connection, which does one work at a time."""
        async with self._line_turn:
            kept, self._line = self._line, None
            try:
                self._line = await self._line_in_order(kept)
                return await work(self._line)
            except psycopg.Error as error:
                raise self._explain(_connection_of(self._line), error) from error

    async def aside(self, work: Work[T]) -> T:
        """Do the work on a connection that nobody else uses meanwhile."""
        connection: Connection | None = None
        await self._take_seat()
        try:
            connection = await self._in_order(self._idle.pop() if self._idle else None)
            return await work(connection.cursor())
        except psycopg.Error as error:
            raise self._explain(connection, error) from error
        finally:
            if connection is not None:
                await self._give_back(connection)
            self._seats.release()

    async def close(self) -> None:
        """Close them all; one that is in use, when its work is done."""
        self._is_closed = True
        if self._line is not None:
            await self._line.connection.close()
        for connection in self._idle:
            await connection.close()

    async def _line_in_order(self, kept: Cursor | None) -> Cursor:
        connection = await self._in_order(_connection_of(kept))
        return kept if kept and kept.connection is connection else connection.cursor()

    async def _in_order(self, kept: Connection | None) -> Connection:
        """Return the kept connection, or a new one in its place."""
        if kept is not None:
            if is_usable(kept):
                return kept
            await kept.close()
        return await open_connection(self._conninfo)

    async def _take_seat(self) -> None:
        try:
            async with asyncio.timeout(SEAT_WAIT):
                await self._seats.acquire()
        except TimeoutError:
            raise StoreUnreachable(
                f"all {MAX_ASIDE} connections to Postgres have been busy for {SEAT_WAIT:.0f} s; "
                "look in pg_stat_activity for what they wait for"
            ) from None

    async def _give_back(self, connection: Connection) -> None:
        if is_usable(connection) and len(self._idle) < MAX_IDLE and not self._is_closed:
            self._idle.append(connection)
        else:
            await connection.close()

    def _explain(self, used: Connection | None, error: psycopg.Error) -> StoreError:
        return explain(self.url, error, is_lost=used is None or used.closed)


def _connection_of(cursor: Cursor | None) -> Connection | None:
    return cursor.connection if cursor else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
