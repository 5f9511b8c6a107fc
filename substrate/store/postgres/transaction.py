"""A transactional step in Postgres: on a connection of its own, while others' batches go on.

The user's thread hands each statement to the event loop, which runs it and hands the rows back.

- One statement at a time goes over the extended protocol, where the server takes no more than one;
  so its first word tells whether it would end or nest the transaction, and nothing hides behind it.
- The run's row is locked last, in the statement that writes the promise: a slow step keeps nobody
  from its run, and a worker that takes the run over need not wait for it.
- A statement that fails has spoilt its transaction, as ever in Postgres: a function that goes on
  all the same fails with that statement's error.
"""

import asyncio
import re
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from substrate.store import rows
from substrate.store.blobs import offload
from substrate.store.postgres.connections import Connections
from substrate.store.postgres.deadline import AnyConnection
from substrate.store.postgres.fenced_commit import write_batch
from substrate.store.postgres.session import Cursor, users_cursor
from substrate.store.transaction import LEAVE_OUT, Call, answer, check_call, closed, refused
from substrate.values.errors import Misuse
from substrate.values.records import (
    Checkpoint,
    Fence,
    Fenced,
    Promise,
    Written,
)

_CANCEL_WAIT = 1.0  # seconds for a statement to heed a cancel; then its connection is closed
_ENDS = frozenset(
    ["ABORT", "BEGIN", "COMMIT", "END", "PREPARE", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"],
)
_OUTLIVES = frozenset(["DEALLOCATE", "DISCARD", "LISTEN", "RESET", "SET", "UNLISTEN"])
_SET_LOCAL = "it changes the session, which others use afterwards; SET LOCAL lasts until the end"
_GAP = re.compile(r"(?:[\s;]|--[^\n\r]*)+")
_MARK = re.compile(r"/\*|\*/")
_WORD = re.compile(r"[A-Za-z]+")
_LOCAL = re.compile(r"SET\s+LOCAL\s", re.IGNORECASE)


class PostgresTransaction:
    """See `substrate.store.transaction.Transaction`."""

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._closed_for: str | None = None
        self._fault: Misuse | psycopg.Error | None = None
        self.was_cut: bool = False

    def execute(self, statement: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """See `Transaction.execute`."""
        check_call(statement)
        execution = self._execute(statement, parameters)
        return asyncio.run_coroutine_threadsafe(execution, self._loop).result()

    async def close(self, why: str) -> None:
        """See `OpenTransaction.close`."""
        self._closed_for = why
        if not self._turn.locked():
            return
        try:
            async with asyncio.timeout(_CANCEL_WAIT):
                with suppress(psycopg.Error):
                    await self._connection.cancel_safe(timeout=_CANCEL_WAIT)
                async with self._turn:
                    return
        except TimeoutError:
            self.was_cut = True
            await self._connection.close()

    def check(self) -> None:
        """Raise the error that forbids to commit, if there is one."""
        if self._fault is not None:
            raise self._fault

    async def _execute(self, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
        async with self._turn:
            self._check_open()
            try:
                _check_statement(statement)
                return await self._fetch(statement, parameters)
            except Misuse as error:
                self._fault = error
                raise
            except psycopg.Error as error:
                self._check_open()  # or the error tells of our own cancel
                if _is_many(error):
                    self._fault = refused(statement, "it is several statements; execute each")
                    raise self._fault from error
                if self._status is not TransactionStatus.INTRANS:
                    self._fault = self._fault or error
                raise

    @property
    def _status(self) -> TransactionStatus:
        return self._connection.info.transaction_status

    def _check_open(self) -> None:
        if self._closed_for is not None:
            raise closed(self._closed_for)
        if isinstance(self._fault, Misuse):
            raise self._fault

    async def _fetch(self, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
        cursor = users_cursor(self._connection)
        if parameters:
            await cursor.execute(statement, parameters, prepare=False)
        else:
            async with self._connection.pipeline():  # or it would go as several statements may
                await cursor.execute(statement, prepare=False)
        if self._status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            raise refused(statement, LEAVE_OUT)
        return await cursor.fetchall() if cursor.description else []


class _Undone(Exception):
    """Rolls the step's transaction back, and carries what came of it out."""

    def __init__(self, end: Promise | Fenced | BaseException) -> None:
        self.end = end
        super().__init__()


async def transact(connections: Connections, fence: Fence, call: Call) -> Promise | Fenced:
    """Let a function write, and commit that with its promise; see `Store.transact`."""

    async def work(db: Cursor) -> Promise | Fenced | BaseException:
        try:
            async with db.connection.transaction():
                promise = await _answer(db.connection, call)
                return await _write(db, Checkpoint(fence, promise))
        except _Undone as undone:
            return undone.end

    end = await connections.on_pool(work)
    if isinstance(end, BaseException):
        raise end
    return end


async def _answer(connection: AnyConnection, call: Call) -> Promise:
    """Return what the call comes to; what it raises passes by who explains the store's errors."""
    transaction = PostgresTransaction(connection)
    try:
        promise = await answer(transaction, call)
        transaction.check()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if connection.closed and not transaction.was_cut:
            raise psycopg.OperationalError("the connection was lost") from error
        raise _Undone(error) from error
    return promise


async def _write(db: Cursor, checkpoint: Checkpoint) -> Promise:
    """Write the promise under the fence, which takes the run's lock, or undo everything."""
    (outcome,) = await write_batch(db, [offload(checkpoint)], wait=True)
    stands = rows.as_it_stands(checkpoint, outcome)
    if not isinstance(outcome, Written) or isinstance(stands, Fenced):
        raise _Undone(stands)
    return stands


def _check_statement(statement: str) -> None:
    """Refuse a statement whose first word says that it ends or outlives the transaction."""
    start = _skip_gaps(statement)
    word = _WORD.match(statement, start)
    first = word.group().upper() if word else ""
    if first in _ENDS:
        raise refused(statement, LEAVE_OUT)
    if first in _OUTLIVES and not _LOCAL.match(statement, start):
        raise refused(statement, _SET_LOCAL)


def _skip_gaps(statement: str) -> int:
    """Return where a statement begins, after blanks, comments and empty statements."""
    start = 0
    while True:
        if gap := _GAP.match(statement, start):
            start = gap.end()
        elif statement.startswith("/*", start):
            start = _skip_comment(statement, start)
        else:
            return start


def _skip_comment(statement: str, start: int) -> int:
    """Return where a comment ends. They nest."""
    depth = 0
    for mark in _MARK.finditer(statement, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(statement)


def _is_many(error: psycopg.Error) -> bool:
    """Whether the server refused a text because it holds several statements."""
    is_syntax = isinstance(error, psycopg.errors.SyntaxError)
    return is_syntax and error.diag.source_function == "exec_parse_message"
