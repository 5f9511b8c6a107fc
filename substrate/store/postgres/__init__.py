"""The store in a Postgres database: many workers on many machines."""

import time
from collections.abc import Sequence
from datetime import timedelta

from substrate.store import rows
from substrate.store.blobs import outsource
from substrate.store.postgres import inbox, journal, recovery, runs
from substrate.store.postgres.blobs import read_blobs
from substrate.store.postgres.connections import Connections, read_time
from substrate.store.postgres.pulse import PostgresPulse
from substrate.store.postgres.schema import migrate
from substrate.values.clock import OffsetClock
from substrate.values.ids import Key, RunId, root_of
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


class PostgresStore:
    """A `Store` over one database; `substrate.store.protocol` says what each method keeps."""

    def __init__(self, url: str) -> None:
        self.clock = OffsetClock()
        self.url = url
        self._connections = Connections(url)
        self._vigil = recovery.Vigil()
        self._own: set[Owner] = set()

    async def open(self) -> None:
        """Connect, migrate, and learn the database's time."""
        await self._connections.aside(migrate)
        before = OffsetClock().now_ms()
        now = await self._connections.aside(read_time)
        self.clock.offset_ms = now - (before + OffsetClock().now_ms()) // 2

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """See `Store.start`."""
        now, aside = self.clock.now_ms(), self._connections.aside
        run = await aside(lambda db: runs.insert_run(db, new, now, claim_for))
        if run is not None:
            return run, rows.claim_of(run, new.input) if claim_for else None
        run = await aside(lambda db: runs.existing_run(db, new.id))
        rows.check_same(new, run, await self.promise(new.id))
        return run, None

    async def get(self, run_id: RunId) -> Run | None:
        """See `Store.get`."""
        return await self._connections.aside(lambda db: runs.read_run(db, run_id))

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """See `Store.list`."""
        return await self._connections.aside(lambda db: runs.list_runs(db, status, limit))

    async def promise(self, run_id: RunId) -> Promise | None:
        """See `Store.promise`."""
        return await self._connections.aside(lambda db: journal.read_promise(db, run_id))

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """See `Store.journal`."""
        return await self._connections.aside(lambda db: journal.read_journal(db, run_id, after))

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """See `Store.blob`."""
        roots = [root_of(run_id)]
        found = await self._connections.aside(lambda db: read_blobs(db, roots, [digest]))
        return found.get(digest)

    async def send(self, signal: Signal) -> bool:
        """See `Store.send`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: inbox.send_signal(db, signal, now))

    async def take(self, fence: Fence, promise: Promise) -> Promise | None:
        """See `Store.take`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: inbox.take_signal(db, fence, promise, now))

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`."""
        return await self._connections.aside(lambda db: runs.claim_runs(db, lane, limit, owner))

    async def inboxes(self, owner: Owner) -> Sequence[Inbox]:
        """See `Store.inboxes`."""
        return await self._connections.aside(lambda db: runs.read_inboxes(db, owner))

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool = False) -> Sequence[Outcome]:
        """See `Store.commit`. Waiting happens aside, on another connection than the batches'."""
        light = [outsource(checkpoint) for checkpoint in batch]
        go = self._connections.aside if wait else self._connections.in_line
        return await go(lambda db: journal.write_batch(db, light, wait=wait))

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[Outcome | None]:
        """See `Store.settled`."""
        ids = [checkpoint.promise.id for checkpoint in batch]
        found = await self._connections.aside(lambda db: journal.read_promises(db, ids))
        return [rows.compare(checkpoint, found.get(checkpoint.promise.id)) for checkpoint in batch]

    async def release(self, fences: Sequence[Fence]) -> int:
        """See `Store.release`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: runs.release_runs(db, fences, now))

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`."""
        now, aside = self.clock.now_ms(), self._connections.aside
        seen = await aside(recovery.look)
        cut = [one.owner for one in seen if one.is_missing and one.owner in self._own]
        if cut:
            await aside(lambda db: recovery.vouch(db, cut))
            seen = await aside(recovery.look)
        dead = self._vigil.dead_among(seen, time.monotonic())
        if not dead:
            return []
        return await aside(lambda db: recovery.recover_runs(db, dead, now))

    async def reopen(self, run_id: RunId, accept: Key | None = None) -> Run:
        """See `Store.reopen`."""
        now = self.clock.now_ms()
        return await self._connections.aside(lambda db: runs.reopen_run(db, run_id, accept, now))

    def pulse(self, owner: Owner, lease: timedelta) -> PostgresPulse:
        """See `Store.pulse`."""
        pulse = PostgresPulse(self.url, owner, lease)
        self._own.add(owner)
        return pulse

    async def close(self) -> None:
        """See `Store.close`."""
        await self._connections.close()
