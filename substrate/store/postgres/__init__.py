"""The store in a Postgres database: many workers on many machines."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from substrate.store import rows
from substrate.store.blobs import offload
from substrate.store.broken import Stuck
from substrate.store.postgres import below, ending, promises, recovery, runs
from substrate.store.postgres import checkpoints as journal
from substrate.store.postgres import lanes as lane_rows
from substrate.store.postgres import rate_limits as limits
from substrate.store.postgres import signals as inbox
from substrate.store.postgres import suspend as waiting
from substrate.store.postgres.blobs import read_blobs
from substrate.store.postgres.connections import Connections, read_time
from substrate.store.postgres.deadline import ANSWER_WAIT
from substrate.store.postgres.heartbeat import PostgresPulse
from substrate.store.postgres.pool import MAX_ASIDE
from substrate.store.postgres.schema import MIGRATION_WAIT, is_current, migrate
from substrate.store.postgres.transaction import transact
from substrate.store.transaction import Call
from substrate.values.clock import Clock, OffsetClock, steady_clock, uptime
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import PromiseId, RunId, root_of
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


class PostgresStore:
    """A `Store` over one database; `substrate.store.store` says what each method keeps."""

    def __init__(
        self, url: str, clock: Clock | None = None, *, answer_wait: float = ANSWER_WAIT
    ) -> None:
        self.clock: Clock = clock or steady_clock()
        self.url = url
        self._connections = Connections(url, answer_wait=answer_wait)
        self._vigil = recovery.Suspicions()
        self._stuck = Stuck()
        self._own: set[Owner] = set()
        self._transacting = asyncio.Semaphore(MAX_ASIDE // 2)

    async def open(self) -> None:
        """Connect, migrate, and learn the database's time."""
        self._loop = asyncio.get_running_loop()
        if not await self._connections.aside(is_current):
            await self._connections.aside(migrate, within=MIGRATION_WAIT)
        asked = uptime()
        now = await self._connections.aside(read_time)
        if isinstance(self.clock, OffsetClock):
            self.clock.set(now, asked)

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """See `Store.start`."""
        now, aside = self.clock.now_ms(), self._connections.aside
        run = await aside(lambda db: runs.insert_run(db, new, now, claim_for))
        if run is not None:
            return run, rows.claim_of(run, new.input) if run.lease_owner else None
        run = await aside(lambda db: runs.existing_run(db, new.id))
        rows.check_same(new, run, await self.promise(new.id))
        return run, None

    async def get(self, run_id: RunId) -> Run | None:
        """See `Store.get`."""
        return await self._connections.aside(lambda db: runs.read_run(db, run_id))

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """See `Store.list`."""
        found = await self._connections.aside(lambda db: runs.list_runs(db, status, limit))
        return rows.listed(found, self._stuck)

    async def promise(self, run_id: RunId) -> Promise | None:
        """See `Store.promise`."""
        return await self._connections.aside(lambda db: promises.read_promise(db, run_id))

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """See `Store.journal`."""
        return await self._connections.aside(lambda db: promises.read_journal(db, run_id, after))

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """See `Store.usages`."""
        return await self._connections.aside(lambda db: promises.read_usages(db, prefix, skipping))

    async def has_open_runs(self, prefix: str) -> bool:
        """See `Store.has_open_runs`."""
        return await self._connections.aside(lambda db: promises.has_open_runs(db, prefix))

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """See `Store.blob`."""
        roots = [root_of(run_id)]
        found = await self._connections.aside(lambda db: read_blobs(db, roots, [digest]))
        return found.get(digest)

    async def send(self, signal: Signal) -> bool:
        """See `Store.send`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: inbox.send_signal(db, signal, now))

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
        return await self._connections.aside(lambda db: inbox.read_inbox(db, run_id, name, only))

    async def take(self, fence: Fence, promise: Promise, dedups: Sequence[str]) -> Promise | Fenced:
        """See `Store.take`."""
        return await self._connections.aside(
            lambda db: inbox.take_signals(db, fence, promise, dedups)
        )

    async def give_back(self, fence: Fence, promise: PromiseId) -> bool:
        """See `Store.give_back`."""
        return await self._connections.aside(lambda db: inbox.give_back(db, fence, promise))

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`."""
        left_out, aside = self._stuck.ids, self._connections.aside
        found = await self._stuck.whole_or_apart(
            lambda: aside(lambda db: runs.claim_runs(db, lane, limit, owner, left_out)),
            lambda: aside(lambda db: runs.ready_runs(db, lane, limit, left_out)),
            lambda ids: aside(lambda db: runs.claim_these(db, lane, ids, owner)),
        )
        return await self._whole(found, lane)

    async def count_ready(self, lanes: Sequence[str], limit: int) -> int:
        """See `Store.count_ready`."""
        return await self._connections.aside(lambda db: waiting.count_ready(db, lanes, limit))

    async def claim_below(
        self, run_id: RunId, lane: str, limit: int, owner: Owner
    ) -> Sequence[Claim]:
        """See `Store.claim_below`."""
        ids = await self._connections.aside(lambda db: below.ready_below(db, run_id, [lane], limit))
        left_out = self._stuck.ids
        found = await self._stuck.apart(
            [id_ for id_ in ids if id_ not in left_out],
            lambda some: self._connections.aside(
                lambda db: runs.claim_these(db, lane, some, owner)
            ),
        )
        return await self._whole(found, lane)

    async def count_ready_below(self, run_id: RunId, lanes: Sequence[str], limit: int) -> int:
        """See `Store.count_ready_below`."""
        return len(
            await self._connections.aside(lambda db: below.ready_below(db, run_id, lanes, limit))
        )

    async def owned_runs(self, owner: Owner) -> Sequence[OwnedRun]:
        """See `Store.owned_runs`."""
        return await self._connections.aside(lambda db: runs.read_inboxes(db, owner))

    async def suspend(
        self, fence: Fence, wake_version: int, *, need: int, due_at: int | None
    ) -> bool:
        """See `Store.suspend`."""
        return await self._connections.aside(
            lambda db: waiting.suspend_run(db, fence, wake_version, need, due_at)
        )

    async def wake_due(self, limit: int = 1000) -> int:
        """See `Store.wake_due`."""
        now, left_out, aside = self.clock.now_ms(), self._stuck.ids, self._connections.aside
        woken = await self._stuck.whole_or_apart(
            lambda: aside(lambda db: waiting.wake_due_runs(db, now, limit, left_out)),
            lambda: aside(lambda db: waiting.due_runs(db, now, limit, left_out)),
            lambda ids: aside(lambda db: waiting.wake_these(db, now, ids)),
        )
        return len(woken)

    async def next_due_at(self) -> int | None:
        """See `Store.next_due_at`."""
        return await self._connections.aside(waiting.next_due_at)

    async def settled_children(self, run_id: RunId, after: int) -> Sequence[Promise]:
        """See `Store.settled_children`."""
        return await self._connections.aside(lambda db: waiting.read_arrivals(db, run_id, after))

    async def promises(self, ids: Sequence[str]) -> Mapping[str, Promise]:
        """See `Store.promises`."""
        return await self._connections.aside(lambda db: promises.read_promises(db, list(ids)))

    async def commit(
        self, batch: Sequence[Checkpoint], *, wait: bool = False
    ) -> Sequence[CommitResult]:
        """See `Store.commit`. Waiting happens aside, on another connection than the batches'."""
        light = [offload(checkpoint) for checkpoint in batch]
        go = self._connections.aside if wait else self._connections.in_line
        return await go(lambda db: journal.write_batch(db, light, wait=wait))

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
            return self._connections.aside(
                lambda db: runs.release_runs(db, some, now, is_crash=is_crash)
            )

        return len(await self._stuck.apart(list(ours), give_back))

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """See `Store.transact`. A few at a time, so that slow ones leave connections to others."""
        async with self._transacting:
            return await transact(self._connections, fence, call)

    async def finish(self, done: Checkpoint, heard: Collection[str]) -> CommitResult | Unread:
        """See `Store.finish`."""
        return await self._connections.aside(lambda db: ending.finish_run(db, done, heard))

    async def continue_as(self, fence: Fence, input: JsonText) -> bool:
        """See `Store.continue_as`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: ending.renew_run(db, fence, input, now))

    async def cancel(self, run_id: RunId) -> Run:
        """See `Store.cancel`."""
        now, aside = self.clock.now_ms(), self._connections.aside
        with suppress(CheckpointRefused):
            return await aside(lambda db: ending.cancel_run(db, run_id, now))
        await self._stuck.apart(
            await aside(lambda db: ending.open_below(db, run_id)),
            lambda ids: aside(lambda db: ending.cancel_these(db, ids, now)),
        )
        return await aside(lambda db: ending.cancelled_run(db, run_id, now))

    async def discard(self, run_id: RunId) -> Run:
        """See `Store.discard`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: ending.discard_run(db, run_id, now))

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`."""
        now, aside, stuck = self.clock.now_ms(), self._connections.aside, self._stuck
        seen = await aside(lambda db: recovery.look(db, stuck.ids))
        cut = [one.owner for one in seen if one.is_missing and one.owner in self._own]
        if cut:
            await aside(lambda db: recovery.leave_to_lease(db, cut))
            seen = await aside(lambda db: recovery.look(db, stuck.ids))
        dead = recovery.with_evidence(self._vigil.dead_among(seen, uptime()))
        if not dead:
            return []
        recovered = None
        with suppress(CheckpointRefused):
            recovered = await aside(lambda db: recovery.recover_runs(db, dead, now))
        if recovered is None:
            recovered = await aside(lambda db: recovery.recover_runs(db, dead, now, stuck))
        recovery.remove_locks(dead)
        return recovered

    async def resume(self, run_id: RunId, accepted: Promise | None = None) -> Run:
        """See `Store.resume`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: runs.reopen_run(db, run_id, accepted, now))

    async def write_rate_limit(self, name: str, told: JsonText) -> None:
        """See `Store.write_rate_limit`."""
        now = self.clock.now_ms()
        await self._connections.aside(lambda db: limits.write_limit(db, name, told, now))

    async def limits(self, since: int) -> Sequence[tuple[str, JsonText, int]]:
        """See `Store.limits`."""
        return await self._connections.aside(lambda db: limits.read_limits(db, since))

    async def tell_lanes(self, owner: Owner, lanes: Sequence[str]) -> None:
        """See `Store.tell_lanes`."""
        await self._connections.aside(lambda db: lane_rows.write_lanes(db, owner, lanes))

    async def known_lanes(self) -> frozenset[str] | None:
        """See `Store.known_lanes`."""
        return await self._connections.aside(lane_rows.known_lanes)

    async def ready_lanes(self, limit: int = 100) -> Sequence[str]:
        """See `Store.ready_lanes`."""
        return await self._connections.aside(lambda db: lane_rows.ready_lanes(db, limit))

    def heartbeat(self, owner: Owner, lease: timedelta) -> PostgresPulse:
        """See `Store.heartbeat`."""
        self._connections.check_open()
        heartbeat = PostgresPulse(self.url, owner, lease, self._make_room)
        self._own.add(owner)
        return heartbeat

    async def close(self) -> None:
        """See `Store.close`."""
        await self._connections.close()

    async def _whole(self, found: Sequence[rows.Claimed], lane: str) -> Sequence[Claim]:
        """Return the claims on runs that can be driven; give the others back."""
        claims, broken = rows.claims_of(found, lane, self._stuck)
        if broken:
            await self.release(broken)
        return claims

    def _make_room(self) -> None:
        """Close a connection for one that has to be opened in another thread, which calls this."""
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to close
            asyncio.run_coroutine_threadsafe(self._connections.make_room(), self._loop)
