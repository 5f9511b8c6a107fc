"""What tests of durable functions need: time that they own, and a process that ends at any commit.

`ManualClock` stands still until it is moved: given to `connect`, it lets a test drive ten days of
waiting in milliseconds. `fatal` wraps a store so that its process ends at a chosen commit boundary,
either *before* the COMMIT is sent, or *after* it has returned and before the caller goes on.
Boundaries are the store's writes, counted from 1: a start, a signal, a claim or a wake-up that
found something, a batch of checkpoints, a run let go.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, cast

from substrate.store.protocol import Store
from substrate.values.records import Claim, Owner

_WRITES = frozenset(
    {
        "start",
        "send",
        "take",
        "commit",
        "suspend",
        "transact",
        "renew",
        "cancel",
        "discard",
        "reopen",
    }
)


class ManualClock:
    """A clock that stands still until it is moved. It keeps which waits were asked for."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.asked: list[float] = []
        self._now_ms = now_ms
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        """Return the time it was last moved to."""
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved so far."""
        if seconds <= 0:
            return
        self.asked.append(seconds)
        woken = asyncio.Event()
        sleeper = (self._now_ms + seconds * 1000, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(sleeper)

    @property
    def sleepers(self) -> int:
        """How many wait for it to be moved."""
        return len(self._sleepers)

    def move(self, seconds: float) -> None:
        """Move it forward, and wake whoever has waited long enough."""
        self._now_ms += round(seconds * 1000)
        for due_ms, woken in self._sleepers:
            if due_ms <= self._now_ms:
                woken.set()


class Moment(StrEnum):
    """On which side of a commit the process ends."""

    BEFORE = "before"
    AFTER = "after"


def kill_this_process() -> None:
    """End this process as a crash does: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def fatal(
    store: Store,
    boundary: int,
    moment: Moment,
    strike: Callable[[], None] = kill_this_process,
) -> Store:
    """Return the store as one that strikes at its `boundary`-th commit; 0 is never."""
    return cast(Store, FatalStore(store, boundary, moment, strike))


class FatalStore:
    """A store like another, until it strikes."""

    def __init__(
        self, store: Store, boundary: int, moment: Moment, strike: Callable[[], None]
    ) -> None:
        self.clock = store.clock
        self.commits = 0
        self._store = store
        self._boundary = boundary
        self._moment = moment
        self._strike = strike

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._write, method) if name in _WRITES else method

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`. A boundary when something is claimed."""
        claimed = await self._store.claim(lane, limit, owner)
        self._found(len(claimed))
        return claimed

    async def wake_due(self, limit: int = 1000) -> int:
        """See `Store.wake_due`. A boundary when something is woken."""
        woken = await self._store.wake_due(limit)
        self._found(woken)
        return woken

    async def _write(self, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        self._reach(Moment.BEFORE)
        result = await method(*args, **named)
        self._reach(Moment.AFTER)
        return result

    def _found(self, count: int) -> None:
        if count:
            self.commits += 1
            self._reach(Moment.AFTER)

    def _reach(self, moment: Moment) -> None:
        """Count a commit at its beginning, and strike when this is the one."""
        if moment is Moment.BEFORE:
            self.commits += 1
        if self.commits == self._boundary and moment is self._moment:
            self._strike()
