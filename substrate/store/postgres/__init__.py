"""The store in a Postgres database: many workers on many machines."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import cast

from substrate.store.backend import Database, Dialect
from substrate.store.broken import Stuck
from substrate.store.migrate import Condition
from substrate.store.postgres import (
    below,
    blobs,
    dead_workers,
    ending,
    fenced_commit,
    followers,
    forget,
    gates,
    lanes,
    memory,
    promises,
    rate_limits,
    recovery,
    rules,
    runs,
    signals,
    sketches,
    spent,
    suspend,
    terms,
    vectors,
    ways,
)
from substrate.store.postgres.connections import Connections, read_time
from substrate.store.postgres.deadline import ANSWER_WAIT
from substrate.store.postgres.heartbeat import PostgresHeartbeat
from substrate.store.postgres.pool import MAX_POOLED
from substrate.store.postgres.schema import MIGRATION_WAIT, is_current, look, migrate
from substrate.store.postgres.scrub import scrubbed
from substrate.store.postgres.transaction import transact
from substrate.store.transaction import Call
from substrate.values.clock import Clock, OffsetClock, steady_clock, uptime
from substrate.values.ids import RunId
from substrate.values.records import Checkpoint, CommitResult, Fence, Fenced, Owner, Promise


class PostgresBackend:
    """See `substrate.store.backend.Backend`. To be opened before anything else."""

    has_one_writer: bool = False

    def __init__(
        self, url: str, clock: Clock | None = None, *, answer_wait: float = ANSWER_WAIT
    ) -> None:
        self.clock: Clock = clock or steady_clock()
        self.url: str = url
        self._connections = Connections(url, answer_wait=answer_wait)
        # A cast, since the type of `Database` leaves open whether its functions are coroutines.
        self.db: Database = cast(Database, self._connections)
        self.sql: Dialect = Dialect(
            below=below,
            blobs=blobs,
            ending=ending,
            followers=followers,
            forget=forget,
            gates=gates,
            lanes=lanes,
            memory=memory,
            promises=promises,
            rate_limits=rate_limits,
            rules=rules,
            runs=runs,
            signals=signals,
            sketches=sketches,
            spent=spent,
            suspend=suspend,
            terms=terms,
            vectors=vectors,
            ways=ways,
        )
        self._suspicions = dead_workers.Suspicions()
        self._own: set[Owner] = set()
        self._transacting = asyncio.Semaphore(MAX_POOLED // 2)

    async def open(self) -> None:
        """Connect, migrate, and learn the database's time."""
        self._loop = asyncio.get_running_loop()
        if not await self._connections.on_pool(is_current):
            await self._connections.on_pool_within(MIGRATION_WAIT, migrate)
        asked = uptime()
        now = await self._connections.on_pool(read_time)
        if isinstance(self.clock, OffsetClock):
            self.clock.set(now, asked)

    async def look(self) -> Condition:
        """Return how the database is, which is not migrated for that. Nothing else follows."""
        self._loop = asyncio.get_running_loop()
        return await self._connections.on_pool(look)

    async def is_long(self, run_id: RunId, after: int) -> bool:
        """See `Backend.is_long`. To scan is to read here, so nobody needs to know."""
        return False

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool) -> Sequence[CommitResult]:
        """See `Backend.commit`.

        One that waits for locks has another connection than the committer's, whose batches go on.
        """
        go = self._connections.on_pool if wait else self._connections.on_committer
        return await go(fenced_commit.write_batch, batch, wait=wait)

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """See `Backend.transact`. A few at a time: slow ones leave connections to others."""
        async with self._transacting:
            return await transact(self._connections, fence, call)

    async def recover(self, now: int, stuck: Stuck) -> Sequence[RunId]:
        """See `Backend.recover`."""
        db = self._connections
        seen = await db.on_pool(dead_workers.look, stuck.ids)
        cut = [one.owner for one in seen if one.is_missing and one.owner in self._own]
        if cut:  # we are alive to see it, so it was a connection that ended, and no worker
            await db.on_pool(dead_workers.leave_to_lease, cut)
            seen = await db.on_pool(dead_workers.look, stuck.ids)
        dead = dead_workers.with_evidence(self._suspicions.dead_among(seen, uptime()))
        if not dead:
            return []
        recovered = await stuck.together_or_each(
            lambda noting: db.on_pool(recovery.recover_runs, dead, now, noting)
        )
        dead_workers.remove_locks(dead)
        return recovered

    def heartbeat(self, owner: Owner, lease: timedelta) -> PostgresHeartbeat:
        """See `Backend.heartbeat`."""
        self._connections.check_open()
        heartbeat = PostgresHeartbeat(self.url, owner, lease, self._make_room)
        self._own.add(owner)
        return heartbeat

    async def scrub(self) -> Sequence[str]:
        """See `Backend.scrub`."""
        self._connections.check_open()
        return await scrubbed(self.url)

    def _make_room(self) -> None:
        """Close a connection for one that has to be opened in another thread, which calls this."""
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to close
            asyncio.run_coroutine_threadsafe(self._connections.make_room(), self._loop)
