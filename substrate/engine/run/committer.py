"""One task that turns everything waiting to be written on one line into group commits.

A batch is one transaction, so it is of one line. Each line has a committer of its own, and with it
a turn and a pause of its own: one that is slow or away holds up no other.

- It takes what is there, up to `MAX_ROWS` or `MAX_BYTES`, and commits it as one transaction; it
  never lingers for more. Callers go on only after the COMMIT has been acknowledged.
- A run whose row somebody has locked is written aside, alone, and nobody else waits for it.
- A batch that the database refuses is halved until the guilty checkpoint stands alone; only its
  caller gets the error.
- When the connection dies in COMMIT, the outcome is read back, and what was not written is sent
  again, each checkpoint alone: should one of them be what kills connections, it takes no other
  along.
- Two writes of one promise never share a batch, and a run's end is the last of it in its batch.
- Whoever waits is answered in the end: by an outcome, an error, or a cancellation.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from substrate.engine.run.log_once import TroubleLog
from substrate.store.store import Store
from substrate.values.errors import StoreError, StoreUnreachable, StoreUnusable
from substrate.values.records import Checkpoint, CommitResult, Locked

MAX_ROWS = 256
MAX_BYTES = 4_000_000
MAX_ASIDE = 4
"""How many locked runs are waited for at a time; each wait holds a connection."""

_LOOK_AGAIN = 0.02  # seconds until a locked run is tried again while all of those are waiting
_BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0)

log = logging.getLogger("ostinato")


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A checkpoint, and the future of its caller."""

    checkpoint: Checkpoint
    waiter: asyncio.Future[CommitResult]
    must_go_alone: bool = False

    @property
    def size(self) -> int:
        """Roughly how many bytes it adds to a batch."""
        promise = self.checkpoint.promise
        return 200 + sum(map(len, (promise.input or "", promise.value or "", promise.error or "")))

    def answer(self, outcome: CommitResult) -> None:
        if not self.waiter.done():
            self.waiter.set_result(outcome)

    def fail(self, error: StoreError) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)


class Committer:
    """The one way to the store for everything that an execution records."""

    def __init__(self, store: Store, troubles: TroubleLog | None = None) -> None:
        self._store = store
        self._queue: deque[_Entry] = deque()
        self._unanswered: set[_Entry] = set()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._troubles = troubles or TroubleLog()
        self._aside: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run(), name="ostinato-committer")
        self._task.add_done_callback(self._report_stopped)

    async def commit(self, checkpoint: Checkpoint) -> CommitResult:
        """Return what became of the checkpoint once that is durable.

        Raises `StoreError` when the database refuses it; then nothing of it was written.
        """
        if self._task.done():
            raise StoreUnusable("the committer is closed; nothing was written")
        entry = _Entry(checkpoint, asyncio.get_running_loop().create_future())
        self._unanswered.add(entry)
        self._send(entry)
        try:
            return await entry.waiter
        finally:
            self._unanswered.discard(entry)

    @property
    def has_stopped(self) -> bool:
        """Whether it writes nothing any more: it was closed, or ended by a fault of its own."""
        return self._task.done()

    async def barrier(self) -> None:
        """Return when no write is under way that was begun before, also one nobody waits for."""
        async with self._turn:
            await asyncio.gather(*self._aside, return_exceptions=True)

    async def close(self) -> None:
        """Stop at once; whoever still waits is cancelled."""
        tasks = [self._task, *self._aside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for entry in self._unanswered:
            entry.waiter.cancel()

    def _send(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                async with self._turn:
                    await self._write(self._drain())

    def _report_stopped(self, task: asyncio.Task[None]) -> None:
        """Tell whoever waits when a task of ours ended by a fault that is not the database's."""
        fault = None if task.cancelled() else task.exception()
        if fault is None:
            return
        self._task.cancel()
        log.critical("the committer has stopped", exc_info=fault)
        for entry in self._unanswered:
            entry.fail(StoreUnusable(f"the committer has stopped: {fault!r}; report this fault"))

    def _drain(self) -> Sequence[_Entry]:
        """Take the next batch off the queue, in order, leaving what has to come after it."""
        batch: list[_Entry] = []
        later: list[_Entry] = []
        taken: set[str] = set()  # promises that are written, and runs that are given up
        size = 0
        while self._queue and len(batch) < MAX_ROWS and size < MAX_BYTES:
            entry = self._queue.popleft()
            promise, run = entry.checkpoint.promise.id, entry.checkpoint.fence.run_id
            if entry.waiter.done():  # cancelled before it was sent: nothing of it is written
                continue
            # In a batch of its own, later: one row twice in a statement has no order, and a write
            # after the run's end would be stopped by the fence.
            if batch and (entry.must_go_alone or promise in taken or run in taken):
                later.append(entry)
                continue
            batch.append(entry)
            size += entry.size
            # A run may have many writes in a batch; after its last one it may have none.
            taken.update((promise,) if entry.checkpoint.status is None else (promise, run))
            if entry.must_go_alone:
                break
        self._queue.extendleft(reversed(later))
        return batch

    async def _write(self, batch: Sequence[_Entry], *, wait: bool = False) -> None:
        if not batch:
            return
        try:
            outcomes = await self._store.commit([entry.checkpoint for entry in batch], wait=wait)
        except StoreUnreachable as error:
            await self._read_back(batch, error)
        except StoreError as error:
            await self._halve(batch, error)
        else:
            for entry, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Locked):
                    self._to_slow_lane(entry)
                else:
                    entry.answer(outcome)

    async def _halve(self, batch: Sequence[_Entry], error: StoreError) -> None:
        if len(batch) == 1:
            batch[0].fail(error)
            return
        # Nothing of the batch was written: it is one transaction.
        middle = len(batch) // 2
        await self._write(batch[:middle])
        await self._write(batch[middle:])

    def _to_slow_lane(self, entry: _Entry) -> None:
        """Wait for the run's lock on another connection, in a transaction of its own."""
        if len(self._aside) >= MAX_ASIDE:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._send, entry)
            return
        task = asyncio.create_task(self._write([entry], wait=True), name="ostinato-committer-aside")
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        task.add_done_callback(self._report_stopped)

    async def _read_back(self, batch: Sequence[_Entry], error: StoreError) -> None:
        """Find out what was committed before the connection died; send the rest again."""
        self._troubles.report("a commit was cut off and is being read back", error)
        for attempt in count():
            # First a pause: the server may still be about to commit what it was sent.
            await asyncio.sleep(_BACK_OFF[min(attempt, len(_BACK_OFF) - 1)])
            waiting = [entry for entry in batch if not entry.waiter.done()]
            if not waiting:
                return
            try:
                outcomes = await self._store.read_back([entry.checkpoint for entry in waiting])
            except StoreUnreachable:
                continue
            except StoreError as refusal:
                for entry in waiting:
                    entry.fail(refusal)
                return
            for entry, outcome in zip(waiting, outcomes, strict=True):
                if outcome is None:
                    self._send(replace(entry, must_go_alone=True))
                else:
                    entry.answer(outcome)
            return
