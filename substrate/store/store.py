"""What the engine asks of the database of runs and promises: each operation, once for all dialects.

A write is one transaction: what a method returned has been committed. Where a row of many cannot be
written, `claim`, `wake_due`, `release`, `cancel` and `recover` go on in several transactions, each
whole, so that the others do not wait for it.

What a method did not return may or may not have been committed, and to ask again is safe: starts
are by id, checkpoints are fenced and settle a promise once, signals carry a dedup.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from substrate.store import listing, rows
from substrate.store.backend import Backend, HeartbeatConnection, Work
from substrate.store.blobs import offload
from substrate.store.broken import Stuck
from substrate.store.forgetting import Forgettings
from substrate.store.gates import Gates
from substrate.store.memory import Memories
from substrate.store.transaction import Call
from substrate.values.clock import Clock
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import (
    EVERY_RUN,
    Checkpoint,
    Claim,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    Kind,
    NewRun,
    OwnedRun,
    Owner,
    Promise,
    ReceivedSignal,
    Run,
    RunFilter,
    RunStatus,
    Signal,
    Sketch,
    Unread,
)

T = TypeVar("T")

log = logging.getLogger("ostinato")

_MANY = 500  # promises; more are read where they keep nobody else waiting


class Store:
    """The database of runs and promises."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Backend = backend
        #: The database's time, as well as it is known here.
        self.clock: Clock = backend.clock
        self._db = backend.db
        self._sql = backend.sql
        #: Questions to people, and the rules they have made.
        self.gates: Gates = Gates(backend)
        #: What agents keep.
        self.memory: Memories = Memories(backend)
        #: What is taken out of both for good.
        self.forgetting: Forgettings = Forgettings(backend)
        #: Called after a commit of this process for which a run waits: a hint, and no more.
        self.on_followed: set[Callable[[], None]] = self.memory.on_followed
        self._stuck = Stuck()
        #: The numbers of its lines. A *line* is what commits in one transaction: one SQLite file,
        #: one server, one node. These stores are one.
        self.lines: Sequence[int] = (0,)

    def line_of(self, part: int) -> int:
        """Return the line on which a part lies, and so each tree of runs of that part."""
        return self.lines[0]

    def on_line(self, line: int) -> "Store":
        """Return the store through which one line is asked, and no other.

        A worker asks each line by itself for what is ready, due, its own or a dead worker's, so
        that one that is slow or away costs its own runs only. So order by rank holds within a line.
        """
        return self

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """Create the run, or return the one that has this id.

        With `claim_for`, a run that did not exist is created already claimed by that worker, in
        the same commit, unless it is to wait until its `due_at`; until then no signal wakes it.
        Raises `IdTaken` when the id's run has another function or input.
        """
        now = self.clock.now_ms()
        run = await self._db.write(self._sql.runs.insert_run, new, now, claim_for)
        if run is not None:
            return run, rows.claim_of(run, new.input) if run.lease_owner else None
        run = await self._db.read(self._sql.runs.existing_run, new.id)
        rows.check_same(new, run, await self.promise(new.id))
        return run, None

    async def get(self, run_id: RunId) -> Run | None:
        """Return the run, or None."""
        return await self._db.read(self._sql.runs.read_run, run_id)

    async def list(
        self, status: RunStatus | None = None, limit: int = 100, also: RunFilter = EVERY_RUN
    ) -> Sequence[Run]:
        """Return root runs, newest first; with a status or a function, children too."""
        found = await self._db.scan(self._sql.sketches.list_runs, status, limit, also)
        return listing.listed(found, self._stuck)

    async def sketches(self, ids: Sequence[RunId], name: str) -> Mapping[RunId, Sketch]:
        """Return what a list tells of these runs; `name` is that of the steps to be counted.

        A bounded number of questions, however many runs: of what is settled no payload is read but
        what was used.
        """
        return await self._db.scan(self._sql.sketches.read_sketches, ids, name)

    async def open_rows(self, ids: Sequence[RunId]) -> Mapping[RunId, Sequence[Promise]]:
        """Return what each of these runs has open, the first ones, where there are many.

        Its decision to undo is among them, if it has decided that.
        """
        return await self._db.scan(self._sql.sketches.read_open, ids)

    async def asked(self, ids: Sequence[RunId]) -> Mapping[RunId, Sequence[Promise]]:
        """Return what each of these runs asks, itself or below it, in order of id; the first ones.

        One that is to end asks nothing any more.
        """
        return await self._db.scan(self._sql.sketches.read_asked, ids)

    async def promise(self, run_id: RunId) -> Promise | None:
        """Return the promise of the run's outcome, or None."""
        return await self._db.read(self._sql.promises.read_promise, run_id)

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """Return the run's promises whose seq is above `after`, in order of seq."""
        return await self._above(self._sql.promises.read_journal, run_id, after)

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return what each promise has used whose id begins so, where it says so, in order of id.

        ``run#`` are all of a run's tree: its own promises, and those of every run below it. Left
        out are ids that go on with one of `skipping`, none of which begins with another.
        """
        return await self._db.scan(self._sql.promises.read_usages, prefix, skipping)

    async def has_open_runs(self, prefix: str) -> bool:
        """Return whether a run whose id begins so has not ended."""
        return await self._db.read(self._sql.promises.has_open_runs, prefix)

    async def open_promises(self, prefix: str, kind: Kind, limit: int = 1000) -> Sequence[Promise]:
        """Return the first pending promises of a kind whose id begins so, in order of id.

        ``run#`` are those of a run's tree: what it waits for, and what the runs below it do.
        """
        return await self._db.scan(self._sql.promises.read_open, prefix, kind, limit)

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """Return what is kept in the run's tree under this sha256, uncompressed, or None."""
        return await self._db.read(self._sql.blobs.read_blob, run_id, digest)

    async def send_signal(self, signal: Signal) -> bool:
        """Put a signal into a run's inbox and wake it; False when its dedup was there already.

        Raises `RunNotFound`, and `RunEnded` when the run takes nothing more: it has ended, was
        asked to end, has run out of time, or is being undone; it takes then only what one of its
        undos waits for. A paused run takes signals; a dead or failed one when it was reopened.
        """
        send = self._sql.signals.send_signal
        return await self._or_why(signal.run_id, self._db.write(send, signal, self.clock.now_ms()))

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
        only = {"untaken": untaken, "after": after, "limit": limit}
        return await self._db.read(self._sql.signals.read_inbox, run_id, name, only)

    async def take_signals(
        self, fence: Fence, promise: Promise, dedups: Sequence[str]
    ) -> Promise | Fenced:
        """Write a promise, and mark the signals of its name with these dedups as taken by it.

        Returns the promise as it stands: where somebody settled it first, that outcome, and then
        no signal is taken. The promise may stay pending: then its signals were refused.
        All the signals or none: where another promise has taken one of them, or one is not there,
        nothing is written, and what is returned is pending: the row, or the given promise without
        its outcome where there is none. Then look again. Signals that this very promise has taken
        before count as untaken, so asking again is safe.
        """
        write, take = self._db.write, self._sql.signals.take_signals
        taking: Awaitable[Promise | Fenced] = write(take, fence, promise, dedups)
        return await self._or_fenced(fence, taking)

    async def return_signals(self, fence: Fence, promise: PromiseId) -> bool:
        """Put what a promise has taken back into the inbox; False when fenced off.

        The promise stays as it is. What another one takes of that later is not given back again.
        """
        return await self._db.write(self._sql.signals.return_signals, fence, promise)

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """Take up to `limit` ready runs of a lane, lowest rank first. Each claim is a new epoch."""
        db, sql, left_out = self._db, self._sql.runs, self._stuck.ids
        found = await self._stuck.whole_or_apart(
            lambda: db.write(sql.claim_runs, lane, limit, owner, left_out),
            lambda: db.read(sql.ready_runs, lane, limit, left_out),
            lambda ids: self._or_none(ids, db.write(sql.claim_these, lane, ids, owner)),
        )
        return await self._drivable(found, lane)

    async def lanes_with_ready(self, lanes: Sequence[str]) -> Sequence[str]:
        """Return those of these lanes, in their order, from which a claim may get a run.

        One question for all of them, that keeps nobody's write waiting: every worker asks it at
        each tick, mostly for nothing.
        """
        if len(lanes) == 1 and not self.backend.has_one_writer:
            return lanes  # a claim there is one question as well
        found = await self._db.read(self._sql.lanes.lanes_with_ready, lanes, self._stuck.ids)
        return [lane for lane in lanes if lane in found]

    async def count_ready(self, lanes: Sequence[str], limit: int) -> int:
        """Return how many runs of these lanes are ready; `limit` at most."""
        return await self._db.read(self._sql.suspend.count_ready, lanes, limit)

    async def claim_below(
        self, run_id: RunId, lane: str, limit: int, owner: Owner
    ) -> Sequence[Claim]:
        """Do as `claim` does, of a run and those below it alone."""
        db, sql, left_out = self._db, self._sql, self._stuck.ids
        ids = await db.read(sql.below.ready_below, run_id, [lane], limit)
        # By their ids from the start: whoever drives one tree takes few runs, and none beside it.
        found = await self._stuck.apart(
            [id_ for id_ in ids if id_ not in left_out],
            lambda some: self._or_none(some, db.write(sql.runs.claim_these, lane, some, owner)),
        )
        return await self._drivable(found, lane)

    async def count_ready_below(self, run_id: RunId, lanes: Sequence[str], limit: int) -> int:
        """Return how many of a run and those below it `claim_below` would find."""
        return len(await self._db.read(self._sql.below.ready_below, run_id, lanes, limit))

    async def owned_runs(self, owner: Owner) -> Sequence[OwnedRun]:
        """Return how each running run of this worker stands."""
        return await self._db.read(self._sql.runs.read_owned_runs, owner)

    async def suspend(
        self, fence: Fence, wake_version: int, *, need: int, due_at: int | None
    ) -> bool:
        """Let a run go until something wakes it; False when it is not as the caller saw it.

        That is a compare-and-set: the fence must hold and the wake version be this one, which the
        caller read before it looked for what it waits for. Then no wake-up can be lost. `need` is
        how many children must end before that wakes it (1 or more); a signal, a cancel and
        `due_at` wake it in any case.
        """
        suspend_run = self._sql.suspend.suspend_run
        return await self._db.write(suspend_run, fence, wake_version, need, due_at)

    async def wake_due(self, limit: int = 1000) -> int:
        """Make suspended runs whose moment has come ready, and return how many.

        The earliest first, `limit` at most; one that somebody has locked is left for the next time.
        """
        db, sql, left_out = self._db, self._sql.suspend, self._stuck.ids
        now = self.clock.now_ms()
        if self.backend.has_one_writer and not await db.read(sql.due_runs, now, 1, left_out):
            return 0
        woken = await self._stuck.whole_or_apart(
            lambda: db.write(sql.wake_due_runs, now, limit, left_out),
            lambda: db.read(sql.due_runs, now, limit, left_out),
            lambda ids: db.write(sql.wake_these, now, ids),
        )
        return len(woken)

    async def wake_followers(self, limit: int = 1000) -> int:
        """Wake the runs for which a namespace has changed, and return how many; `limit` at most.

        One look, which finds nothing where nothing has come, however many wait.
        """
        db, sql, now = self._db, self._sql.followers, self.clock.now_ms()
        due = await self.memory.due_followers(limit, self._stuck.ids)
        woken = await self._stuck.apart(due, lambda ids: db.write(sql.wake_followers, ids, now))
        return len(woken)

    async def next_due_at(self) -> int | None:
        """Return the earliest moment at which a suspended run is due, in ms, or None."""
        return await self._db.read(self._sql.suspend.next_due_at)

    async def settled_outside(self, run_id: RunId, after: int) -> Sequence[Promise]:
        """Return the children and gates of a run that were settled above a seq, in order of seq."""
        return await self._above(self._sql.suspend.read_settled_outside, run_id, after)

    async def promises(self, ids: Sequence[str]) -> Mapping[str, Promise]:
        """Return those of these promises that there are, by id."""
        look = self._db.scan if len(ids) > _MANY else self._db.read
        return await look(self._sql.promises.read_promises, ids)

    async def commit(
        self, batch: Sequence[Checkpoint], *, wait: bool = False
    ) -> Sequence[CommitResult]:
        """Write a batch of one line in one transaction; return its outcomes, in order.

        Without `wait`, a checkpoint that touches a locked run is left out as `Locked`. No two
        checkpoints of a batch may write the same promise, and none may follow one that gives its
        run up. An exception means that nothing of the batch was written, unless it is
        `StoreUnreachable`: then nobody knows; see `read_back`.
        """
        # Before the transaction begins: to hash and to compress need no lock.
        light = [offload(checkpoint) for checkpoint in batch]
        try:
            return await self.backend.commit(light, wait=wait)
        except CheckpointRefused:
            if len(light) > 1 or await self._pause_spent(light[0].fence.run_id) is None:
                raise
            return [Fenced()]

    async def read_back(self, batch: Sequence[Checkpoint]) -> Sequence[CommitResult | None]:
        """Read back what became of a batch whose commit was cut off; None: it was not written."""
        found = await self.promises([checkpoint.promise.id for checkpoint in batch])
        return [rows.compare(checkpoint, found.get(checkpoint.promise.id)) for checkpoint in batch]

    async def release(self, fences: Sequence[Fence], *, is_crash: bool = False) -> int:
        """Give runs back, ready to be claimed by anybody; return how many still were ours.

        With `is_crash` they have crashed by themselves, which is counted.
        """
        now = self.clock.now_ms()
        # Of two claims on one run only the later can still be ours.
        ours = {fence.run_id: fence for fence in sorted(fences, key=lambda each: each.epoch)}

        def release_some(ids: Sequence[RunId]) -> Awaitable[Sequence[RunId]]:
            some = [ours[id_] for id_ in ids]
            return self._db.write(self._sql.runs.release_runs, some, now, is_crash=is_crash)

        return len(await self._stuck.apart(list(ours), release_some))

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """Let a function write to the database, and commit that together with its promise.

        `call` returns the promise as it is to be written; the transaction it is given is used from
        one thread at a time, which is not the event loop's. Only then is the run locked and the
        fence checked; what was written is rolled back unless the promise is. Returns the promise
        as it stands, which may be another's outcome. What `call` raises is raised after the
        rollback; `TimeoutError` when it took longer than `TX_LIMIT`, on SQLite also than half of
        the shortest lease of its workers: the transaction is closed then, and whoever still uses
        it gets an error. After `StoreUnreachable` nobody knows; see `read_back`.
        """
        return await self._or_fenced(fence, self.backend.transact(fence, call))

    async def finish(self, done: Checkpoint, heard: Collection[str]) -> CommitResult | Unread:
        """Write the checkpoint that ends a run, unless a signal of these names is untaken.

        Who sends one either comes first, and nothing is written (`Unread`), or finds that the run
        has ended.
        """
        write, finish = self._db.write, self._sql.ending.finish_run
        ending: Awaitable[CommitResult | Unread] = write(finish, done, heard)
        return await self._or_fenced(done.fence, ending)

    async def continue_as(self, fence: Fence, input: JsonText) -> bool:
        """Begin the run's next generation: a fresh journal, the same id and inbox; ready again.

        A row of its own (`generation_key`) keeps what it is begun with; what the run was started
        with stays. False when fenced off.
        """
        now = self.clock.now_ms()
        renew = self._db.write(self._sql.ending.continue_run, fence, input, now)
        return await self._or_fenced(fence, renew) is True

    async def cancel(self, run_id: RunId) -> Run:
        """Ask a run and everything below it to end, in one transaction; return the run after it.

        Those that are suspended or paused become ready, so that a worker ends them. A run that has
        ended stays as it is. Raises `RunNotFound`.
        """
        db, sql, now = self._db, self._sql.ending, self.clock.now_ms()
        with suppress(CheckpointRefused):
            return await db.write(sql.cancel_run, run_id, now)
        # A row in the tree cannot be written. The others are asked to end without it.
        await self._stuck.apart(
            await db.read(sql.open_below, run_id), lambda ids: db.write(sql.cancel_these, ids, now)
        )
        return await db.write(sql.cancelled_run, run_id, now)

    async def discard(self, run_id: RunId) -> Run:
        """Give a dead, failed or paused run up for good: cancelled, its history kept for a while.

        What it waited for is closed: a timer, a wait or a step is cancelled, of a `once` call that
        was under way nobody knows. Its children live on.

        Raises `RunNotFound`, and `RunEnded` for a run that is none of these.
        """
        discard = self._db.write(self._sql.ending.discard_run, run_id, self.clock.now_ms())
        return await self._or_why(run_id, discard)

    async def recover(self) -> Sequence[RunId]:
        """Take back the runs of dead workers: ready again, or dead; see `substrate.store.crashes`.

        One that is to be claimed no sooner than in a while is suspended until then.

        Where the process is known to have ended (not merely its lease), that claim's epoch becomes
        the run's `exited_epoch`.
        """
        return await self.backend.recover(self.clock.now_ms(), self._stuck)

    async def resume(self, run_id: RunId, accepted: Promise | None = None) -> Run:
        """Make a paused, failed or dead run ready again.

        A child is reopened when it is paused, or dead with an undo that it had begun: its promise
        keeps what its parent was told.
        `accepted` is a settled row that joins its journal in the same commit: what a person lets
        stand. One that is there already stays as it is.
        Raises `RunNotFound`, `RunEnded` for a run that is none of these, and `Forgotten`.
        """
        now = self.clock.now_ms()
        resuming = self._db.write(self._sql.runs.reopen_run, run_id, accepted, now)
        return await self._or_why(run_id, resuming)

    async def write_rate_limit(self, name: str, report: JsonText) -> None:
        """Keep what a provider reported of a limit, in the place of its earlier report."""
        now = self.clock.now_ms()
        await self._db.write(self._sql.rate_limits.write_rate_limit, name, report, now)

    async def rate_limits(self, since: int) -> Sequence[tuple[str, JsonText, int]]:
        """Return what was reported of limits since a moment in ms: name, report, and when."""
        return await self._db.read(self._sql.rate_limits.read_rate_limits, since)

    async def write_lanes(self, owner: Owner, lanes: Sequence[str]) -> None:
        """Keep which lanes a worker knows: see `known_lanes`."""
        await self._db.write(self._sql.lanes.write_lanes, owner, lanes)

    async def known_lanes(self) -> frozenset[str] | None:
        """Return the lanes that live workers know; None while one of them has written none."""
        return await self._db.read(self._sql.lanes.known_lanes)

    async def count_workers(self, host: str) -> int:
        """Return how many workers of a host hold their lease, by the name that the host has."""
        return await self._db.read(self._sql.lanes.count_workers, host)

    async def ready_lanes(self, limit: int = 100) -> Sequence[str]:
        """Return lanes that have a run which could be claimed."""
        return await self._db.read(self._sql.lanes.ready_lanes, limit)

    def heartbeat(self, owner: Owner, lease: timedelta) -> HeartbeatConnection:
        """Register a worker and return its sign of life. Blocking: opens a connection."""
        return self.backend.heartbeat(owner, lease)

    async def close(self) -> None:
        """Close every connection."""
        await self._db.close()

    async def _pause_spent(self, run_id: RunId) -> str | None:
        """Pause a run that has no next number, which was refused; return why, None if it has."""
        why = None
        with suppress(CheckpointRefused):
            why = await self._db.write(self._sql.spent.pause_spent, run_id)
        if why is not None:
            log.error("run %.200r is paused: %s", run_id, why)
        return why

    async def _or_why(self, run_id: RunId, write: Awaitable[T]) -> T:
        """Write for a run from outside; where it has no next number, say so."""
        try:
            return await write
        except CheckpointRefused:
            if (why := await self._pause_spent(run_id)) is None:
                raise
        raise CheckpointRefused(why)

    async def _or_fenced(self, fence: Fence, write: Awaitable[T]) -> T | Fenced:
        """Write for a claim; where its run has no next number, it is paused, and lost."""
        try:
            return await write
        except CheckpointRefused:
            if await self._pause_spent(fence.run_id) is None:
                raise
            return Fenced()

    async def _or_none(self, ids: Sequence[RunId], write: Awaitable[Sequence[T]]) -> Sequence[T]:
        """Claim runs; one alone that has no next number is paused, and none is claimed."""
        try:
            return await write
        except CheckpointRefused:
            if len(ids) != 1 or await self._pause_spent(ids[0]) is None:
                raise
            return []

    async def _above(
        self, work: Work[[RunId, int], Sequence[Promise]], run_id: RunId, after: int
    ) -> Sequence[Promise]:
        """Run a query for what a run's journal has above a seq."""
        look = self._db.scan if await self.backend.is_long(run_id, after) else self._db.read
        return await look(work, run_id, after)

    async def _drivable(self, found: Sequence[rows.Claimed], lane: str) -> Sequence[Claim]:
        """Return the claims on runs that can be driven; give the others back."""
        # What is wrong with a run is seen in what its claim returns, so it is claimed by now.
        claims, broken = rows.claims_of(found, lane, self._stuck)
        if broken:
            await self.release(broken)
        return claims
