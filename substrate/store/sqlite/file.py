"""An open SQLite file: written by one turn at a time, shared with other processes.

- Only apsw opens it: another driver in the same process would drop its locks. See `exclusive`.
- A write transaction begins ``IMMEDIATE``, so it fails at its first statement or not at all.
- A short transaction runs on the event loop, where it costs no hand-over; one that must wait for
  another process's lock, or that has lately been slow, runs in the writer thread. So does a long
  query, on a connection of its own.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from substrate.store.backend import CLOSED
from substrate.store.sqlite import exclusive
from substrate.store.sqlite.exclusive import FileId
from substrate.store.sqlite.opening import LOCK_WAIT, open_file, pause, unusable
from substrate.store.uncancelled import to_its_end
from substrate.values.errors import (
    CheckpointRefused,
    Forgotten,
    StoreError,
    StoreUnreachable,
    StoreUnusable,
)

T = TypeVar("T")
P = ParamSpec("P")

Work = Callable[[apsw.Connection], T]
"""What is run on a connection."""

Asked = Callable[Concatenate[apsw.Connection, P], T]
"""The same, with arguments of its own."""

_READ_WAIT = 5.0  # a read waits only while another process opens or leaves the file
_SLOW = 0.002  # a commit longer than this no longer belongs on the event loop

REFUSALS = (
    apsw.ConstraintError,
    apsw.TooBigError,
    apsw.MismatchError,
    OverflowError,  # these three: what cannot even be handed to SQLite
    TypeError,
    ValueError,
)
"""What is raised where a row is at fault, and not the file."""


IsLeft = Callable[[], bool]
"""Whether nobody waits any more for what is being done."""


def somebody_waits() -> bool:
    """Return that nobody has left."""
    return False


def transact(
    db: apsw.Connection, work: Work[T], *, wait: float, is_left: IsLeft = somebody_waits
) -> T:
    """Run the work in one write transaction and commit it; `is_left`: see `begin`.

    Raises `apsw.BusyError` when `wait` is 0 and another process is writing; `StoreUnreachable`
    when it still was after so many seconds; `CheckpointRefused` for a row that SQLite rejects.
    """
    with explained(db, wait):
        begin(db, wait, is_left)
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return result


@contextmanager
def explained(db: apsw.Connection, wait: float) -> Iterator[None]:
    """Raise in our own terms what SQLite raises in the block, as `transact` does."""
    try:
        yield
    except apsw.BusyError as error:
        if wait == 0:
            raise
        raise _busy(wait) from error
    except Forgotten:
        raise
    except REFUSALS as error:
        raise CheckpointRefused(f"SQLite refuses a row: {error}") from error
    except apsw.Error as error:
        raise unusable(db.filename, error) from error


def begin(connection: apsw.Connection, wait: float, is_left: IsLeft = somebody_waits) -> None:
    """Begin a write transaction, waiting so many seconds for other processes to end theirs.

    When nobody waits any more for what comes of it, it waits no longer either.
    """
    began = time.monotonic()
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            waited = time.monotonic() - began
            if waited >= wait or is_left():
                raise
            pause(waited)
        else:
            return


class SqliteFile:
    """One open file, for one event loop: a connection to write, one to read, one to read long."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = open_file(path)
        self._reader = open_file(path)
        self._scanner = open_file(path)
        self.id: FileId = exclusive.keep(path)
        """Which file it is, under whatever name."""
        for connection in (self._reader, self._scanner):
            connection.set_busy_timeout(int(_READ_WAIT * 1000))
        self._writing = asyncio.Lock()
        self._scanning = asyncio.Lock()
        self._threads = _started(2)
        self._pace = 0.0
        self._is_closed = False

    def check_open(self) -> None:
        """Raise `StoreUnusable` when it was closed."""
        if self._is_closed:
            raise StoreUnusable(CLOSED)

    async def write(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run the work in one write transaction and commit it; on the loop, if that is quick."""
        async with self._writing:
            self.check_open()

            def call(db: apsw.Connection) -> T:
                return work(db, *args, **named)

            if self._pace < _SLOW:
                with suppress(apsw.BusyError):
                    return self._transact(call, wait=0)
            return await self._wait_and_transact(call)

    async def write_in_thread(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Do as `write` does, for what takes its time."""
        async with self._writing:
            self.check_open()
            return await self._wait_and_transact(lambda db: work(db, *args, **named))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[apsw.Connection]:
        """Give the writing connection for the block, in which nobody else writes.

        What is done with it belongs in a thread.
        """
        async with self._writing:
            self.check_open()
            yield self._writer

    async def read(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run a short query, on the event loop."""
        self.check_open()
        try:
            return work(self._reader, *args, **named)
        except apsw.Error as error:
            raise self._unreadable(error) from error

    async def scan(self, work: Asked[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run a long query in a thread, so that it does not block the event loop."""
        async with self._scanning:
            self.check_open()
            try:
                return await self.in_thread(lambda: work(self._scanner, *args, **named))
            except apsw.Error as error:
                raise self._unreadable(error) from error

    async def close(self) -> None:
        """Close every connection, when the last transaction has ended."""
        async with self._writing, self._scanning:
            self.abandon()

    def abandon(self) -> None:
        """Close every connection at once: nobody is using one."""
        self._is_closed = True
        self._threads.shutdown()
        for connection in (self._writer, self._reader, self._scanner):
            connection.close()
        exclusive.let_go(self.id)

    def _transact(self, work: Work[T], wait: float, is_left: IsLeft = somebody_waits) -> T:
        written = time.perf_counter()

        def timed(db: apsw.Connection) -> T:
            nonlocal written
            result = work(db)
            written = time.perf_counter()
            return result

        result = transact(self._writer, timed, wait=wait, is_left=is_left)
        self._pace += 0.1 * (time.perf_counter() - written - self._pace)
        return result

    async def _wait_and_transact(self, call: Work[T]) -> T:
        return await self.in_thread_until_left(
            lambda is_left: self._transact(call, wait=LOCK_WAIT, is_left=is_left)
        )

    def _unreadable(self, error: apsw.Error) -> StoreError:
        if isinstance(error, apsw.BusyError):
            return _busy(_READ_WAIT)
        return unusable(self.path, error)

    async def in_thread_until_left(self, call: Callable[[IsLeft], T]) -> T:
        """Do as `in_thread` does. `call` learns by its argument when nobody waits any more."""
        left = threading.Event()
        work = partial(call, left.is_set)
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await to_its_end(running, left.set)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run in a thread, to its end: cancelled or not, it uses our connection until then."""
        return await to_its_end(asyncio.get_running_loop().run_in_executor(self._threads, call))


def _started(count: int) -> ThreadPoolExecutor:
    """Return an executor whose threads all run already.

    Python forgets a thread if Ctrl-C interrupts the call that starts it. The process would wait
    for it for ever. A file is opened outside the main thread, where no Ctrl-C arrives.
    """
    threads = ThreadPoolExecutor(count, thread_name_prefix="ostinato-sqlite")
    all_run = threading.Barrier(count)
    for _ in range(count):
        threads.submit(all_run.wait)
    return threads


def _busy(waited: float) -> StoreError:
    return StoreUnreachable(
        f"another process has kept the SQLite file locked for {waited:.0f} s; "
        "find it and stop it, then try again"
    )
