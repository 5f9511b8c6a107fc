"""The store in a SQLite file: embedded, nothing to install, many processes on one host."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

from substrate.store.backend import Database, Dialect
from substrate.store.broken import Stuck
from substrate.store.sqlite import (
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
from substrate.store.sqlite.file import SqliteFile
from substrate.store.sqlite.heartbeat import SqliteHeartbeat, remove_lock
from substrate.store.sqlite.opening import open_file
from substrate.store.sqlite.schema import migrate
from substrate.store.sqlite.scrub import scrubbed
from substrate.store.sqlite.transaction import transact
from substrate.store.transaction import Call
from substrate.values.clock import Clock, OffsetClock, uptime
from substrate.values.ids import RunId
from substrate.values.records import Checkpoint, CommitResult, Fence, Fenced, Owner, Promise

_LONG_BLOB = 64 * 1024  # bytes; longer ones are written in a thread
_LONG_JOURNAL = 500  # rows; a longer one is read in a thread


class SqliteBackend:
    """See `substrate.store.backend.Backend`. Making one opens files, and may wait for a lock."""

    has_one_writer: bool = True

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or OffsetClock()
        self.path: Path = path
        connection = open_file(path)
        try:
            migrate(connection, self.clock.now_ms())
        finally:
            connection.close()
        self._file = SqliteFile(path)
        # A cast, since the type of `Database` leaves open whether its functions are coroutines.
        self.db: Database = cast(Database, self._file)
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
        self._suspicions = dead_workers.Suspicions(path)

    async def is_long(self, run_id: RunId, after: int) -> bool:
        """See `Backend.is_long`."""
        run = await self._file.read(runs.read_run, run_id)
        return run is not None and run.last_seq - after > _LONG_JOURNAL

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool) -> Sequence[CommitResult]:
        """See `Backend.commit`. SQLite has one writer, so nothing is ever `Locked`."""
        is_long = any(len(blob.data) > _LONG_BLOB for each in batch for blob in each.blobs)
        write = self._file.write_in_thread if is_long else self._file.write
        return await write(fenced_commit.write_batch, batch)

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """See `Backend.transact`."""
        return await transact(self._file, fence, call)

    async def recover(self, now: int, stuck: Stuck) -> Sequence[RunId]:
        """See `Backend.recover`. Takes the write lock only when somebody is dead."""
        seen = await self._file.read(dead_workers.look, stuck.ids)
        dead = self._suspicions.dead_among(seen, uptime())
        if not dead:
            return []
        recovered = await stuck.together_or_each(
            lambda noting: self._file.write(recovery.recover_runs, dead, now, noting)
        )
        for one in dead:
            remove_lock(self.path, one.owner)
        return recovered

    def heartbeat(self, owner: Owner, lease: timedelta) -> SqliteHeartbeat:
        """See `Backend.heartbeat`."""
        self._file.check_open()
        return SqliteHeartbeat(self.path, owner, lease, self._file.id)

    async def scrub(self) -> Sequence[str]:
        """See `Backend.scrub`."""
        async with self._file.turn() as db:
            return await self._file.in_thread(lambda: scrubbed(db))

    def abandon(self) -> None:
        """Close a store that nobody has used, in any thread."""
        self._file.abandon()
