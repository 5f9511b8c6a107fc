"""How an execution ends: at once, or after its steps in flight have ended.

- An execution that is *shut* writes nothing more. Every operation raises the same interrupt again,
  whatever user code does with it, and every task of the run is cancelled.
- An execution that *drains* begins no step, lets the steps in flight record their outcome, and is
  shut when the last of them has ended. So no call that has begun is lost when a worker stops, or
  when one branch finds that its code and the journal differ.
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
"""How many operations of a shut run are refused without a pause: cleanup code makes a few."""


class Lifecycle:
    """The tasks of one execution of a run, and the interrupt that ends them."""

    def __init__(
        self,
        run_id: RunId,
        lease_holds: Callable[[], bool],
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        self.task = task
        """The run's own task; its branches have others."""
        self.interrupt: Interrupt | None = None
        """What has shut the execution: the first interrupt wins."""
        self.crash: Failure | None = None
        """Set where the run's own code caused a crash: why the execution has no outcome."""
        self.is_loaded = False
        """Whether the journal is loaded, so that the run's open promises are known."""
        self.is_unwinding = False
        self.is_leaving = False
        """Whether it is giving its run up: its last write, or its suspension, is under way."""
        self._run_id = run_id
        self._lease_holds = lease_holds
        self._draining: Interrupt | None = None
        self._steps_in_flight = 0
        self._refused = 0
        self._cancellation: tuple[int, Misuse | None] = (0, None)
        self._tasks: set[asyncio.Task[Any]] = set()

    def shut_for_unwinding(self) -> "Lifecycle":
        """Shut this lifecycle; return that of the unwinding, which runs in the same task."""
        following = self._shut_and_follow()
        following.is_loaded = following.is_unwinding = True
        return following

    def shut_for_another_drive(self) -> "Lifecycle":
        """Shut this lifecycle; return that of the next drive, which also drains if this one did."""
        following = self._shut_and_follow()
        if self._draining is not None:
            following.drain(self._draining)
        return following

    def _shut_and_follow(self) -> "Lifecycle":
        self.shut(Shutdown("another execution of the run goes on"))
        return Lifecycle(self._run_id, self._lease_holds, self.task)

    def check_open(self) -> None:
        """Raise the interrupt that has shut this execution, if one has."""
        if self.interrupt is not None:
            raise self.interrupt

    async def delay_refusal(self) -> None:
        """Pause before a refused operation raises: longer with each refusal, up to a second.

        Code that swallows every error in a loop would otherwise never yield the event loop, which
        other runs, the heartbeat and the worker's shutdown need.
        """
        self._refused += 1
        beyond = self._refused - _REFUSED_AT_ONCE
        if beyond == 1:
            log.warning(
                "run %s swallows the order to end, most likely by an `except BaseException` in a "
                "loop; catch Exception instead",
                self._run_id,
            )
        with suppress(asyncio.CancelledError):  # the caller raises the interrupt anyway
            await asyncio.sleep(min(0.001 * 2 ** min(beyond, 10), 1.0) if beyond > 0 else 0)

    @property
    def holds(self) -> bool:
        """Whether the run may act: its lease holds, and it is not shut. Safe in any thread."""
        # The lease is read before the interrupt. A worker that registers anew first shuts its
        # executions, and then gets a lease that holds. Read in the other order, an execution of
        # the old registration could find no interrupt yet and the new lease already.
        return self._lease_holds() and self.interrupt is None

    def check_holds(self) -> None:
        """Raise if the run may not act any more: its lease lapsed, or it was shut."""
        if not self.holds:
            message = f"the lease on run {self._run_id!r} has lapsed"
            self.shut_and_raise(LeaseLost(message))

    def shut(self, interrupt: Interrupt) -> None:
        """End the execution: the first interrupt wins, and every task of the run is cancelled."""
        if self.interrupt is None:
            self.interrupt = interrupt
            # The current task is not cancelled: it raises the interrupt itself.
            for task in self._tasks - {asyncio.current_task()}:
                task.cancel()

    def end_early(self, interrupt: Cancelled) -> None:
        """Shut the execution so that the run ends now, cancelled or timed out.

        It does nothing in three cases. Before the journal is loaded, the run does not know yet
        what to close. While the run unwinds, it is ending already. While it leaves, its last write
        decides.
        """
        if self.is_loaded and not (self.is_unwinding or self.is_leaving):
            self.shut(interrupt)

    def drain(self, interrupt: Interrupt) -> None:
        """Shut the execution as soon as no step is in flight."""
        self._draining = self._draining or interrupt
        if self._steps_in_flight == 0:
            self.shut(self._draining)

    def drain_and_raise(self, interrupt: Interrupt) -> NoReturn:
        """Raise the interrupt in this branch; steps in flight in other branches may end first."""
        self.drain(interrupt)
        raise self.interrupt or interrupt

    def shut_and_raise(self, interrupt: Interrupt) -> NoReturn:
        """Shut the execution at once, and raise the interrupt that shut it."""
        self.shut(interrupt)
        raise self.interrupt or interrupt

    def note_cancellation(self) -> Misuse:
        """Note that the run's own task was cancelled in an operation; return the error for that.

        Most likely an asyncio timeout cancelled it, which takes the cancellation back when it sees
        the error. If nobody takes it back, the task must end: see `is_own_cancellation`.
        """
        # The number of cancellations now: `asyncio.timeout` takes its own back, others do not.
        self._cancellation = (cancellations(), error := Misuse(_CANCELLED))
        return error

    def is_own_cancellation(self, outcome: object) -> bool:
        """Whether this outcome only means that the task was cancelled. Then the run has no outcome.

        asyncio.timeout() takes its cancellation back (`Task.uncancel`) when it sees the error; who
        cancels the task to end it does not. So if the error arrives here while the task is
        cancelled as often as when the error was made, the task itself was cancelled. The error is
        compared by identity: an equal error that user code raises is a failure of that code.
        """
        depth, error = self._cancellation
        is_it = isinstance(outcome, Raised) and outcome.error is error
        return is_it and cancellations() >= depth

    @property
    def is_in_own_task(self) -> bool:
        """Whether the current task belongs to the engine, and was not created by the run's code."""
        return asyncio.current_task() in self._tasks

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Register the current task for this block: it is cancelled when the execution is shut."""
        task = asyncio.current_task()
        if task is None or task in self._tasks:
            yield
            return
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def block_while_draining(self) -> None:
        """Return at once; while the execution drains, wait here until `shut` cancels the task."""
        self.check_open()
        if self._draining is not None:
            await asyncio.Event().wait()  # until `shut` cancels it, after the last step in flight

    async def begin_step(self) -> None:
        """Count a step as in flight, from before its intent until its outcome is recorded."""
        await self._may_call()
        self._steps_in_flight += 1

    def end_step(self) -> None:
        """Count a step as ended."""
        self._steps_in_flight -= 1
        if self._draining is not None and self._steps_in_flight == 0:
            self.shut(self._draining)

    async def pause_between_attempts(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Wait for a step's next attempt. Meanwhile the step does not count as in flight."""
        self.end_step()
        try:
            self.check_open()
            await pause()
            await self._may_call()
        finally:  # also after an error: the caller's `end_step` subtracts it again
            self._steps_in_flight += 1

    async def _may_call(self) -> None:
        """Return when a call may begin: the execution does not drain, and its lease holds."""
        await self.block_while_draining()
        self.check_holds()
