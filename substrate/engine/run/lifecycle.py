"""What may end an execution, and how its steps come to their end before that.

- An execution that was *shut* writes nothing more: every operation raises the same interrupt
  again, whatever user code does with it, and every task of the run is cancelled.
- One that *drains* lets the steps in flight come to their outcome, begins no other, and is shut
  when the last of them has ended. So a worker that stops, or a branch whose journal and code are
  at odds, costs no call that has begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from substrate.engine.failure import Raised
from substrate.engine.run.services import log
from substrate.engine.run.user_code import cancellations
from substrate.values.errors import Cancelled, Failure, Interrupt, LeaseLost, Misuse, Shutdown
from substrate.values.ids import RunId

_CANCELLED = (
    "an operation of ctx was cancelled from outside; do not wrap it in asyncio.wait_for, "
    "asyncio.timeout or a task of your own: give the step timeout=, and put several operations of "
    "one branch into a durable function for ctx.call"
)

_REFUSED_AT_ONCE = 8
"""So many operations of a run that was shut are refused without a pause: a cleanup has a few."""


class Lifecycle:
    """The tasks of one execution of a run, and what becomes of them."""

    def __init__(
        self,
        run_id: RunId,
        lease_holds: Callable[[], bool],
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        self.task = task
        """The run's own task; its branches have others."""
        self.interrupt: Interrupt | None = None
        """What has shut the execution: the first of them stands."""
        self.crash: Failure | None = None
        """Why it was left without an outcome, where that counts as a crash of the run's own."""
        self.is_loaded = False
        """Whether it is known what the run has open."""
        self.is_unwinding = False
        self.is_leaving = False
        """Whether the last write of this execution, or its suspension, is on its way."""
        self._run_id = run_id
        self._lease_holds = lease_holds
        self._draining: Interrupt | None = None
        self._steps_in_flight = 0
        self._refused = 0
        self._cancellation: tuple[int, Misuse | None] = (0, None)
        self._tasks: set[asyncio.Task[Any]] = set()

    def for_unwinding(self) -> "Lifecycle":
        """Shut this one; return the lifecycle of the unwinding that goes on in the same task."""
        following = self._following()
        following.is_loaded = following.is_unwinding = True
        return following

    def for_another_drive(self) -> "Lifecycle":
        """Shut this one; return that of the function driven again, which drains where this did."""
        following = self._following()
        if self._draining is not None:
            following.drain(self._draining)
        return following

    def _following(self) -> "Lifecycle":
        self.shut(Shutdown("another execution of the run goes on"))
        return Lifecycle(self._run_id, self._lease_holds, self.task)

    def check_open(self) -> None:
        """Raise what has shut this execution, if anything has."""
        if self.interrupt is not None:
            raise self.interrupt

    async def hold_up(self) -> None:
        """Return when an operation that was refused may raise that in its task.

        Code that swallows every error in a loop would else never let go of the event loop, which
        other runs, the heartbeat and the end of the worker need.
        """
        self._refused += 1
        beyond = self._refused - _REFUSED_AT_ONCE
        if beyond == 1:
            log.warning(
                "run %s swallows the order to end, most likely by an `except BaseException` in a "
                "loop; catch Exception instead",
                self._run_id,
            )
        with suppress(asyncio.CancelledError):  # it is told the same
            await asyncio.sleep(min(0.001 * 2 ** min(beyond, 10), 1.0) if beyond > 0 else 0)

    @property
    def holds(self) -> bool:
        """Whether the run may still act: its lease holds, and nothing has shut it. In any thread.

        The lease first: a worker that comes back as another shuts what it drove before it does.
        """
        return self._lease_holds() and self.interrupt is None

    def check_holds(self) -> None:
        """Raise what keeps the run from acting, if anything does."""
        if not self.holds:
            message = f"the lease on run {self._run_id!r} has lapsed"
            self.shut_and_raise(LeaseLost(message))

    def shut(self, interrupt: Interrupt) -> None:
        """End the execution: the first interrupt stands, and every task of the run is cancelled."""
        if self.interrupt is None:
            self.interrupt = interrupt
            # The current task is left alone: it raises the interrupt by itself.
            for task in self._tasks - {asyncio.current_task()}:
                task.cancel()

    def end_early(self, interrupt: Cancelled) -> None:
        """Shut the execution so that the run ends now.

        Not before it knows what it has to close, nor while it unwinds, or is at its end.
        """
        if self.is_loaded and not (self.is_unwinding or self.is_leaving):
            self.shut(interrupt)

    def drain(self, interrupt: Interrupt) -> None:
        """Shut the execution as soon as no step is in flight."""
        self._draining = self._draining or interrupt
        if self._steps_in_flight == 0:
            self.shut(self._draining)

    def drain_and_raise(self, interrupt: Interrupt) -> NoReturn:
        """Raise the interrupt in one branch, while steps in flight in others come to their end."""
        self.drain(interrupt)
        raise self.interrupt or interrupt

    def shut_and_raise(self, interrupt: Interrupt) -> NoReturn:
        """Shut the execution from within at once, and raise."""
        self.shut(interrupt)
        raise self.interrupt or interrupt

    def cancelled(self) -> Misuse:
        """Return the error for an operation of the run's own task that was cancelled from outside.

        Most likely that was a timeout of asyncio's, which takes the cancellation back when it sees
        the error. Where nobody does, the task is to end: see `is_own_cancellation`.
        """
        # How deep the task is cancelled now: `asyncio.timeout` takes its own back, others don't.
        self._cancellation = (cancellations(), error := Misuse(_CANCELLED))
        return error

    def is_own_cancellation(self, outcome: object) -> bool:
        """Whether the outcome is but the end of the task, which says nothing about the run.

        asyncio.timeout() takes its cancellation back (`Task.uncancel`) when it sees the error; a
        cancellation of the task is never taken back. So where the error arrives here while the
        task is still cancelled as often as when the error was made, nobody but the task's end
        was meant. Compared by identity: the same words raised by user code are its own failure.
        """
        depth, error = self._cancellation
        is_it = isinstance(outcome, Raised) and outcome.error is error
        return is_it and cancellations() >= depth

    @property
    def is_in_own_task(self) -> bool:
        """Whether the current task is one of the run's, and none that its code has made."""
        return asyncio.current_task() in self._tasks

    @contextmanager
    def tracked(self) -> Iterator[None]:
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

    async def wait_unless_draining(self) -> None:
        """Return when the run may go on. While it drains, that is never: it waits to be shut."""
        self.check_open()
        if self._draining is not None:
            await asyncio.Event().wait()  # until `shut` cancels it, after the last step in flight

    async def begin_step(self) -> None:
        """Count a step as in flight: from before its intent until its outcome is recorded."""
        await self._may_call()
        self._steps_in_flight += 1

    def end_step(self) -> None:
        """Count a step as ended."""
        self._steps_in_flight -= 1
        if self._draining is not None and self._steps_in_flight == 0:
            self.shut(self._draining)

    async def between_attempts(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Wait for a step's next attempt. A step that waits is not in flight."""
        self.end_step()
        try:
            self.check_open()
            await pause()
            await self._may_call()
        finally:  # also when it raises: `end_step` takes it off once more
            self._steps_in_flight += 1

    async def _may_call(self) -> None:
        """Return when a call may be made: the run goes on, and the lease holds."""
        await self.wait_unless_draining()
        self.check_holds()
