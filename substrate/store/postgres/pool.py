"""Connections that go from one work to the next.

- One that was opened is kept, and closed when it has long been idle, all but the last: opening
  costs a process on the server, and calls come in bursts.
- Where the server has no room for another, the work waits for one of ours; so few connections make
  it slow, not stuck. Only who has none at all is refused. After a while another is tried.
- Who asks while all are in use waits in line, for so long at most.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import psycopg

from substrate.store.backend import CLOSED
from substrate.store.postgres.deadline import cut, is_usable
from substrate.values.errors import StoreUnreachable, StoreUnusable

C = TypeVar("C", bound=psycopg.AsyncConnection[Any])

log = logging.getLogger("ostinato")

MAX_POOLED = 12
"""How many connections there are at most beside the committer's and each worker's heartbeat."""

SEAT_WAIT = 10.0
"""How many seconds a call waits for one of `MAX_POOLED` connections."""

IDLE_FOR = 60.0
"""After how many seconds an idle connection is closed."""

CROWDED_FOR = 30.0
"""For how many seconds no other is tried, where the server had no room for it."""

_LAST_WORK = 2.0  # seconds for what is under way when the pool is closed
_IS_CROWDED = re.compile(
    r"too many (connections|clients)|connection slots are reserved|no more connections allowed"
)


class Crowded(StoreUnreachable):
    """The server has no room for another connection."""


def crowded(message: str) -> Crowded | None:
    """Return the error for what a server says that has no room, None when it says other things."""
    if not _IS_CROWDED.search(message):
        return None
    return Crowded(
        f"Postgres has no room for another connection ({message}); a process with a worker needs at"
        f" least 2, and is fast with {MAX_POOLED + 2}: raise the CONNECTION LIMIT of the role or"
        " database, or max_connections, or stop what else is connected"
    )


class Pool(Generic[C]):
    """Up to `MAX_POOLED` connections. Who takes one gives it back in any case."""

    def __init__(self, open_one: Callable[[], Awaitable[C]], idle_for: float) -> None:
        self._open_one = open_one
        self._idle_for = idle_for
        self._idle: list[tuple[C, float]] = []  # with since when; the last used is last
        self._used: set[C] = set()
        self._opening = 0
        self._seats = _Seats(MAX_POOLED)
        self._sweeping: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._was_told = False
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._idle) + len(self._used) + self._opening

    def check_open(self) -> None:
        """Raise `StoreUnusable` when it was closed."""
        if self._is_closed:
            raise StoreUnusable(CLOSED)

    async def take(self) -> C:
        """Return a connection that nobody else uses meanwhile. Raises `StoreUnreachable`."""
        self.check_open()
        while True:
            await self._sit_down()
            try:
                connection = await self._kept_or_new()
            except Crowded as error:
                self._seats.leave()
                if not len(self):
                    raise
                self.tell(error)
                self._seats.narrow(len(self))
            except BaseException:
                self._seats.leave()
                raise
            else:
                self._used.add(connection)
                return connection

    async def give_back(self, connection: C) -> None:
        """Keep the connection for the next, unless it is not in order, or one too many."""
        there_are = len(self._idle) + len(self._used)
        is_wanted = there_are <= self._seats.room and not self._is_closed
        self._used.discard(connection)
        if is_wanted and is_usable(connection):
            self.adopt(connection)
        else:
            await connection.close()
        self._seats.leave()

    def adopt(self, connection: C) -> None:
        """Keep a connection that is idle."""
        self._idle.append((connection, asyncio.get_running_loop().time()))
        if self._sweeping is None:
            self._sweep_later()

    def make_room(self) -> bool:
        """Do with one less for a while: somebody of ours needs it more. Return whether it can."""
        if len(self) <= 1:
            return False
        self._seats.narrow(len(self) - 1)
        if self._idle:
            self._close_soon(self._idle.pop(0)[0])
        return True

    async def distrust(self) -> None:
        """Close what is idle: another connection, on the same way, does not answer any more."""
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            await connection.close()

    async def close(self) -> None:
        """Close them all; one that is in use when its work is done, or cut it soon."""
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.distrust()
        for connection in self._used:
            asyncio.get_running_loop().call_later(_LAST_WORK, cut, connection)

    def tell(self, error: Crowded) -> None:
        """Log once that there are fewer connections than would be fast."""
        if not self._was_told:
            self._was_told = True
            log.warning("going on with fewer connections than asked for: %s", error)

    async def _sit_down(self) -> None:
        try:
            await self._seats.take(SEAT_WAIT)
        except TimeoutError:
            raise StoreUnreachable(
                f"all {len(self)} connections to Postgres have been busy for {SEAT_WAIT:.0f} s; "
                "look in pg_stat_activity for what they wait for"
            ) from None

    async def _kept_or_new(self) -> C:
        while self._idle:
            connection, _ = self._idle.pop()
            if is_usable(connection):
                return connection
            await connection.close()
        self._opening += 1
        try:
            return await self._open_one()
        finally:
            self._opening -= 1

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_at(self._idle[0][1] + self._idle_for, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long, all but one."""
        self._sweeping = None
        long_ago = asyncio.get_running_loop().time() - self._idle_for
        while len(self._idle) > 1 and self._idle[0][1] <= long_ago:
            self._close_soon(self._idle.pop(0)[0])
        if len(self._idle) > 1:
            self._sweep_later()

    def _close_soon(self, connection: C) -> None:
        task = asyncio.ensure_future(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Seats:
    """A semaphore, first come, first served, whose number can be lowered for a while."""

    def __init__(self, number: int) -> None:
        self.room = number
        self._number = number
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._widening: asyncio.TimerHandle | None = None

    async def take(self, seconds: float) -> None:
        """Wait so long at most for a seat. Raises `TimeoutError`."""
        if self._taken < self.room and not self._waiting:
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            if turn.cancelled():
                with suppress(ValueError):  # it has been passed over
                    self._waiting.remove(turn)
            else:  # the seat came in the very turn of the loop in which the wait ended
                self.leave()
            raise

    def leave(self) -> None:
        """Leave a seat to whoever waits first."""
        self._taken -= 1
        self._call_in()

    def narrow(self, room: int) -> None:
        """Have only so many for a while, one at least."""
        self.room = max(1, min(room, self.room))
        if self._widening is not None:
            self._widening.cancel()
        self._widening = asyncio.get_running_loop().call_later(CROWDED_FOR, self._widen)

    def _widen(self) -> None:
        self.room = self._number
        self._call_in()

    def _call_in(self) -> None:
        while self._waiting and self._taken < self.room:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
