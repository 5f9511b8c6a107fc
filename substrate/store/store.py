"""What a store promises to the engine above it.

Every method is one transaction. What it returned has been committed; what it did not return may
or may not have been, and asking again is safe: starts are by id, checkpoints are fenced and
settle a promise once, signals carry a dedup.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from substrate.values.clock import Clock
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import (
    Checkpoint,
    Claim,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    NewRun,
    OwnedRun,
    Owner,
    Promise,
    ReceivedSignal,
    Run,
    RunStatus,
    Signal,
    Unread,
)

CLOSED = "the client is closed; use it inside its own block of `async with connect(…)`"
"""What `StoreUnusable` says of a store that was closed."""

TX_LIMIT = timedelta(seconds=2)
"""How long a transactional step may hold its locks."""


class Transaction(Protocol):
    """What a transactional step is given: the store's own database, inside one transaction."""

    def execute(self, statement: str, parameters: Any = ()) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows.

        Args:
            statement: SQL, with the database's own placeholders: ``?`` on SQLite, ``%s`` on
                Postgres.
            parameters: Their values.
        """
        ...


class HeartbeatConnection(Protocol):
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
        the same commit, unless it is to wait until its `due_at`; until then no signal wakes it.
        Raises `IdTaken` when the id's run has another function or input.
        """
        ...

    async def get(self, run_id: RunId) -> Run | None:
        """Return the run, or None."""
        ...

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """Return root runs, newest first; with a status, children that have it too."""
        ...

    async def promise(self, run_id: RunId) -> Promise | None:
        """Return the promise of the run's outcome, or None."""
        ...

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """Return the run's promises whose seq is above `after`, in order of seq."""
        ...

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return what each promise has used whose id begins so, where it says so, in order of id.

        ``run#`` are all of a run's tree: its own promises, and those of every run below it. Left
        out are ids that go on with one of `skipping`, none of which begins with another.
        """
        ...

    async def has_open_runs(self, prefix: str) -> bool:
        """Return whether a run whose id begins so has not ended."""
        ...

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """Return what is kept in the run's tree under this sha256, uncompressed, or None."""
        ...

    async def send(self, signal: Signal) -> bool:
        """Put a signal into a run's inbox and wake it; False when its dedup was there already.

        Raises `RunNotFound`, and `RunEnded` when the run takes nothing more: it has ended, was
        asked to end, has run out of time, or is being undone; it takes then only what one of its
        undos waits for. A paused run takes signals; a dead or failed one when it was reopened.
        """
        ...

    async def inbox(
        self,
        run_id: RunId,
        name: str | None = None,
        *,
        untaken: bool = True,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[ReceivedSignal]:
        """Return the signals that a run was sent, oldest first: of one name, or of all.

        With `untaken`, only those that no promise has taken; only those whose `n` is above `after`,
        and so many at most. The first untaken of a name cost the same however many there are.
        """
        ...

    async def take(self, fence: Fence, promise: Promise, dedups: Sequence[str]) -> Promise | Fenced:
        """Write a promise, and mark the signals of its name with these dedups as taken by it.

        Returns the promise as it stands: where somebody settled it first, that outcome, and then
        no signal is taken. The promise may stay pending: then its signals were refused.
        All the signals or none: where another promise has taken one of them, or one is not there,
        nothing is written, and what is returned is pending: the row, or the given promise without
        its outcome where there is none. Then look again. Signals that this very promise has taken
        before count as untaken, so asking again is safe.
        """
        ...

    async def give_back(self, fence: Fence, promise: PromiseId) -> bool:
        """Put what a promise has taken back into the inbox; False when fenced off.

        The promise stays as it is. What another one takes of that later is not given back again.
        """
        ...

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """Take up to `limit` ready runs of a lane, lowest rank first. Each claim is a new epoch."""
        ...

    async def count_ready(self, lanes: Sequence[str], limit: int) -> int:
        """Return how many runs of these lanes are ready; `limit` at most."""
        ...

    async def claim_below(
        self, run_id: RunId, lane: str, limit: int, owner: Owner
    ) -> Sequence[Claim]:
        """Do as `claim` does, of a run and those below it alone."""
        ...

    async def count_ready_below(self, run_id: RunId, lanes: Sequence[str], limit: int) -> int:
        """Return how many of a run and those below it `claim_below` would find."""
        ...

    async def owned_runs(self, owner: Owner) -> Sequence[OwnedRun]:
        """Return how each running run of this worker stands."""
        ...

    async def suspend(
        self, fence: Fence, wake_version: int, *, need: int, due_at: int | None
    ) -> bool:
        """Let a run go until something wakes it; False when it is not as the caller saw it.

        That is a compare-and-set: the fence must hold and the wake version be this one, which the
        caller read before it looked for what it waits for. Then no wake-up can be lost. `need` is
        how many children must end before that wakes it (1 or more); a signal, a cancel and
        `due_at` wake it in any case.
        """
        ...

    async def wake_due(self, limit: int = 1000) -> int:
        """Make suspended runs whose moment has come ready, and return how many.

        The earliest first, `limit` at most; one that somebody has locked is left for the next time.
        """
        ...

    async def next_due_at(self) -> int | None:
        """Return the earliest moment at which a suspended run is due, in ms, or None."""
        ...

    async def settled_children(self, run_id: RunId, after: int) -> Sequence[Promise]:
        """Return the run's children that have been settled above a seq, in order of seq."""
        ...

    async def promises(self, ids: Sequence[str]) -> Mapping[str, Promise]:
        """Return those of these promises that there are, by id."""
        ...

    async def commit(
        self, batch: Sequence[Checkpoint], *, wait: bool = False
    ) -> Sequence[CommitResult]:
        """Write a batch of checkpoints in one transaction; return their outcomes, in order.

        Without `wait`, a checkpoint that touches a locked run is left out as `Locked`. No two
        checkpoints of a batch may write the same promise, and none may follow one that gives its
        run up. An exception means that nothing of the batch was written, unless it is
        `StoreUnreachable`: then nobody knows; see `settled`.
        """
        ...

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[CommitResult | None]:
        """Read back what became of a batch whose commit was cut off; None: it was not written."""
        ...

    async def release(self, fences: Sequence[Fence], *, is_crash: bool = False) -> int:
        """Give runs back, ready to be claimed by anybody; return how many still were ours.

        With `is_crash` they have crashed by themselves, which is counted.
        """
        ...

    async def transact(
        self, fence: Fence, call: Callable[[Transaction], Awaitable[Promise]]
    ) -> Promise | Fenced:
        """Let a function write to the database, and commit that together with its promise.

        `call` returns the promise as it is to be written; the transaction it is given is used from
        one thread at a time, which is not the event loop's. Only then is the run locked and the
        fence checked; what was written is rolled back unless the promise is. Returns the promise
        as it stands, which may be another's outcome. What `call` raises is raised after the
        rollback; `TimeoutError` when it took longer than `TX_LIMIT`, on SQLite also than half of
        the shortest lease of its workers: the transaction is closed then, and whoever still uses
        it gets an error. After `StoreUnreachable` nobody knows; see
        `settled`.
        """
        ...

    async def finish(self, done: Checkpoint, heard: Collection[str]) -> CommitResult | Unread:
        """Write the checkpoint that ends a run, unless a signal of these names is untaken.

        Who sends one either comes first, and nothing is written (`Unread`), or finds that the run
        has ended.
        """
        ...

    async def continue_as(self, fence: Fence, input: JsonText) -> bool:
        """Begin the run's next generation: a fresh journal, the same id and inbox; ready again.

        A row of its own (`generation_key`) keeps what it is begun with; what the run was started
        with stays. False when fenced off.
        """
        ...

    async def cancel(self, run_id: RunId) -> Run:
        """Ask a run and everything below it to end, in one transaction; return the run after it.

        Those that are suspended or paused become ready, so that a worker ends them. A run that has
        ended stays as it is. Raises `RunNotFound`.
        """
        ...

    async def discard(self, run_id: RunId) -> Run:
        """Give a dead, failed or paused run up for good: cancelled, its history kept for a while.

        What it waited for is closed: a timer, a wait or a step is cancelled, of a `once` call that
        was under way nobody knows. Its children live on.

        Raises `RunNotFound`, and `RunEnded` for a run that is none of these.
        """
        ...

    async def recover(self) -> Sequence[RunId]:
        """Take back the runs of dead workers: ready again, or dead; see `substrate.store.crashes`.

        One that is to be claimed no sooner than in a while is suspended until then.

        Where the process is known to have ended (not merely its lease), that claim's epoch becomes
        the run's `exited_epoch`.
        """
        ...

    async def resume(self, run_id: RunId, accepted: Promise | None = None) -> Run:
        """Make a paused, failed or dead run ready again.

        `accepted` is a settled row that joins its journal in the same commit: what a person lets
        stand. One that is there already stays as it is.
        Raises `RunNotFound`, and `RunEnded` for a run that is none of these.
        """
        ...

    async def write_rate_limit(self, name: str, told: JsonText) -> None:
        """Keep what was told of a limit that others keep, too, in the place of what was before."""
        ...

    async def limits(self, since: int) -> Sequence[tuple[str, JsonText, int]]:
        """Return what was told of limits since a moment in ms: name, what, and when."""
        ...

    async def tell_lanes(self, owner: Owner, lanes: Sequence[str]) -> None:
        """Keep which lanes a worker knows, for who asks what `known_lanes` there are."""
        ...

    async def known_lanes(self) -> frozenset[str] | None:
        """Return what the workers know whose leases hold; None where one of them has not told."""
        ...

    async def ready_lanes(self, limit: int = 100) -> Sequence[str]:
        """Return lanes that have a run which could be claimed."""
        ...

    def heartbeat(self, owner: Owner, lease: timedelta) -> HeartbeatConnection:
        """Register a worker and return its sign of life. Blocking: opens a connection."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
