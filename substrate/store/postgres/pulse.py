"""A worker's sign of life in Postgres: one row, one UPDATE a beat, on a connection of its own.

It brings back the database's time, so that the clocks of the workers' hosts do not matter. The
backend behind the connection ends with this process, by which others soon see a death. Behind a
pooler it does not, and may change from beat to beat, so there none is registered.
"""

import socket
from datetime import timedelta
from typing import Any

import psycopg

from substrate.store.postgres.connections import NOW, explain, is_usable, prepare, unreachable
from substrate.store.postgres.recovery import SERVER_START
from substrate.values.records import Owner

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


class PostgresPulse:
    """See `substrate.store.protocol.Pulse`."""

    def __init__(self, url: str, owner: Owner, lease: timedelta) -> None:
        self._url = url
        self._conninfo = prepare(url)
        self._row: dict[str, Any] = {
            "owner": owner,
            "lease_ms": int(lease.total_seconds() * 1000),
            "host": socket.gethostname(),
        }
        self._connect()
        self._run(_REGISTER)

    def beat(self) -> int | None:
        """See `Pulse.beat`. Raises `StoreError`; the next beat connects anew where it must."""
        if not is_usable(self._db):
            self._db.close()
            self._connect()
        return self._run(_BEAT)

    def stop(self) -> None:
        """See `Pulse.stop`."""
        try:
            if is_usable(self._db):
                self._run(_STRIKE_OFF)
        finally:
            self._db.close()

    def _connect(self) -> None:
        try:
            self._db = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise unreachable(self._url, error) from error
        pid = self._run("SELECT pg_backend_pid()")
        self._row["pid"] = pid if pid == self._db.info.backend_pid else None

    def _run(self, statement: str) -> int | None:
        try:
            row = self._db.execute(statement.encode(), self._row).fetchone()
        except psycopg.Error as error:
            raise explain(self._url, error, is_lost=self._db.closed) from error
        return row[0] if row else None
