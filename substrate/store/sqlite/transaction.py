"""A transactional step in SQLite: on the writer, between two batches.

The user's statements run on the connection that writes everything else, so nobody else writes in
this process meanwhile, nor in another. An authorizer refuses what would end or nest the
transaction: SQLite asks it about each statement as it is compiled, so none hides behind another.
"""

import threading
from dataclasses import replace

import apsw

from substrate.store.blobs import outsource
from substrate.store.sqlite.file import LOCK_WAIT, SqliteFile, begin, explained
from substrate.store.sqlite.journal import write_checkpoint
from substrate.store.transaction import LEAVE_OUT, Call, answer, check_call, closed, refused
from substrate.values.errors import Misuse
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Fence,
    Fenced,
    Outcome,
    Promise,
    Written,
)

_INTERRUPT_EVERY = 0.01  # seconds; an interrupt that comes before its statement is lost
_DENIED = {
    apsw.SQLITE_TRANSACTION,
    apsw.SQLITE_SAVEPOINT,
    apsw.SQLITE_ATTACH,
    apsw.SQLITE_DETACH,
    apsw.SQLITE_PRAGMA,
}


class SqliteTransaction:
    """See `substrate.store.protocol.Transaction`."""

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
            await file.in_thread(lambda: _begin(db))
            transaction = SqliteTransaction(file, db)
            promise = await answer(transaction, call)
            transaction.check()
            light = outsource(Checkpoint(fence, promise))
            outcome = await file.in_thread(lambda: _end(db, light))
        except BaseException:
            await file.in_thread(lambda: _roll_back(db))
            raise
    match outcome:
        case Written(seq):
            return replace(promise, seq=seq, epoch=fence.epoch)
        case Adopted(first):
            return first
    return Fenced()


def _begin(db: apsw.Connection) -> None:
    with explained(db, LOCK_WAIT):
        begin(db, LOCK_WAIT)


def _end(db: apsw.Connection, checkpoint: Checkpoint) -> Outcome:
    """Write the promise under the fence, and commit all if it was written, else nothing."""
    with explained(db, LOCK_WAIT):
        outcome = write_checkpoint(db, checkpoint)
        db.execute("COMMIT" if isinstance(outcome, Written) else "ROLLBACK")
    return outcome


def _roll_back(db: apsw.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
