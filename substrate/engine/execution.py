"""One claim on one run, while it is driven: its fence, its journal, and what may end it.

- An execution that was *shut* writes nothing more: every operation raises the same interrupt
  again, whatever user code does with it, and every task of the run is cancelled.
- One that *drains* lets the steps in flight come to their outcome, begins no other, and is shut
  when the last of them has ended. So a worker that stops, or a branch whose journal and code are
  at odds, costs no call that has begun.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

from substrate.engine.committer import Committer
from substrate.engine.failure import Raised, cancellations
from substrate.engine.journal import Journal
from substrate.engine.threads import Threads
from substrate.store.protocol import Store
from substrate.values.clock import Clock
from substrate.values.errors import (
    CheckpointRefused,
    Interrupt,
    LeaseLost,
    Misuse,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.records import (
    Adopted,
    Blob,
    Checkpoint,
    Claim,
    Fenced,
    Locked,
    Outcome,
    Promise,
    RunStatus,
    Written,
)

T = TypeVar("T")
Listener = Callable[[str, dict[str, Any]], None]
"""Is told live events: the run's id, and the event. A step's thread may tell it, too."""


def tell_nobody(run_id: str, event: dict[str, Any]) -> None:
    """Do nothing with a live event: the listener of who has none."""


log = logging.getLogger("ostinato")

_CANCELLED = (
    "an operation of ctx was cancelled from outside; do not wrap it in asyncio.wait_for, "
    "asyncio.timeout or a task of your own: give the step timeout=, and put several operations of "
    "one branch into a durable function for ctx.call"
)
_PAUSE = 0.2  # seconds before an unreachable database is asked again


@dataclass(frozen=True, slots=True)
class Means:
    """What every execution of a worker shares."""

    store: Store
    committer: Committer
    clock: Clock
    threads: Threads
    listener: Listener
    lease_holds: Callable[[], bool]


class Execution:
    """The state of a run that is being driven here and now."""

    def __init__(self, claim: Claim, means: Means) -> None:
        self.claim = claim
        self.fence = claim.fence
        self.means = means
        self.journal = Journal()
        self.task: asyncio.Task[Any] | None = None
        self.interrupt: Interrupt | None = None
        self.is_ending = False
        self.next_wake = asyncio.Event()
        self._changed: asyncio.Event | None = None
        self._draining: Interrupt | None = None
        self._steps_in_flight = 0
        self._cancellation: tuple[int, Misuse | None] = (0, None)
        self._wake_version = claim.run.wake_version
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: set[str] = set()

    @property
    def now_ms(self) -> int:
        """The time: the database's, unless the worker was given another clock."""
        return self.means.clock.now_ms()

    @property
    def next_change(self) -> asyncio.Event:
        """Is set when the journal changes after this moment."""
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    def check_open(self) -> None:
        """Raise what has shut this execution, if anything has."""
        if self.interrupt is not None:
            raise self.interrupt

    def shut(self, interrupt: Interrupt) -> None:
        """End the execution: the first interrupt stands, and every task of the run is cancelled."""
        if self.interrupt is None:
            self.interrupt = interrupt
            self.cancel()

    def drain(self, interrupt: Interrupt) -> None:
        """Shut the execution as soon as no step is in flight."""
        self._draining = self._draining or interrupt
        if self._steps_in_flight == 0:
            self.shut(self._draining)

    def leave(self, interrupt: Interrupt) -> NoReturn:
        """Raise the interrupt in one branch, while steps in flight in others come to their end."""
        self.drain(interrupt)
        raise self.interrupt or interrupt

    def fail(self, interrupt: Interrupt) -> NoReturn:
        """Shut the execution from within at once, and raise."""
        self.shut(interrupt)
        raise self.interrupt or interrupt

    def cancel(self) -> None:
        """Cancel every task of the run but the current one."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def cancelled(self) -> Misuse:
        """Return the error for an operation of the run's own task that was cancelled from outside.

        Most likely that was a timeout of asyncio's, which takes the cancellation back when it sees
        the error. Where nobody does, the task is to end: see `is_torn_away`.
        """
        self._cancellation = (cancellations(), error := Misuse(_CANCELLED))
        return error

    def is_torn_away(self, outcome: object) -> bool:
        """Whether the outcome is but the end of the task, which says nothing about the run."""
        depth, error = self._cancellation
        is_it = isinstance(outcome, Raised) and outcome.error is error
        return is_it and cancellations() >= depth

    def notice(self, wake_version: int) -> None:
        """Take note of the run's wake version: where it has moved, something came."""
        if wake_version != self._wake_version:
            self._wake_version = wake_version
            self.wake()

    def wake(self) -> None:
        """Tell everything that waits to look again. Who waits takes `next_wake` before looking."""
        woken, self.next_wake = self.next_wake, asyncio.Event()
        woken.set()

    @contextmanager
    def enlisted(self) -> Iterator[None]:
        """Count the current task as one of the run's, to be cancelled when the run is shut."""
        task = asyncio.current_task()
        if task is None or task in self._tasks:
            yield
            return
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def proceed(self) -> None:
        """Return when the run may go on. While it drains, that is never: it waits to be shut."""
        self.check_open()
        if self._draining is not None:
            await asyncio.Event().wait()

    def tell(self, event: dict[str, Any]) -> None:
        """Tell the worker's listener of a live event. Its errors are its own: the run goes on."""
        try:
            self.means.listener(self.fence.run_id, event)
        except Exception:
            log.exception("the listener of run %s failed", self.fence.run_id)

    async def begin_step(self) -> None:
        """Count a step as in flight: from before its intent until its outcome is recorded."""
        await self._may_call()
        self._steps_in_flight += 1

    def end_step(self) -> None:
        """Count a step as ended."""
        self._steps_in_flight -= 1
        if self._draining is not None and self._steps_in_flight == 0:
            self.shut(self._draining)

    async def rest(self, seconds: float) -> None:
        """Wait between two attempts. A step that rests is not in flight."""
        self.end_step()
        try:
            self.check_open()
            await self.means.clock.sleep(seconds)
            await self._may_call()
        finally:
            self._steps_in_flight += 1

    async def _may_call(self) -> None:
        """Return when a call may be made: the run goes on, and the lease holds."""
        await self.proceed()
        if not self.means.lease_holds():
            self.fail(LeaseLost(f"the lease on run {self.fence.run_id!r} has lapsed"))

    async def load(self) -> None:
        """Load what the run has recorded so far."""
        if self.claim.run.last_seq > 1:
            run_id = self.fence.run_id
            self.journal = Journal(await self._insist(lambda: self.means.store.journal(run_id)))

    async def write(
        self,
        promise: Promise,
        *,
        blobs: tuple[Blob, ...] = (),
    ) -> Promise:
        """Commit a promise; return it as it stands, which may be somebody else's outcome.

        Raises `CheckpointRefused` when the database rejects what it holds.
        """
        self.check_open()
        new = tuple(blob for blob in blobs if blob.hash not in self._kept)
        match await self._commit(Checkpoint(self.fence, promise, None, new)):
            case Written(seq):
                stands = replace(promise, seq=seq, epoch=self.fence.epoch)
            case Adopted(first):
                stands = first
            case Fenced() | Locked():
                self.fail(LeaseLost(f"run {self.fence.run_id!r} belongs to another worker now"))
        self._kept.update(blob.hash for blob in new)
        self._tell_change()
        return stands

    async def end(self, promise: Promise, status: RunStatus) -> None:
        """Commit what became of the run, and let go of it; nothing when it is another's by now."""
        self.is_ending = True
        checkpoint = Checkpoint(self.fence, promise, status)
        with suppress(Shutdown):
            if isinstance(await self._commit(checkpoint), Fenced):
                log.info("run %s has another worker, which will end it", self.fence.run_id)
            else:
                log.info("run %s is %s", self.fence.run_id, status)
        self._tell_change()

    async def take_signal(self, waiting: Promise) -> Promise | None:
        """Settle a waiting promise from the inbox, if its signal is there."""
        self.check_open()
        taken = await self._insist(lambda: self.means.store.take(self.fence, waiting))
        if taken is not None:
            self._tell_change()
        return taken

    async def _commit(self, checkpoint: Checkpoint) -> Outcome:
        try:
            return await self.means.committer.commit(checkpoint)
        except CheckpointRefused:
            raise
        except StoreError as error:
            self._give_up(error)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the database until it answers; give the run up when it answers with an error."""
        while True:
            try:
                return await call()
            except StoreUnreachable as error:
                log.info("run %s waits for the database: %s", self.fence.run_id, error)
                await asyncio.sleep(_PAUSE)
            except StoreError as error:
                self._give_up(error)

    def _give_up(self, error: StoreError) -> NoReturn:
        log.error("run %s goes on elsewhere or later: %s", self.fence.run_id, error)
        self.fail(Shutdown(f"the database fails: {error}"))

    def _tell_change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
