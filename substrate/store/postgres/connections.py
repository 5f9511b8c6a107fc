"""Connections to Postgres: opened when they are wanted, one for batches, a few for all else.

- Every transaction is one statement, or an explicit ``transaction()``, and READ COMMITTED: the
  fence and the skipping of locked rows are made for it. Where the database's default is another
  one, a direct connection sets it, and behind a pooler each work says it for itself.
- A connection that the server closed while it lay idle is replaced before it is used, and one is
  opened when it is wanted: who asks while the server is down is told so at once, and who asks
  when it is back is served at once. (A pool that reconnects behind the scenes, at growing
  intervals, does neither.)
- No work waits for an answer without a limit (`deadline`). Where one connection does not answer,
  those that lie idle went the same way, and are not asked.
- Work is done through one cursor: it fetches the rows of a statement before it executes the next.
  The committer's connection keeps its cursor, since making one costs a twentieth of a step.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from substrate.store.database_url import PostgresUrl
from substrate.store.postgres.deadline import (
    ANSWER_WAIT,
    Deadline,
    Unanswered,
    is_usable,
)
from substrate.store.postgres.explain import MAY_BE_SETTING, cause, explain, first_line
from substrate.store.postgres.options import check_options, meant_option
from substrate.store.postgres.pool import CROWDED_FOR, IDLE_FOR, Crowded, Pool, crowded
from substrate.store.postgres.session import Connection, Cursor, new_cursor, set_up
from substrate.values.errors import (
    BadDatabaseUrl,
    StoreError,
)

T = TypeVar("T")
P = ParamSpec("P")

Work = Callable[[Cursor], Awaitable[T]]
"""What is done on a connection."""

Asked = Callable[Concatenate[Cursor, P], Awaitable[T]]
"""The same, with arguments of its own."""

NOW = "(extract(epoch FROM statement_timestamp()) * 1000::numeric)::bigint"
"""The database's time in milliseconds, as SQL. A numeric times an integer is no exact match.

It is one moment for a whole statement, and a new one for the next, inside of a transaction as well.
"""

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


def prepare(url: str) -> str:
    """Return the URL as a libpq connection string, or raise `BadDatabaseUrl`."""
    shown = PostgresUrl.read(url).shown
    try:
        params = conninfo_to_dict(url)
        made = make_conninfo(**_DEFAULTS | params | _ENCODING)
    except psycopg.ProgrammingError as error:
        reason = re.sub(r"[\"'].*[\"']", '"…"', first_line(error))  # what it quotes may be secret
        near = meant_option(url)
        raise BadDatabaseUrl(
            f"{shown!r} has an option or a spelling that no Postgres URL has ({reason}){near}; "
            "write postgresql://user:password@host:5432/database"
        ) from None
    check_options(params, shown)
    return made


async def open_connection(conninfo: str, *, within: float = CONNECT_WAIT) -> Connection:
    """Open one connection, set up as the module says. Raises `psycopg.Error` or `StoreError`."""
    try:
        async with asyncio.timeout(within):
            connection = await Connection.connect(conninfo, autocommit=True)
    except TimeoutError:
        raise psycopg.OperationalError(f"no answer within {within:g} s") from None
    except psycopg.OperationalError as error:
        if full := crowded(first_line(error)):
            raise full from error
        raise
    try:
        with Deadline(connection, within):
            await set_up(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


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
        self._committer: Cursor | None = None
        self._committer_turn = asyncio.Lock()
        self._no_committer_until = 0.0
        self._pool: Pool[Connection] = Pool(lambda: open_connection(self._conninfo), idle_for)

    async def on_committer(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Do the work on the committer's connection, which does one work at a time."""
        async with self._committer_turn:
            try:
                self._committer = await self._usable_committer()
                if self._committer is not None:
                    return await self._do(
                        lambda db: work(db, *args, **named), self._committer, self._answer_wait
                    )
            except psycopg.Error as error:
                raise self._explain(self._committer, error) from cause(self.url, error)
        return await self.on_pool(work, *args, **named)

    async def on_pool(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Do the work on a connection that nobody else uses meanwhile."""
        return await self.on_pool_within(self._answer_wait, lambda db: work(db, *args, **named))

    # Nobody waits here for what others read or write, so all three of `Database` are one.
    read = scan = write = on_pool

    async def on_pool_within(self, seconds: float, work: Work[T]) -> T:
        """Do the work as `on_pool` does, within so many seconds."""
        cursor: Cursor | None = None
        connection: Connection | None = None
        try:
            connection = await self._take_one()
            cursor = new_cursor(connection)
            return await self._do(work, cursor, seconds)
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
        if not self._pool.make_room() and len(self._pool) and not self._committer_turn.locked():
            await self._close_committer()
            self._no_committer_until = _now() + CROWDED_FOR

    async def close(self) -> None:
        """Close them all; one that is in use, when its work is done, or soon."""
        await self._close_committer()
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
            if not self._committer_turn.locked():
                await self._close_committer()
            raise
        except MAY_BE_SETTING:
            await connection.close()
            raise

    async def _usable_committer(self) -> Cursor | None:
        """Return the committer's cursor, on a new connection where need be; None: there is none."""
        self.check_open()
        kept, self._committer = self._committer, None
        if kept is not None:
            if is_usable(cast(Connection, kept.connection)):
                return kept
            await kept.connection.close()
        if _now() < self._no_committer_until:
            return None
        try:
            return new_cursor(await open_connection(self._conninfo))
        except Crowded as error:
            self._pool.tell(error)
            self._no_committer_until = _now() + CROWDED_FOR
            return None

    async def _take_one(self) -> Connection:
        """Return a connection of the pool; the committer's becomes one where there is no other."""
        try:
            return await self._pool.take()
        except Crowded:
            if self._committer is None or self._committer_turn.locked():
                raise
        line, self._committer = self._committer, None
        self._no_committer_until = _now() + CROWDED_FOR
        self._pool.adopt(cast(Connection, line.connection))
        return await self._pool.take()

    async def _close_committer(self) -> None:
        line, self._committer = self._committer, None
        if line is not None:
            await line.connection.close()

    def _explain(self, used: Cursor | None, error: psycopg.Error) -> StoreError:
        return explain(self.url, error, is_lost=used is None or used.connection.closed)


def _now() -> float:
    return asyncio.get_running_loop().time()
