"""The store in a SQLite file: embedded, nothing to install, many processes on one host."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from substrate.store import rows
from substrate.store.blobs import outsource
from substrate.store.sqlite import inbox, journal, recovery, runs
from substrate.store.sqlite.blobs import read_blobs
from substrate.store.sqlite.file import SqliteFile, open_file
from substrate.store.sqlite.pulse import SqlitePulse, remove_lock
from substrate.store.sqlite.schema import migrate
from substrate.values.clock import OffsetClock
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

_LONG_JOURNAL = 500  # rows; a longer one is read in a thread


class SqliteStore:
    """A `Store` over one file; `substrate.store.protocol` says what each method keeps."""

    def __init__(self, path: Path) -> None:
        self.clock = OffsetClock()
        self.path = path
        connection = open_file(path)
        try:
            migrate(connection, self.clock.now_ms())
        finally:
            connection.close()
        self._file = SqliteFile(path)

    async def start(self, new: NewRun, claim_for: Owner | None = None) -> tuple[Run, Claim | None]:
        """See `Store.start`."""
        now = self.clock.now_ms()
        run = await self._file.write(lambda db: runs.insert_run(db, new, now, claim_for))
        if run is not None:
            return run, rows.claim_of(run, new.input) if claim_for else None
        run = await self._file.read(lambda db: runs.existing_run(db, new.id))
        rows.check_same(new, run, await self.promise(new.id))
        return run, None

    async def get(self, run_id: RunId) -> Run | None:
        """See `Store.get`."""
        return await self._file.read(lambda db: runs.read_run(db, run_id))

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """See `Store.list`."""
        return await self._file.read(lambda db: runs.list_runs(db, status, limit))

    async def promise(self, run_id: RunId) -> Promise | None:
        """See `Store.promise`."""
        return await self._file.read(lambda db: journal.read_promise(db, run_id))

    async def journal(self, run_id: RunId, after: int = 0) -> Sequence[Promise]:
        """See `Store.journal`."""
        run = await self.get(run_id)
        is_long = run is not None and run.last_seq - after > _LONG_JOURNAL
        read = self._file.scan if is_long else self._file.read
        return await read(lambda db: journal.read_journal(db, run_id, after))

    async def blob(self, run_id: RunId, digest: str) -> bytes | None:
        """See `Store.blob`."""
        found = await self._file.read(lambda db: read_blobs(db, run_id, [digest]))
        return found.get(digest)

    async def send(self, signal: Signal) -> bool:
        """See `Store.send`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: inbox.send_signal(db, signal, now))

    async def take(self, fence: Fence, promise: Promise) -> Promise | None:
        """See `Store.take`. Looks first, as `claim` does."""
        if not await self._file.read(lambda db: inbox.has_signal(db, promise)):
            return None
        now = self.clock.now_ms()
        return await self._file.write(lambda db: inbox.take_signal(db, fence, promise, now))

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`. Looks first: an empty claim need not take the write lock."""
        if not await self._file.read(lambda db: runs.any_ready(db, lane)):
            return []
        return await self._file.write(lambda db: runs.claim_runs(db, lane, limit, owner))

    async def inboxes(self, owner: Owner) -> Sequence[Inbox]:
        """See `Store.inboxes`."""
        return await self._file.read(lambda db: runs.read_inboxes(db, owner))

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool = False) -> Sequence[Outcome]:
        """See `Store.commit`. SQLite has one writer, so nothing is ever `Locked`."""
        light = [outsource(checkpoint) for checkpoint in batch]
        return await self._file.write(lambda db: [journal.write_checkpoint(db, c) for c in light])

    async def settled(self, batch: Sequence[Checkpoint]) -> Sequence[Outcome | None]:
        """See `Store.settled`."""
        ids = [checkpoint.promise.id for checkpoint in batch]
        found = await self._file.read(lambda db: [journal.read_promise(db, one) for one in ids])
        return [rows.compare(checkpoint, row) for checkpoint, row in zip(batch, found, strict=True)]

    async def release(self, fences: Sequence[Fence]) -> int:
        """See `Store.release`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: runs.release_runs(db, fences, now))

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`. Looks first, and takes the write lock only when somebody is dead."""
        now = self.clock.now_ms()
        dead = recovery.dead_among(await self._file.read(recovery.look), self.path, now)
        if not dead:
            return []
        recovered = await self._file.write(lambda db: recovery.recover_runs(db, dead, now))
        for one in dead:
            remove_lock(self.path, one.owner)
        return recovered

    async def reopen(self, run_id: RunId, accept: Key | None = None) -> Run:
        """See `Store.reopen`."""
        now = self.clock.now_ms()
        return await self._file.write(lambda db: runs.reopen_run(db, run_id, accept, now))

    def pulse(self, owner: Owner, lease: timedelta) -> SqlitePulse:
        """See `Store.pulse`."""
        return SqlitePulse(self.path, owner, lease)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._file.close()
