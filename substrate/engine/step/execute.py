"""Runs a step: makes its attempts as its retry policy says, and records one outcome.

The effect of the step decides what a crash during a call means:

- ``pure`` and ``idempotent``: there is no row before the outcome, so the step runs again, an
  idempotent one with the same key.
- ``once``: an intent, which is a pending row, is committed before each call. The outcome is unknown
  in three cases: a later execution finds an intent without an outcome; the call timed out; it
  raised an exception that does not prove that nothing was sent (`Retry.safe_on`). Then `reconcile`
  may find out what happened, but only when the call must have ended. Without an answer the step is
  rejected, and never called again. A call that certainly did not begin is no attempt: it gets
  another intent.
- ``transactional``: the writes of the call and its outcome are one commit: both or neither.

A step with an `undo` has an intent as well, so that a call that may have happened can be undone. A
wait between two attempts is recorded if it is longer than a run stays in memory. Each failed
attempt of a model call is recorded too: its usage has to be paid, even if the process dies.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any

from substrate.engine.failure import Raised, failure_of
from substrate.engine.run.attempts import (
    UnderWay,
    Waiting,
    failed_in,
    last_record,
    next_attempt_at,
    timed_out_attempt,
)
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import RequestedCall
from substrate.engine.run.services import log
from substrate.engine.run.threads import Over, Slot
from substrate.engine.step.caller import Caller, is_not_begun
from substrate.engine.step.invoke import Call, NotBegun, free_slot, result_of
from substrate.engine.step.reaction import Next, reaction_to
from substrate.engine.step.reconcile import reconcile
from substrate.engine.step.row import StepRow
from substrate.engine.step.step import Step
from substrate.engine.step.wait_for_retry import wait_for_retry
from substrate.store.transaction import Transaction
from substrate.values.errors import Interrupt, ModelError, NotEncodable
from substrate.values.records import Effect, Promise


class _Failed(Exception):
    """Carries the exception of a transactional call through the store, which rolls back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


async def run_step(
    execution: Execution,
    prepare: Callable[[], Step],
    asked: RequestedCall,
    recorded: Promise | None,
) -> Promise:
    """Prepare a step and drive it to its outcome; return its settled promise."""
    step = prepare()
    await execution.lifecycle.begin_step()
    try:
        settled = await StepExecution(execution, step, asked, recorded).run()
        if step.undo is None:  # an undo will ask its calls whether they are over
            execution.open.calls.pop(asked.key, None)
        return settled
    finally:
        execution.lifecycle.end_step()


