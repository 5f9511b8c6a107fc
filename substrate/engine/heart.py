"""A worker's heartbeat: a thread of its own, so that a busy event loop does not cost the lease.

What counts is the moment a beat was *sent*: from then on the lease runs. Once it has run out
unacknowledged, the worker considers its runs lost, whatever the database may still say.
"""

import logging
import threading
import time
from datetime import timedelta

from substrate.store.protocol import Pulse, Store
from substrate.values.clock import OffsetClock
from substrate.values.errors import StoreError
from substrate.values.records import Owner

log = logging.getLogger("ostinato")


class Heart:
    """Beats for one incarnation of a worker until it is stopped or declared dead."""

    def __init__(self, store: Store, owner: Owner, lease: timedelta) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease.total_seconds()
        self._is_stopping = False
        self._is_struck_off = False
        self._hurry = threading.Event()
        self._beaten = threading.Condition()
        self._sent = _uptime()
        self._pulse: Pulse = store.pulse(owner, lease)
        self._thread = threading.Thread(target=self._beat, name="ostinato-heart", daemon=True)
        self._thread.start()

    @property
    def seconds_left(self) -> float:
        """How long the lease holds from now, unless another beat is acknowledged."""
        if self._is_struck_off:
            return 0.0
        return max(0.0, self._sent + self._lease - _uptime())

    @property
    def is_alive(self) -> bool:
        """Whether the lease holds: not struck off, and acknowledged recently enough."""
        return self.seconds_left > 0

    def confirm(self) -> None:
        """Beat now, and return when the answer is known, or the lease has lapsed. Blocking."""
        with self._beaten:
            self._hurry.set()
            self._beaten.wait(self.seconds_left)

    def give_up(self) -> None:
        """Give every lease up now, before they lapse."""
        self._is_struck_off = True
        self._hurry.set()

    def stop(self) -> None:
        """Strike the worker off the register. Blocking."""
        self._is_stopping = True
        self._hurry.set()
        self._thread.join()

    def _beat(self) -> None:
        while not (self._rest() or self._is_struck_off):
            sent = _uptime()
            try:
                now = self._pulse.beat()
            except StoreError as error:
                log.warning("no heartbeat: %s", error)
            else:
                self._take_answer(now, sent)
            with self._beaten:
                self._beaten.notify_all()
        try:
            self._pulse.stop()
        except StoreError as error:
            log.warning("not struck off the register; the lease will lapse: %s", error)

    def _rest(self) -> bool:
        """Wait until the next beat is due; return whether there is to be none."""
        self._hurry.wait(self._lease / 3)
        self._hurry.clear()
        return self._is_stopping

    def _take_answer(self, now_ms: int | None, sent: float) -> None:
        """Prolong the lease, and set the store's clock by the database's time half-way."""
        if now_ms is None:
            self._is_struck_off = True
            return
        self._sent = sent
        clock = self._store.clock
        if isinstance(clock, OffsetClock):
            half_way = OffsetClock().now_ms() - round((_uptime() - sent) * 500)
            clock.offset_ms = now_ms - half_way


def _uptime() -> float:
    """Return seconds that go on while the host sleeps, as leases do; monotonic() stands still."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
