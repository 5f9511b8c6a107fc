"""A worker's sign of life in SQLite: a row with a lease, and a lock on a file.

The kernel frees the lock when the process dies, so the other processes of this host need not wait
for the lease. ``flock`` it is: the locks of ``lockf`` are shared by a whole process and lost when
any handle on the file is closed. A forked orphan may hold the lock on; then the lease decides.
"""

import fcntl
import os
import socket
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import apsw

from substrate.store import rows
from substrate.store.sqlite.file import open_file, transact, unusable
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


class SqlitePulse:
    """See `substrate.store.protocol.Pulse`."""

    def __init__(self, path: Path, owner: Owner, lease: timedelta) -> None:
        self._path = path
        self._owner = owner
        self._lease_ms = int(lease.total_seconds() * 1000)
        self._clock = OffsetClock()
        self._lock = _lock(path, owner)
        try:
            self._db = open_file(path)
            self._run(_REGISTER)
        except BaseException:
            os.close(self._lock)
            raise

    def beat(self) -> int | None:
        """See `Pulse.beat`. Raises `StoreError`; the next beat tries again."""
        return self._run(_BEAT)

    def stop(self) -> None:
        """See `Pulse.stop`."""
        try:
            self._run(_STRIKE_OFF)
        finally:
            self._db.close()
            os.close(self._lock)
            remove_lock(self._path, self._owner)

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
    if host != socket.gethostname():
        return False
    try:
        probe = os.open(_lock_file(path, owner), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(probe)
    return True


def remove_lock(path: Path, owner: Owner) -> None:
    """Remove the lock file of a worker that has been struck off."""
    with suppress(FileNotFoundError, PermissionError):
        _lock_file(path, owner).unlink()


def _lock(path: Path, owner: Owner) -> int:
    file = _lock_file(path, owner)
    try:
        file.parent.mkdir(exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise unusable(file, error) from error
    return handle


def _lock_file(path: Path, owner: Owner) -> Path:
    return path.with_name(path.name + "-workers") / owner
