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
from substrate.store.shield import to_its_end
from substrate.store.store import Store
from substrate.values.errors import StoreError
from substrate.values.records import Owner

LAST_WAIT = 2.0
"""For how many seconds a worker waits for tasks and threads to end that it has told to."""


class Registration:
    """One name of a worker after the other. `register` comes first."""

    owner: Owner
    """The present name, which the worker's claims are made under."""

    heartbeat: Heartbeat
    """What keeps the lease of that name."""

    def __init__(
        self, store: Store, lanes: Sequence[str], lease: timedelta, troubles: TroubleLog
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._lease = lease
        self._troubles = troubles
        self._has_told_lanes = False

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
        self.heartbeat.stop()
        await self.heartbeat.ended(LAST_WAIT)

    async def tell_lanes(self) -> None:
        """Let others know what this worker knows, if they were not told under this name."""
        if not self._has_told_lanes:
            await self._store.write_lanes(self.owner, self._lanes)
            self._has_told_lanes = True
