"""A worker's sign of life in Postgres: one row, one UPDATE a beat, on a connection of its own.

It brings back the database's time, so that the clocks of the workers' hosts do not matter. The
backend behind the connection ends with this process, by which others soon see a death. Behind a
pooler it does not, and may change from beat to beat, so there none is registered.

A beat that gets no answer is given up early enough for another one, on a new connection, within the
same lease. The waits are those of an event loop of its own, in the heartbeat's thread.
"""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

from substrate.store.life_lock import LifeLock, host_file
from substrate.store.postgres import rights
from substrate.store.postgres.connections import NOW, open_connection, prepare
from substrate.store.postgres.dead_workers import SERVER_START
from substrate.store.postgres.deadline import Deadline, is_usable
from substrate.store.postgres.explain import MAY_BE_SETTING, cause, explain, not_allowed
from substrate.store.postgres.pool import Crowded
from substrate.store.postgres.session import Connection
from substrate.values.records import Owner

_SHORTEST_WAIT = 1.0  # seconds for an answer, however short the lease
_ROOM_WAIT = 0.2  # seconds for others of this process to close a connection
_ROOM_ASKED = 10  # how often they are asked

_REGISTER = f"""
INSERT INTO workers (incarnation, tenant, host, backend_pid, server_start, beat_at, lease_until)
VALUES (%(owner)s, '', %(host)s, %(pid)s, {SERVER_START}, {NOW}, {NOW} + %(lease_ms)s)
RETURNING beat_at
"""

_BEAT = f"""
UPDATE workers
   SET backend_pid = %(pid)s, server_start = {SERVER_START}, beat_at = {NOW},
       lease_until = {NOW} + %(lease_ms)s
 WHERE incarnation = %(owner)s
RETURNING beat_at
"""

_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = %(owner)s
RETURNING beat_at
"""


class PostgresHeartbeat:
    """See `substrate.store.backend.HeartbeatConnection`.

    `make_room` asks the rest of this process to do with a connection less.
    """

    def __init__(
        self, url: str, owner: Owner, lease: timedelta, make_room: Callable[[], None]
    ) -> None:
        self._url = url
        self._conninfo = prepare(url)
        self._make_room = make_room
        self._wait = max(lease.total_seconds() / 2, _SHORTEST_WAIT)
        self._row: dict[str, Any] = {
            "owner": owner,
            "lease_ms": int(lease.total_seconds() * 1000),
            "host": socket.gethostname(),
        }
        self._lock = _lock(owner)
        self._db: Connection | None = None
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._check_rights())
            self._run(_REGISTER)
        except BaseException:
            self._close()
            raise

    def beat(self) -> int | None:
        """See `HeartbeatConnection.beat`.

        Raises `StoreError`; the next beat connects anew where it must.
        """
        return self._run(_BEAT)

    def stop(self) -> None:
        """See `HeartbeatConnection.stop`."""
        try:
            if self._db is not None and is_usable(self._db):
                self._run(_STRIKE_OFF)
        finally:
            self._close()

    async def _check_rights(self) -> None:
        """Raise `StoreUnusable` unless the user may do all that a worker does."""
        if grant := rights.missing(await self._ask(rights.LOOK) or ()):
            raise not_allowed(self._url, "rights are missing", grant)

    def _run(self, statement: str) -> int | None:
        return self._loop.run_until_complete(self._tell(statement))

    async def _tell(self, statement: str) -> int | None:
        """Run one statement; return what it says of the time, None if nothing."""
        row = await self._ask(statement)
        return row[0] if row else None

    async def _ask(self, statement: str) -> tuple[Any, ...] | None:
        """Run one statement on the connection; return its first row."""
        db: Connection | None = None
        try:
            db = self._db = await self._in_order()
            with Deadline(db, self._wait):
                cursor = await db.execute(statement.encode(), self._row)
                return await cursor.fetchone()
        except psycopg.Error as error:
            if db is not None and isinstance(error, MAY_BE_SETTING):
                await db.close()
            raise explain(self._url, error, is_lost=db is None or db.closed) from cause(
                self._url, error
            )

    async def _in_order(self) -> Connection:
        """Return the connection, or a new one in its place."""
        if self._db is not None:
            if is_usable(self._db):
                return self._db
            await self._db.close()
        db = await self._connect()
        self._row["pid"] = db.backend_pid
        return db

    async def _connect(self) -> Connection:
        """Connect; where there is no room, take that of a connection of this process's others."""
        for _ in range(_ROOM_ASKED):
            try:
                return await open_connection(self._conninfo, within=self._wait)
            except Crowded:
                self._make_room()
                await asyncio.sleep(_ROOM_WAIT)
        return await open_connection(self._conninfo, within=self._wait)

    def _close(self) -> None:
        if self._lock is not None:
            self._lock.release()
        if self._db is not None:
            self._loop.run_until_complete(self._db.close())
        self._loop.close()


def _lock(owner: Owner) -> LifeLock | None:
    """Hold the lock that proves this process's end to others of its host; None where it cannot.

    Without it nobody believes in its end, which is safe: what it was doing may still happen.
    """
    file = host_file(owner)
    try:
        return None if file is None else LifeLock(file)
    except OSError:
        return None
