"""A worker's heartbeat: a thread of its own, so that a busy event loop does not cost the lease.

- What counts is the moment a beat was *sent*: from then on the lease runs. Once it has run out
  unacknowledged, the worker considers its runs lost, whatever the database may still say.
- The thread owns all that there is to close: the registration and its connection. It is told to
  stop by a flag, which no cancellation can come between; whoever made it need not wait.
"""

import asyncio
import logging
import os
import threading
from datetime import timedelta
from math import inf

from substrate.engine.run.log_once import TroubleLog
from substrate.store.backend import HeartbeatConnection
from substrate.store.store import Store
from substrate.values.clock import OffsetClock, uptime
from substrate.values.errors import StoreError
from substrate.values.records import Owner

log = logging.getLogger("ostinato")

_LOOK_S = 1.0  # how often the thread looks whether its event loop is still open


class Heartbeat:
    """Beats for one incarnation of a worker until it is stopped or declared dead.

    Made on the event loop, where it may be awaited; it begins at once to register the worker.
    """

    def __init__(
        self, store: Store, owner: Owner, lease: timedelta, troubles: TroubleLog | None = None
    ) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._is_struck_off = False
        self._last_moment = inf
        self._hurry = threading.Event()
        self._sent = -inf
        self._fault: BaseException | None = None
        self._is_born = asyncio.Event()
        self._has_beaten = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._troubles = troubles or TroubleLog()
        threading.Thread(target=self._live, name="ostinato-heart", daemon=True).start()

    async def born(self) -> None:
        """Return when the worker is registered. Raises what kept it from that.

        Whoever does not wait for it any more stops it.
        """
        try:
            await self._is_born.wait()
        except asyncio.CancelledError:
            self.stop()
            raise
        if self._fault is not None:
            raise self._fault

    @property
    def seconds_left(self) -> float:
        """How long the lease holds from now, unless another beat is acknowledged."""
        if self._is_struck_off or os.getpid() != self._pid:  # a forked child has no lease
            return 0.0
        return max(0.0, self._sent + self._lease.total_seconds() - uptime())

    @property
    def is_alive(self) -> bool:
        """Whether the lease holds: not struck off, and acknowledged recently enough."""
        return self.seconds_left > 0

    async def confirm(self) -> None:
        """Beat now, and return when the answer is known, or the lease has lapsed."""
        self._has_beaten.clear()
        self._hurry.set()
        await _within(self._has_beaten, self.seconds_left)

    def give_leases_up(self) -> None:
        """Give every lease up now, before they lapse."""
        self._is_struck_off = True
        self._hurry.set()

    def retire(self, seconds: float) -> None:
        """Beat so long at most, whatever becomes of the event loop and of who should stop it."""
        self._last_moment = min(self._last_moment, uptime() + seconds)
        self._hurry.set()

    def stop(self) -> None:
        """Let the thread strike the worker off the register, and end. Returns at once."""
        self._is_stopping = True
        self._hurry.set()

    async def ended(self, seconds: float) -> None:
        """Return when the thread has ended, or after so long: a database may not answer it."""
        await _within(self._has_ended, seconds)

    def _live(self) -> None:
        try:
            sent = (
                uptime()
            )  # before it is sent: the database counts the lease from some later moment
            heartbeat = self._store.heartbeat(self._owner, self._lease)
            self._sent = sent
            self._tell(self._is_born)
            self._beat(heartbeat)
        except BaseException as error:  # noqa: BLE001 - it is raised where the birth is awaited
            self._fault = error
            self._is_struck_off = True
        finally:  # whoever waits for either is answered, whatever has happened
            self._tell(self._is_born, self._has_ended)

    def _beat(self, heartbeat: HeartbeatConnection) -> None:
        while not self._rest():
            sent = uptime()
            try:
                now = heartbeat.beat()
            except StoreError as error:
                self._troubles.report("no heartbeat", error)
            else:
                self._take_answer(now, sent)
            self._tell(self._has_beaten)
        try:
            heartbeat.stop()
        except StoreError as error:
            self._troubles.report("not struck off the register; the lease will lapse", error)

    def _rest(self) -> bool:
        """Wait until the next beat is due; return whether there is to be none."""
        # A third of the lease: two beats in a row may be lost before it lapses.
        due = min(uptime() + self._lease.total_seconds() / 3, self._last_moment)
        while (left := due - uptime()) > 0 and not self._hurry.wait(min(left, _LOOK_S)):
            if self._loop.is_closed():  # a second Ctrl-C may leave nobody to say `stop`
                return True
        self._hurry.clear()
        return self._is_stopping or self._is_struck_off or uptime() >= self._last_moment

    def _take_answer(self, now_ms: int | None, sent: float) -> None:
        """Prolong the lease, and set the store's clock by the database's time half-way."""
        if now_ms is None:  # our row is gone: another worker has declared this one dead
            self._is_struck_off = True
            return
        self._sent = sent
        if isinstance(self._store.clock, OffsetClock):
            self._store.clock.set(now_ms, sent)

    def _tell(self, *events: asyncio.Event) -> None:
        """Set events of the loop, unless that is closed: then nobody waits."""
        try:
            for event in events:
                self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            self._is_stopping = True


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event has come, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