class StepExecution:
    """One execution of a step, from its first attempt or from its recorded row, to its outcome.

    A method that may return None returns the settled promise, or None: the step must be called.
    """

    __slots__ = ("_caller", "_execution", "_recorded", "_row", "_step")

    def __init__(
        self, execution: Execution, step: Step, asked: RequestedCall, recorded: Promise | None
    ) -> None:
        self._execution = execution
        self._step = step
        self._recorded = recorded
        self._row = StepRow(execution, step, asked, recorded)
        self._caller = Caller(execution, step, self._row, is_recorded=recorded is not None)

    async def run(self) -> Promise:
        """Make attempts until the step is settled; return its settled promise."""
        if self._recorded is not None and (settled := await self._resume_recorded(self._recorded)):
            return settled
        if self._step.effect is Effect.TRANSACTIONAL:
            return await self._run_transaction()
        is_first = self._recorded is None
        while True:
            if not is_first and (settled := await self._refused()):
                return settled
            is_first = False
            try:
                outcome = await self._caller.attempt()
            except (asyncio.CancelledError, Interrupt):
                self._row.cut_off()
                raise
            if isinstance(outcome, Promise):  # somebody else settled the step first
                return outcome
            if settled := await self._settle(outcome):
                return settled

    async def _refused(self) -> Promise | None:
        """Record that no more attempts are made, where that is so by now."""
        row, refuses = self._row, self._step.refuses
        error = None if refuses is None else await refuses(row.series.count)
        return None if error is None else await row.reject(failure_of(error), undo=row.undo)

    async def _settle(self, outcome: Any) -> Promise | None:
        """Record the result of a call, or act on the exception that it `Raised`."""
        if isinstance(outcome, Raised):
            return await self._after_failure(outcome.error)
        try:
            result = await result_of(outcome, self._step.keep)
        except NotEncodable as error:
            if self._step.effect is Effect.ONCE:
                await self._row.pause_over(error)
            return await self._after_failure(error, has_returned=True)
        return await self._row.resolve(result)

    async def _after_failure(
        self, error: BaseException, *, has_returned: bool = False, did_not_happen: bool = False
    ) -> Promise | None:
        """Act on the error of a call, as `reaction_to` decides."""
        row = self._row
        reaction = reaction_to(
            self._step,
            error,
            row.series,
            has_returned=has_returned,
            did_not_happen=did_not_happen,
        )
        if reaction.next is Next.FIND_OUT:
            if reaction.failure is not None:
                await row.leave_in_doubt(error, reaction.failure)
            return await self._find_out(error)
        row.fail(error, may_have_happened=reaction.may_have_happened)
        match reaction.next, error:
            case Next.RETRY, Exception():
                await self._wait_for_retry(error)
                return None
            case Next.LET_THROUGH, _:
                row.put_back()
                raise error
            case Next.PAUSE, _ if reaction.failure is not None:
                await row.leave_paused(error, reaction.failure)
        return await row.reject(failure_of(error), undo=row.undo)

    async def _run_transaction(self) -> Promise:
        """Make attempts of a transactional step, each in a transaction, until it is settled."""
        execution, step = self._execution, self._step
        if step.undo is not None:
            self._row.expect()

        slots: list[Slot] = []

        async def call(tx: Transaction) -> Promise:
            slot = slots.pop() if slots else await execution.services.threads.slot()
            with_key = {"idempotency_key": self._row.idempotency_key} if step.wants_key else {}
            made = Call(
                execution, step.name, self._row.told(partial(step.call, tx, **with_key)), slot
            )
            try:
                outcome = await made.make(None)
            finally:
                made.leave()
            if isinstance(outcome, Raised):
                raise _Failed(outcome.error)
            return self._row.resolved(await result_of(outcome, step.keep))

        while True:
            # A thread before the transaction: waiting for one inside it would keep locks held.
            slots.append(await free_slot(execution))
            try:
                return await execution.recorder.transact(self._row.running[0], call)
            except NotBegun:
                execution.lifecycle.check_holds()
            except _Failed as failed:
                if settled := await self._after_failure(failed.error):
                    return settled
            except Exception as error:  # noqa: BLE001 - here a failure of user code becomes data
                is_result = isinstance(error, NotEncodable)
                if settled := await self._after_failure(error, has_returned=is_result):
                    return settled
            finally:
                for slot in slots:
                    slot.leave()
                slots.clear()

    async def _wait_for_retry(self, error: Exception) -> None:
        """Wait for the next attempt; if it is not soon, the run may be suspended meanwhile."""
        execution, step = self._execution, self._step
        attempt = self._row.series.count + 1
        delay = step.retry.delay(error, attempt).total_seconds()
        is_long = delay > execution.services.warm_s
        # The usage of a failed model call has to be paid, even if this process dies.
        is_recorded = is_long or step.has_intent or isinstance(error, ModelError)
        row = await self._row.wait(error, delay, is_recorded=is_recorded)
        if is_long:
            details = (execution.fence.run_id, step.name, delay, attempt, failure_of(error).message)
            log.info("run %s waits at %s for %.0f s after attempt %d: %s", *details)
            pause = partial(self._wait_until, row, next_attempt_at(row) or execution.now_ms)
        else:
            pause = partial(execution.services.clock.sleep, delay)
        await execution.lifecycle.pause_between_attempts(pause)

    async def _wait_until(self, row: Promise, due_at: int) -> None:
        """Return when it is time for the next attempt."""
        if self._step.pause_on:  # a signal of a person may end the wait early
            rested = await wait_for_retry(self._execution, row, due_at)
            if rested is not row:  # a signal ended the wait and changed the row
                self._step.on_hurried()
            self._row.failed = failed_in(rested)
        else:
            await self._execution.wakeups.wait_until(due_at)

    async def _resume_recorded(self, recorded: Promise) -> Promise | None:
        """Continue from the step's recorded row."""
        match last_record(recorded):
            case Waiting(due_at):
                pause = partial(self._wait_until, recorded, due_at)
                await self._execution.lifecycle.pause_between_attempts(pause)
            case UnderWay() as attempt if recorded.effect is Effect.ONCE:
                return await self._resume_in_doubt(recorded, attempt)
        return None  # a pure or idempotent step runs again

    async def _resume_in_doubt(self, recorded: Promise, attempt: UnderWay) -> Promise | None:
        """Continue from the intent of a ``once`` call without an outcome."""
        execution, step = self._execution, self._step
        over = execution.services.threads.running.get((recorded.id, recorded.epoch))
        if over is not None and await self._has_returned(over):
            never_began = is_not_begun(over.result())
            return None if never_began else await self._settle(over.result())
        has_ended = attempt.has_returned or recorded.epoch == execution.claim.run.exited_epoch
        if not has_ended and (step.reconcile or step.undo):
            await self._wait_until_call_has_ended(attempt)
        reason = f"the worker that called {step.name!r} ended before it had an outcome"
        if attempt.failure is not None and attempt.has_returned:
            reason = f"{step.name!r}: {attempt.failure.message}"
        is_over = has_ended or not attempt.is_in_thread
        if settled := await reconcile(self._caller, self._row, reason, is_over=is_over):
            return settled
        is_last = self._row.series.count >= step.retry.max_attempts
        if attempt.failure is not None and is_last:
            return await self._row.reject(attempt.failure, undo=None)
        return None

    async def _has_returned(self, over: Over) -> bool:
        """Wait for a call that an earlier claim left in a thread; return whether it has ended.

        Its outcome is that of the step. With `reconcile` the wait has no limit; without it, the
        outcome is unknown after the step's timeout.
        """
        await asyncio.wait([over], timeout=None if self._step.reconcile else self._step.limit)
        return over.done() and not isawaitable(over.result())

    async def _find_out(self, error: BaseException) -> Promise | None:
        """Settle a ``once`` call after an exception that does not prove that it did not happen."""
        step, call, failure = self._step, self._caller.call, failure_of(error)
        reason = f"{step.name!r} raised {failure.type}: {failure.message}"
        if call is not None and call.is_cut_off and step.reconcile:
            call.is_cut_off = False
            outcome = await self._record_timeout_and_wait(call, error)
            if outcome is not None:
                return await self._settle(outcome)
        if settled := await reconcile(self._caller, self._row, reason, trace=failure.traceback):
            return settled
        return await self._after_failure(error, did_not_happen=True)

    async def _record_timeout_and_wait(self, call: Call, error: BaseException) -> Any:
        """Record that a call timed out, then wait until it has ended.

        Returns the call's outcome if it ran in a thread: that is the outcome of the step.
        """
        record = timed_out_attempt(error, self._execution.now_ms)
        await self._row.write_intent(call.under_way, record)
        if call.is_in_thread:
            return await call.over()
        await self._wait_until_call_has_ended(call.under_way)
        return None

    async def _wait_until_call_has_ended(self, attempt: UnderWay) -> None:
        """Wait until a call that this process cannot observe must have ended."""
        execution = self._execution
        due_at = attempt.over_at(self._caller.longest_s, execution.services.lease_s)
        await execution.lifecycle.pause_between_attempts(
            partial(execution.wakeups.wait_until, due_at)
        )
