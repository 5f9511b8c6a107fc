"""What a test needs to end a process at a chosen commit, and see whether anything is lost.

`FatalStore` wraps a store. At one commit boundary of the process it strikes: either *before* the
COMMIT is sent, or *after* it has returned and before the caller goes on. A boundary is a start, a
claim that found something, a signal taken, or a batch of checkpoints; they count from 1.
"""

import os
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum

from substrate.store.protocol import Pulse, Store
from substrate.values.ids import Key, RunId
from substrate.values.records import (
    Checkpoint,
    Claim,
    Fence,
    Inbox,
    NewRun,
    Outcome,
    Owner,
    Promise,
    Run,
    RunStatus,
    Signal,
)


class Moment(StrEnum):
    """On which side of a commit the process ends."""

    BEFORE = "before"
    AFTER = "after"


def kill_this_process() -> None:
    """End this process as a crash does: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class FatalStore:
    """A `Store` that strikes at its `boundary`-th commit."""

    def __init__(
        self,
        store: Store,
        boundary: int,
        moment: Moment,
        strike: Callable[[], None] = kill_this_process,
    ) -> None:
        self.clock = store.clock
        self.commits = 0
        self._store = store
        self._boundary = boundary
        self._moment = moment
        self._strike = strike

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """See `Store.start`. A boundary."""
        self._reach(Moment.BEFORE)
        started = await self._store.start(new, claim_for)
        self._reach(Moment.AFTER)
        return started

    async def take(self, fence: Fence, promise: Promise) -> Promise | None:
        """See `Store.take`. A boundary when something is taken."""
        taken = await self._store.take(fence, promise)
        if taken is not None:
            self.commits += 1
            self._reach(Moment.AFTER)
        return taken

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`. A boundary when something is claimed."""
        claimed = await self._store.claim(lane, limit, owner)
        if claimed:
            self.commits += 1
            self._reach(Moment.AFTER)
        return claimed

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool = False) -> Sequence[Outcome]:
        """See `Store.commit`. A boundary."""
        self._reach(Moment.BEFORE)
        outcomes = await self._store.commit(batch, wait=wait)
        self._reach(Moment.AFTER)
        return outcomes

    async def get(self, run_id: RunId) -> Run | None:
        """See `Store.get`."""
        return await self._store.get(run_id)

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """See `Store.list`."""
        return await self._store.list(status, limit)

    async def promise(self, run_id: RunId) -> Promise | None:
        """See `Store.promise`."""
        return await self._store.promise(run_id)

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """See `Store.journal`."""
        return await self._store.journal(run_id, after)

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """See `Store.blob`."""
        return await self._store.blob(run_id, digest)

    async def send(self, signal: Signal) -> bool:
        """See `Store.send`."""
        return await self._store.send(signal)

    async def inboxes(self, owner: Owner) -> Sequence[Inbox]:
        """See `Store.inboxes`."""
        return await self._store.inboxes(owner)

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[Outcome | None]:
        """See `Store.settled`."""
        return await self._store.settled(batch)

    async def release(self, fences: Sequence[Fence]) -> int:
        """See `Store.release`."""
        return await self._store.release(fences)

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`."""
        return await self._store.recover()

    async def reopen(self, run_id: RunId, accept: Key | None = None) -> Run:
        """See `Store.reopen`."""
        return await self._store.reopen(run_id, accept)

    def pulse(self, owner: Owner, lease: timedelta) -> Pulse:
        """See `Store.pulse`."""
        return self._store.pulse(owner, lease)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    def _reach(self, moment: Moment) -> None:
        """Count a commit at its beginning, and strike when this is the one."""
        if moment is Moment.BEFORE:
            self.commits += 1
        if self.commits == self._boundary and moment is self._moment:
            self._strike()
