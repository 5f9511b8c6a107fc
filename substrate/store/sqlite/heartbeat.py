"""A worker's sign of life in SQLite: a row with a lease, and a lock on a file.

By the lock the other processes of this host learn of its death, and need not wait for the lease.
"""

import os
import socket
from datetime import timedelta
from pathlib import Path

import apsw

from substrate.store import life_lock, rows
from substrate.store.life_lock import LifeLock
from substrate.store.sqlite.exclusive import FileId, check_same
from substrate.store.sqlite.file import transact
from substrate.store.sqlite.opening import open_file, unusable
from substrate.values.clock import OffsetClock
from substrate.values.records import Owner

_REGISTER = """
INSERT INTO workers (incarnation, tenant, host, backend_pid, beat_at, lease_until)
VALUES (:owner, '', :host, :pid, :now, :until)
RETURNING beat_at
"""

_BEAT = """
UPDATE workers
   SET beat_at = :now, lease_until = :until
 WHERE incarnation = :owner
RETURNING beat_at
"""

_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = :owner
RETURNING beat_at
"""

_LOCK_WAIT = 5.0


class SqliteHeartbeat:
    """See `substrate.store.backend.HeartbeatConnection`."""

    def __init__(self, path: Path, owner: Owner, lease: timedelta, file: FileId) -> None:
        check_same(path, file)  # else it would make an empty one where the other was taken away
        self._path = path
        self._file = file
        self._owner = owner
        self._lease_ms = int(lease.total_seconds() * 1000)
        self._clock = OffsetClock()
        self._lock = _lock(path, owner)
        try:
            self._db = open_file(path)
            self._run(_REGISTER)
        except BaseException:
            self._lock.release()
            raise

    def beat(self) -> int | None:
        """See `HeartbeatConnection.beat`. Raises `StoreError`; the next beat tries again.

        A file that was moved, deleted or replaced has no beat: others would begin the same runs in
        the file that is there now.
        """
        check_same(self._path, self._file)
        return self._run(_BEAT)

    def stop(self) -> None:
        """See `HeartbeatConnection.stop`."""
        try:
            self._run(_STRIKE_OFF)
        finally:
            self._db.close()
            self._lock.release()

    def _run(self, statement: str) -> int | None:
        """Run one statement in a transaction; return what it says of the time, None if nothing."""

        def work(db: apsw.Connection) -> int | None:
            now = self._clock.now_ms()
            row = {
                "owner": self._owner,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "now": now,
                "until": now + self._lease_ms,
            }
            found: rows.Row | None = db.execute(statement, row).fetchone()
            return found[0] if found else None

        return transact(self._db, work, wait=_LOCK_WAIT)


def is_free(path: Path, owner: Owner, host: str) -> bool:
    """Whether a worker of this host has died: its lock is there, and free."""
    file = life_lock.lock_file(_lock_folder(path), owner)
    return file is not None and host == socket.gethostname() and life_lock.is_free(file)


def remove_lock(path: Path, owner: Owner) -> None:
    """Remove the lock file of a worker that has been struck off."""
    if file := life_lock.lock_file(_lock_folder(path), owner):
        life_lock.remove(file)


def _lock(path: Path, owner: Owner) -> LifeLock:
    file = _lock_folder(path) / owner
    try:
        return LifeLock(file)
    except OSError as error:
        raise unusable(file, error) from error


def _lock_folder(path: Path) -> Path:
    return path.with_name(path.name + "-workers")
