"""A transactional step in SQLite: on the writer, between two batches.

The user's statements run on the connection that writes everything else, so nobody else writes in
this process meanwhile, nor in another. An authorizer refuses what would end or nest the
transaction: SQLite asks it about each statement as it is compiled, so none hides behind another.

Heartbeats write, too, and wait meanwhile. So a transaction is open for half of a lease at most, of
the shortest that any worker of this file has, and begins only when no heartbeat is due.
"""

import threading
import time

import apsw

from substrate.store import rows
from substrate.store.blobs import offload
from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.file import IsLeft, SqliteFile, begin, explained
from substrate.store.sqlite.opening import LOCK_WAIT
from substrate.store.transaction import (
    LEAVE_OUT,
    LIMIT,
    Call,
    Longest,
    answer,
    check_call,
    closed,
    refused,
)
from substrate.values.clock import OffsetClock
from substrate.values.errors import Misuse
from substrate.values.records import (
    Checkpoint,
    CommitResult,
    Fence,
    Fenced,
    Promise,
    Written,
)

_INTERRUPT_EVERY = 0.01  # seconds; an interrupt that comes before its statement is lost
_LET_BEAT = 0.005  # seconds in which a heartbeat that is due takes its turn
_LETS = 20  # times at most: a worker's row may lie about when it was
_LEAST = 0.15  # seconds: half of the shortest lease that there may be
_DENIED = {
    apsw.SQLITE_TRANSACTION,
    apsw.SQLITE_SAVEPOINT,
    apsw.SQLITE_ATTACH,
    apsw.SQLITE_DETACH,
    apsw.SQLITE_PRAGMA,
}


class SqliteTransaction:
    """See `substrate.store.transaction.Transaction`."""

    def __init__(self, file: SqliteFile, db: apsw.Connection) -> None:
        self._file = file
        self._db = db
        self._turn = threading.Lock()
        self._closed_for: str | None = None
        self._fault: Misuse | None = None
        self._is_denied = False

    def execute(self, statement: str, parameters: object = ()) -> list[tuple[object, ...]]:
        """See `Transaction.execute`."""
        check_call(statement)
        with self._turn:
            self._check_open()
            self._is_denied = False
            self._db.authorizer = self._authorize
            try:
                found = self._db.execute(statement, parameters, can_cache=False)  # type: ignore[arg-type]
                return found.fetchall()
            except apsw.Error as error:
                self._check_open()  # or the error tells of our own interrupt
                if self._is_denied:
                    self._fault = refused(statement, LEAVE_OUT)
                    raise self._fault from error
                raise
            finally:
                self._db.authorizer = None
                if not self._db.in_transaction and self._fault is None:
                    self._fault = refused(statement, "it has rolled its transaction back")

    async def close(self, why: str) -> None:
        """See `OpenTransaction.close`."""
        self._closed_for = why
        await self._file.in_thread(self._interrupt)

    def check(self) -> None:
        """Raise the error that forbids to commit, if there is one."""
        if self._fault is not None:
            raise self._fault

    def _check_open(self) -> None:
        if self._closed_for is not None:
            raise closed(self._closed_for)
        self.check()

    def _authorize(self, action: int, *_: object) -> int:
        if action not in _DENIED:
            return apsw.SQLITE_OK
        self._is_denied = True
        return apsw.SQLITE_DENY

    def _interrupt(self) -> None:
        while not self._turn.acquire(timeout=_INTERRUPT_EVERY):
            self._db.interrupt()
        self._turn.release()


async def transact(file: SqliteFile, fence: Fence, call: Call) -> Promise | Fenced:
    """Let a function write, and commit that with its promise; see `Store.transact`."""
    async with file.turn() as db:
        try:
            longest = await file.in_thread_until_left(lambda is_left: _begin(db, is_left))
            transaction = SqliteTransaction(file, db)
            promise = await answer(transaction, call, longest)
            transaction.check()
            light = offload(Checkpoint(fence, promise))
            outcome = await file.in_thread(lambda: _end(db, light))
        except BaseException:
            await file.in_thread(lambda: _roll_back(db))
            raise
    return rows.as_it_stands(Checkpoint(fence, promise), outcome)


_LEASES = """
SELECT min(lease_until - beat_at), max(10 * (:now - beat_at) > 4 * (lease_until - beat_at))
  FROM workers
 WHERE lease_until > beat_at AND lease_until > :now
"""


def _begin(db: apsw.Connection, is_left: IsLeft) -> Longest:
    """Begin the transaction when no heartbeat is due; return for how long it may be open."""
    with explained(db, LOCK_WAIT):
        for is_last in (*[False] * _LETS, True):
            begin(db, LOCK_WAIT, is_left)
            now = OffsetClock().now_ms()  # of which the leases are
            lease_ms, is_due = db.execute(_LEASES, {"now": now}).fetchone() or (None, None)
            if is_last or not is_due:
                return _longest(lease_ms)
            # One transaction after another would else leave a heartbeat no gap to come in.
            db.execute("ROLLBACK")
            time.sleep(_LET_BEAT)
    raise AssertionError("the last one returns")


def _longest(lease_ms: int | None) -> Longest:
    if lease_ms is None or (seconds := max(lease_ms / 2000, _LEAST)) >= LIMIT.seconds:
        return LIMIT
    why = f"half of a worker's lease of {lease_ms / 1000:g} s, whose heartbeat waits meanwhile"
    return Longest(seconds, why)


def _end(db: apsw.Connection, checkpoint: Checkpoint) -> CommitResult:
    """Write the promise under the fence, and commit all if it was written, else nothing."""
    with explained(db, LOCK_WAIT):
        outcome = write_checkpoint(db, checkpoint)
        db.execute("COMMIT" if isinstance(outcome, Written) else "ROLLBACK")
    return outcome


def _roll_back(db: apsw.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
