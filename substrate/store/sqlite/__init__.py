"""The store in a SQLite file: embedded, nothing to install, many processes on one host."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from substrate.store import rows
from substrate.store.blobs import offload
from substrate.store.broken import Stuck
from substrate.store.sqlite import below, ending, promises, recovery, runs
from substrate.store.sqlite import checkpoints as journal
from substrate.store.sqlite import lanes as lane_rows
from substrate.store.sqlite import rate_limits as limits
from substrate.store.sqlite import signals as inbox
from substrate.store.sqlite import suspend as waiting
from substrate.store.sqlite.blobs import read_blobs
from substrate.store.sqlite.file import SqliteFile, Work, open_file
from substrate.store.sqlite.heartbeat import SqlitePulse, remove_lock
from substrate.store.sqlite.schema import migrate
from substrate.store.sqlite.transaction import transact
from substrate.store.transaction import Call
from substrate.values.clock import Clock, OffsetClock, uptime
from substrate.values.errors import CheckpointRefused
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

Reading = Callable[[Work[Sequence[Promise]]], Awaitable[Sequence[Promise]]]

_LONG_BLOB = 64 * 1024  # bytes; longer ones are written in a thread
_LONG_JOURNAL = 500  # rows; a longer one is read in a thread


class SqliteStore:
    """A `Store` over one file; `substrate.store.store` says what each method keeps."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or OffsetClock()
        self.path = path
        connection = open_file(path)
        try:
            migrate(connection, self.clock.now_ms())
        finally:
            connection.close()
        self._file = SqliteFile(path)
        self._stuck = Stuck()
        self._vigil = recovery.Suspicions(path)

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """See `Store.start`."""
        now = self.clock.now_ms()
        run = await self._file.write(lambda db: runs.insert_run(db, new, now, claim_for))
        if run is not None:
            return run, rows.claim_of(run, new.input) if run.lease_owner else None
        run = await self._file.read(lambda db: runs.existing_run(db, new.id))
        rows.check_same(new, run, await self.promise(new.id))
        return run, None

    async def get(self, run_id: RunId) -> Run | None:
        """See `Store.get`."""
        return await self._file.read(lambda db: runs.read_run(db, run_id))

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """See `Store.list`."""
        found = await self._file.read(lambda db: runs.list_runs(db, status, limit))
        return rows.listed(found, self._stuck)

    async def promise(self, run_id: RunId) -> Promise | None:
        """See `Store.promise`."""
        return await self._file.read(lambda db: promises.read_promise(db, run_id))

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """See `Store.journal`."""
        read = await self._reading(run_id, after)
        return await read(lambda db: promises.read_journal(db, run_id, after))

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """See `Store.usages`."""
        return await self._file.scan(lambda db: promises.read_usages(db, prefix, skipping))

    async def has_open_runs(self, prefix: str) -> bool:
        """See `Store.has_open_runs`."""
        return await self._file.read(lambda db: promises.has_open_runs(db, prefix))

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """See `Store.blob`."""
        found = await self._file.read(lambda db: read_blobs(db, run_id, [digest]))
        return found.get(digest)

    async def send(self, signal: Signal) -> bool:
        """See `Store.send`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: inbox.send_signal(db, signal, now))

    async def inbox(
        self,
        run_id: RunId,
        name: str | None = None,
        *,
        untaken: bool = True,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[ReceivedSignal]:
        """See `Store.inbox`."""
        only = {"untaken": untaken, "after": after, "limit": limit}
        return await self._file.read(lambda db: inbox.read_inbox(db, run_id, name, only))

    async def take(self, fence: Fence, promise: Promise, dedups: Sequence[str]) -> Promise | Fenced:
        """See `Store.take`."""
        return await self._file.write(lambda db: inbox.take_signals(db, fence, promise, dedups))

    async def give_back(self, fence: Fence, promise: PromiseId) -> bool:
        """See `Store.give_back`."""
        return await self._file.write(lambda db: inbox.give_back(db, fence, promise))

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`. Looks first: an empty claim need not take the write lock."""
        left_out, read, write = self._stuck.ids, self._file.read, self._file.write
        if not await read(lambda db: runs.ready_runs(db, lane, 1, left_out)):
            return []
        found = await self._stuck.whole_or_apart(
            lambda: write(lambda db: runs.claim_runs(db, lane, limit, owner, left_out)),
            lambda: read(lambda db: runs.ready_runs(db, lane, limit, left_out)),
            lambda ids: write(lambda db: runs.claim_these(db, lane, ids, owner)),
        )
        return await self._whole(found, lane)

    async def count_ready(self, lanes: Sequence[str], limit: int) -> int:
        """See `Store.count_ready`."""
        return await self._file.read(lambda db: waiting.count_ready(db, lanes, limit))

    async def claim_below(
        self, run_id: RunId, lane: str, limit: int, owner: Owner
    ) -> Sequence[Claim]:
        """See `Store.claim_below`."""
        ids = await self._file.read(lambda db: below.ready_below(db, run_id, [lane], limit))
        left_out = self._stuck.ids
        found = await self._stuck.apart(
            [id_ for id_ in ids if id_ not in left_out],
            lambda some: self._file.write(lambda db: runs.claim_these(db, lane, some, owner)),
        )
        return await self._whole(found, lane)

    async def count_ready_below(self, run_id: RunId, lanes: Sequence[str], limit: int) -> int:
        """See `Store.count_ready_below`."""
        return len(await self._file.read(lambda db: below.ready_below(db, run_id, lanes, limit)))

    async def owned_runs(self, owner: Owner) -> Sequence[OwnedRun]:
        """See `Store.owned_runs`."""
        return await self._file.read(lambda db: runs.read_inboxes(db, owner))

    async def suspend(
        self, fence: Fence, wake_version: int, *, need: int, due_at: int | None
    ) -> bool:
        """See `Store.suspend`."""
        return await self._file.write(
            lambda db: waiting.suspend_run(db, fence, wake_version, need, due_at)
        )

    async def wake_due(self, limit: int = 1000) -> int:
        """See `Store.wake_due`. Looks first, as `claim` does."""
        now, left_out = self.clock.now_ms(), self._stuck.ids
        read, write = self._file.read, self._file.write
        if not await read(lambda db: waiting.due_runs(db, now, 1, left_out)):
            return 0
        woken = await self._stuck.whole_or_apart(
            lambda: write(lambda db: waiting.wake_due_runs(db, now, limit, left_out)),
            lambda: read(lambda db: waiting.due_runs(db, now, limit, left_out)),
            lambda ids: write(lambda db: waiting.wake_these(db, now, ids)),
        )
        return len(woken)

    async def next_due_at(self) -> int | None:
        """See `Store.next_due_at`."""
        return await self._file.read(waiting.next_due_at)

    async def settled_children(self, run_id: RunId, after: int) -> Sequence[Promise]:
        """See `Store.settled_children`."""
        read = await self._reading(run_id, after)
        return await read(lambda db: waiting.read_arrivals(db, run_id, after))

    async def promises(self, ids: Sequence[str]) -> Mapping[str, Promise]:
        """See `Store.promises`."""
        read = self._file.scan if len(ids) > _LONG_JOURNAL else self._file.read
        return await read(lambda db: promises.read_promises(db, ids))

    async def commit(
        self, batch: Sequence[Checkpoint], *, wait: bool = False
    ) -> Sequence[CommitResult]:
        """See `Store.commit`. SQLite has one writer, so nothing is ever `Locked`."""
        light = [offload(checkpoint) for checkpoint in batch]
        is_long = any(len(blob.data) > _LONG_BLOB for each in light for blob in each.blobs)
        return await self._file.write(
            lambda db: [journal.write_checkpoint(db, c) for c in light], in_thread=is_long
        )

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[CommitResult | None]:
        """See `Store.settled`."""
        ids = [checkpoint.promise.id for checkpoint in batch]
        found = await self.promises(ids)
        return [rows.compare(checkpoint, found.get(checkpoint.promise.id)) for checkpoint in batch]

    async def release(self, fences: Sequence[Fence], *, is_crash: bool = False) -> int:
        """See `Store.release`."""
        now, ours = self.clock.now_ms(), {fence.run_id: fence for fence in fences}

        def give_back(ids: Sequence[RunId]) -> Awaitable[Sequence[RunId]]:
            some = [ours[id_] for id_ in ids]
            return self._file.write(lambda db: runs.release_runs(db, some, now, is_crash=is_crash))

        return len(await self._stuck.apart(list(ours), give_back))

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """See `Store.transact`."""
        return await transact(self._file, fence, call)

    async def finish(self, done: Checkpoint, heard: Collection[str]) -> CommitResult | Unread:
        """See `Store.finish`."""
        return await self._file.write(lambda db: ending.finish_run(db, done, heard))

    async def continue_as(self, fence: Fence, input: JsonText) -> bool:
        """See `Store.continue_as`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: ending.renew_run(db, fence, input, now))

    async def cancel(self, run_id: RunId) -> Run:
        """See `Store.cancel`."""
        now, write = self.clock.now_ms(), self._file.write
        with suppress(CheckpointRefused):
            return await write(lambda db: ending.cancel_run(db, run_id, now))
        await self._stuck.apart(
            await self._file.read(lambda db: ending.open_below(db, run_id)),
            lambda ids: write(lambda db: ending.cancel_these(db, ids, now)),
        )
        return await write(lambda db: ending.cancelled_run(db, run_id, now))

    async def discard(self, run_id: RunId) -> Run:
        """See `Store.discard`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: ending.discard_run(db, run_id, now))

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`. Looks first, and takes the write lock only when somebody is dead."""
        now, stuck = self.clock.now_ms(), self._stuck
        seen = await self._file.read(lambda db: recovery.look(db, stuck.ids))
        dead = self._vigil.dead_among(seen, uptime())
        if not dead:
            return []
        recovered = None
        with suppress(CheckpointRefused):
            recovered = await self._file.write(lambda db: recovery.recover_runs(db, dead, now))
        if recovered is None:
            recovered = await self._file.write(
                lambda db: recovery.recover_runs(db, dead, now, stuck)
            )
        for one in dead:
            remove_lock(self.path, one.owner)
        return recovered

    async def resume(self, run_id: RunId, accepted: Promise | None = None) -> Run:
        """See `Store.resume`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: runs.reopen_run(db, run_id, accepted, now))

    async def write_rate_limit(self, name: str, told: JsonText) -> None:
        """See `Store.write_rate_limit`."""
        now = self.clock.now_ms()
        await self._file.write(lambda db: limits.write_limit(db, name, told, now))

    async def limits(self, since: int) -> Sequence[tuple[str, JsonText, int]]:
        """See `Store.limits`."""
        return await self._file.read(lambda db: limits.read_limits(db, since))

    async def tell_lanes(self, owner: Owner, lanes: Sequence[str]) -> None:
        """See `Store.tell_lanes`."""
        await self._file.write(lambda db: lane_rows.write_lanes(db, owner, lanes))

    async def known_lanes(self) -> frozenset[str] | None:
        """See `Store.known_lanes`."""
        now = OffsetClock().now_ms()  # of which the leases are
        return await self._file.read(lambda db: lane_rows.known_lanes(db, now))

    async def ready_lanes(self, limit: int = 100) -> Sequence[str]:
        """See `Store.ready_lanes`."""
        return await self._file.read(lambda db: lane_rows.ready_lanes(db, limit))

    def heartbeat(self, owner: Owner, lease: timedelta) -> SqlitePulse:
        """See `Store.heartbeat`."""
        self._file.check_open()
        return SqlitePulse(self.path, owner, lease)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._file.close()

    def abandon(self) -> None:
        """Close a store that nobody has used, in any thread."""
        self._file.abandon()

    async def _whole(self, found: Sequence[rows.Claimed], lane: str) -> Sequence[Claim]:
        """Return the claims on runs that can be driven; give the others back."""
        claims, broken = rows.claims_of(found, lane, self._stuck)
        if broken:
            await self.release(broken)
        return claims

    async def _reading(self, run_id: RunId, after: int) -> Reading:
        """Return how to read what a run's journal has above a seq: at once, or in a thread."""
        run = await self.get(run_id)
        is_long = run is not None and run.last_seq - after > _LONG_JOURNAL
        return self._file.scan if is_long else self._file.read
