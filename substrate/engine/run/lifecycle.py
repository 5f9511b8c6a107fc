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
from substrate.engine.run.idle import IdleTracker
from substrate.engine.run.services import Services, log
from substrate.engine.run.user_code import cancellations
from substrate.values.errors import Failure, Interrupt, LeaseLost, Misuse
from substrate.values.records import Claim, Fence

_CANCELLED = (
    "an operation of ctx was cancelled from outside; do not wrap it in asyncio.wait_for, "
    "asyncio.timeout or a task of your own: give the step timeout=, and put several operations of "
    "one branch into a durable function for ctx.call"
)

_REFUSED_AT_ONCE = 8
"""So many operations of a run that was shut are refused without a pause: a cleanup has a few."""


class Lifecycle:
    """The tasks of a run that is driven here and now, and what becomes of them."""

    def __init__(self, claim: Claim, services: Services) -> None:
        self.claim = claim
        self.fence: Fence = claim.fence
        self.services = services
        self.task: asyncio.Task[Any] | None = None
        self.interrupt: Interrupt | None = None
        self.crash: Failure | None = None
        """Why it was left without an outcome, where that counts as a crash of the run's own."""
        self.idle: IdleTracker = IdleTracker(services.on_idle)
        self._draining: Interrupt | None = None
        self._steps_in_flight = 0
        self._refused = 0
        self._cancellation: tuple[int, Misuse | None] = (0, None)
        self._tasks: set[asyncio.Task[Any]] = set()

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
                self.fence.run_id,
            )
        with suppress(asyncio.CancelledError):  # it is told the same
            await asyncio.sleep(min(0.001 * 2 ** min(beyond, 10), 1.0) if beyond > 0 else 0)

    @property
    def holds(self) -> bool:
        """Whether the run may still act: its lease holds, and nothing has shut it. In any thread.

        The lease first: a worker that comes back as another shuts what it drove before it does.
        """
        return self.services.lease_holds() and self.interrupt is None

    def check_holds(self) -> None:
        """Raise what keeps the run from acting, if anything does."""
        if not self.holds:
            self.fail(LeaseLost(f"the lease on run {self.fence.run_id!r} has lapsed"))

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
        the error. Where nobody does, the task is to end: see `is_own_cancellation`.
        """
        self._cancellation = (cancellations(), error := Misuse(_CANCELLED))
        return error

    def is_own_cancellation(self, outcome: object) -> bool:
        """Whether the outcome is but the end of the task, which says nothing about the run."""
        depth, error = self._cancellation
        is_it = isinstance(outcome, Raised) and outcome.error is error
        return is_it and cancellations() >= depth

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
            await asyncio.Event().wait()

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
        finally:
            self._steps_in_flight += 1

    async def _may_call(self) -> None:
        """Return when a call may be made: the run goes on, and the lease holds."""
        await self.wait_unless_draining()
        self.check_holds()
