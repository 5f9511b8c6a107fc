"""What a store promises to the engine above it.

Every method is one transaction. What it returned has been committed; what it did not return may
or may not have been, and asking again is safe: starts are by id, checkpoints are fenced and
settle a promise once, signals carry a dedup.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from substrate.values.clock import Clock
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

MAX_CRASHES = 3
"""After so many consecutive claims that ended without being given back, a run is dead."""


class Pulse(Protocol):
    """A worker's sign of life. Blocking, on a connection of its own, for one thread only."""

    def beat(self) -> int | None:
        """Prolong the lease; return the database's time in ms, None when declared dead."""
        ...

    def stop(self) -> None:
        """Strike the worker off and close the connection."""
        ...


class Store(Protocol):
    """The database of runs and promises."""

    @property
    def clock(self) -> Clock:
        """The database's time, as well as it is known here."""
        ...

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """Create the run, or return the one that has this id.

        With `claim_for`, a run that did not exist is created already claimed by that worker, in
        the same commit. Raises `IdTaken` when the id's run has another function or input.
        """
        ...

    async def get(self, run_id: RunId) -> Run | None:
        """Return the run, or None."""
        ...

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """Return runs, newest first."""
        ...

    async def promise(self, run_id: RunId) -> Promise | None:
        """Return the promise of the run's outcome, or None."""
        ...

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """Return the run's promises whose seq is above `after`, in order of seq."""
        ...

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """Return what is kept in the run's tree under this sha256, uncompressed, or None."""
        ...

    async def send(self, signal: Signal) -> bool:
        """Put a signal into a run's inbox and wake it; False when its dedup was there already.

        Raises `RunNotFound`, and `RunEnded` when the run takes nothing more.
        """
        ...

    async def take(self, fence: Fence, promise: Promise) -> Promise | None:
        """Settle the promise with the oldest signal of its name that nobody took.

        Returns it as settled (by whoever was first), or None while there is no such signal.
        """
        ...

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """Take up to `limit` ready runs of a lane, lowest rank first. Each claim is a new epoch."""
        ...

    async def inboxes(self, owner: Owner) -> Sequence[Inbox]:
        """Return how each running run of this worker stands."""
        ...

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool = False) -> Sequence[Outcome]:
        """Write a batch of checkpoints in one transaction; return their outcomes, in order.

        Without `wait`, a checkpoint that touches a locked run is left out as `Locked`. No two
        checkpoints of a batch may write the same promise, and none may follow one that gives its
        run up. An exception means that nothing of the batch was written, unless it is
        `StoreUnreachable`: then nobody knows; see `settled`.
        """
        ...

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[Outcome | None]:
        """Read back what became of a batch whose commit was cut off; None: it was not written."""
        ...

    async def release(self, fences: Sequence[Fence]) -> int:
        """Give runs back, ready to be claimed by anybody; return how many still were ours."""
        ...

    async def recover(self) -> Sequence[RunId]:
        """Take back the runs of dead workers: ready again, or dead after `MAX_CRASHES`."""
        ...

    async def reopen(self, run_id: RunId, accept: Key | None = None) -> Run:
        """Make a paused, failed or dead run ready again.

        `accept` names a promise whose recorded value stands whatever the code asks for now.
        Raises `RunNotFound`, and `RunEnded` for a run that is none of these.
        """
        ...

    def pulse(self, owner: Owner, lease: timedelta) -> Pulse:
        """Register a worker and return its sign of life. Blocking: opens a connection."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
