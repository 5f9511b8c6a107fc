"""Under what name a worker is known: its heartbeat, and what it has told others that it knows.

A name is never taken up again. When its lease has lapsed the worker comes back under another, so
that no write of before counts for what it claims from then on.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from substrate.engine.run.log_once import TroubleLog
from substrate.engine.worker.heartbeat import Heartbeat
from substrate.store.store import Store
from substrate.store.uncancelled import to_its_end
from substrate.values.errors import StoreError
from substrate.values.records import Owner

LAST_WAIT = 2.0
"""For how many seconds a worker waits for tasks and threads to end that it has told to."""


class Registration:
    """One name of a worker after the other, on one line. Until `register`, it has no lease."""

    def __init__(
        self, store: Store, lanes: Sequence[str], lease: timedelta, troubles: TroubleLog
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._lease = lease
        self._troubles = troubles
        self._has_told_lanes = False
        self.owner: Owner = Owner("")
        """The present name, which the worker's claims are made under."""
        self.heartbeat: Heartbeat | None = None
        """What keeps the lease of that name."""

    @property
    def seconds_left(self) -> float:
        """How long the lease holds from now, unless another beat is acknowledged."""
        return 0.0 if self.heartbeat is None else self.heartbeat.seconds_left

    @property
    def is_alive(self) -> bool:
        """Whether the lease holds. Asked in any thread."""
        return self.seconds_left > 0

    async def register(self) -> None:
        """Begin to beat under a new name. Cancelled meanwhile, it leaves nothing behind."""
        owner = Owner(str(uuid4()))
        heartbeat = Heartbeat(self._store, owner, self._lease, self._troubles)
        try:
            await heartbeat.born()
            self.heartbeat, self.owner, self._has_told_lanes = heartbeat, owner, False
            with suppress(StoreError):  # then the tick tells it: nothing hangs on that
                await self.tell_lanes()
        except BaseException:
            heartbeat.stop()
            await to_its_end(heartbeat.ended(LAST_WAIT))
            raise

    async def unregister(self) -> None:
        """Let the heartbeat end, and strike the name off."""
        self.stop()
        await self.ended()

    async def confirm(self) -> None:
        """Beat now; return when it is known whether the name still stands."""
        if self.heartbeat is not None:
            await self.heartbeat.confirm()

    def give_leases_up(self) -> None:
        """Give the lease up at once. Called from any thread."""
        if self.heartbeat is not None:
            self.heartbeat.give_leases_up()

    def retire(self, seconds: float) -> None:
        """Beat so long at most, whatever becomes of the event loop."""
        if self.heartbeat is not None:
            self.heartbeat.retire(seconds)

    def stop(self) -> None:
        """Let the heartbeat strike the name off, and end. Returns at once."""
        if self.heartbeat is not None:
            self.heartbeat.stop()

    async def ended(self) -> None:
        """Return when the heartbeat has ended, or after a while: its database may not answer."""
        if self.heartbeat is not None:
            await self.heartbeat.ended(LAST_WAIT)

    async def tell_lanes(self) -> None:
        """Let others know what this worker knows, if they were not told under this name."""
        if not self._has_told_lanes:
            await self._store.write_lanes(self.owner, self._lanes)
            self._has_told_lanes = True
