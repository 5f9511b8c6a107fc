"""A step's attempts: called as its policy says, recorded once.

What its effect means for a crash in the middle:

- ``pure`` and ``idempotent``: there is no row until the outcome; it runs again, an idempotent one
  with the same key.
- ``once``: a pending row, the intent, is committed before each call. An intent that a later
  execution finds without an outcome, a timeout, or an exception that does not prove that the call
  never left (`Retry.safe_on`) make the outcome unknown. The step's `reconcile` may find it out, but
  not before the call must be over; else the step is rejected, and never called again. A call that
  is known not to have begun gets another intent, and was no attempt.
- ``transactional``: what the call writes and its outcome are one commit, so it happened or not.

A step with an `undo` has an intent too, so that what may have happened can be made up for. A wait
between two attempts that is longer than a run stays in memory is recorded, and so is each failed
attempt of a model call: what it used is on the bill, whatever becomes of the process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from typing import Any, NoReturn

from substrate.engine.failure import (
    Raised,
    encode_failure,
    failure_of,
    unknown_outcome,
)
from substrate.engine.function.signature import is_async
from substrate.engine.run.attempts import (
    Attempt,
    Series,
    UnderWay,
    closed_keys,
    encode_failed,
    encode_running,
    failed_attempt,
    failed_in,
    failure_of_cut_off_attempt,
    given_up,
    lost_in,
    lost_result,
    next_attempt_at,
    series_of,
    timed_out_attempt,
    under_way,
    with_attempt,
)
from substrate.engine.run.execution import Execution
from substrate.engine.run.journal import Expected
from substrate.engine.run.services import log
from substrate.engine.run.threads import Over, Slot
from substrate.engine.run.user_code import capture
from substrate.engine.step.invoke import Bound, Call, NotBegun, Result, result_of
from substrate.engine.step.rest import rest
from substrate.engine.step.step import LONGEST_CALL, Done, NotDone, Step, idempotency_key, takes_key
from substrate.store.transaction import Transaction
from substrate.values.clock import from_ms
from substrate.values.codec import decode, encode
from substrate.values.errors import (
    CheckpointRefused,
    Failure,
    ModelError,
    NotEncodable,
    NotKept,
    Paused,
)
from substrate.values.ids import PromiseId, promise_id
from substrate.values.records import Effect, JsonText, Kind, Promise, PromiseState
from substrate.values.secret import hidden

_CHANCES = 3
"""So often a call is announced that is late each time, before its step is rejected."""

_NOT_AGAIN = (
    "mend what it returns for later calls; this one is not made again. When the run is resumed, "
    "`reconcile` says what it came to, or that is unknown"
)
_MAY_COME = (
    "reconcile says that it did not happen, but it may be about to, in a thread of a process that "
    "is not known to have ended"
)


class _Failed(Exception):
    """Takes whatever a transactional call raised through the store, which rolls back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


def _is_not_begun(outcome: object) -> bool:
    return isinstance(outcome, Raised) and isinstance(outcome.error, NotBegun)


async def run_step(
    execution: Execution,
    prepare: Callable[[], Step],
    asked: Expected,
    recorded: Promise | None,
) -> Promise:
    """Drive a step, prepared only now, to its outcome and return its settled promise."""
    step = prepare()
    await execution.lifecycle.begin_step()
    try:
        settled = await StepExecution(execution, step, asked, recorded).run()
        if step.undo is None:  # what may be undone is asked for later whether it is over
            execution.open.calls.pop(asked.key, None)
        return settled
    finally:
        execution.lifecycle.end_step()


class StepExecution:
    """A step on its way from its first attempt, or from a recorded intent, to its outcome."""

    __slots__ = (
        "_asked",
        "_call",
        "_closed",
        "_created_at",
        "_execution",
        "_failed",
        "_is_in_doubt",
        "_recorded",
        "_step",
        "_used",
    )

    def __init__(
        self, execution: Execution, step: Step, asked: Expected, recorded: Promise | None
    ) -> None:
        self._execution = execution
        self._step = step
        self._asked = asked
        self._recorded = recorded
        self._created_at = recorded.created_at if recorded else execution.now_ms
        self._call: Call | None = None
        self._closed = 0
        self._failed: list[Attempt] = []
        self._is_in_doubt = False
        self._used: JsonText | None = None

    async def run(self) -> Promise:
        """Call as the step's policy says, and return the promise as it was settled."""
        if self._recorded is not None and (settled := await self._resume_recorded(self._recorded)):
            return settled
        if self._step.effect is Effect.TRANSACTIONAL:
            return await self._run_transaction()
        while True:
            outcome = await self._attempt()
            if isinstance(outcome, Promise):  # another's, which came first
                return outcome
            if settled := await self._end_without_result(outcome):
                return settled

    async def _end_without_result(self, outcome: Any) -> Promise | None:
        """Return the promise as it was settled by a call, or None when it is to be called again."""
        if isinstance(outcome, Raised):
            return await self._reject_or_wait_for_retry(outcome.error)
        try:
            result = await result_of(outcome, self._step.keep)
        except NotEncodable as error:
            if self._step.effect is Effect.ONCE:
                await self._pause_over(error)
            return await self._reject_or_wait_for_retry(error, has_returned=True)
        return await self._resolve(result)

    async def _resume_recorded(self, recorded: Promise) -> Promise | None:
        """Go on from a recorded row; None when the step is to be called."""
        execution = self._execution
        self._failed, self._used = failed_in(recorded), recorded.usage
        self._closed = closed_keys(recorded)
        self._is_in_doubt = recorded.undo is not None and recorded.effect is not Effect.ONCE
        due_at = next_attempt_at(recorded)
        if due_at is not None:
            await execution.lifecycle.between_attempts(partial(self._rested, recorded, due_at))
            return None
        if recorded.effect is not Effect.ONCE:
            return None
        over = execution.services.threads.running.get((recorded.id, recorded.epoch))
        if over is not None and await self._has_returned(over):
            never_began = _is_not_begun(over.result())
            return None if never_began else await self._end_without_result(over.result())
        lost = lost_in(recorded)  # then it has returned, whoever called it
        is_gone = lost is not None or recorded.epoch == execution.claim.run.exited_epoch
        attempt = under_way(recorded)
        if not is_gone and (self._step.reconcile or self._step.undo):
            await self._wait_until_call_has_ended(attempt)
        reason = f"the worker that called {self._step.name!r} ended before it had an outcome"
        if lost is not None:
            reason = f"{self._step.name!r}: {lost.message}"
        is_over = is_gone or not attempt.is_in_thread
        if settled := await self._reconcile(reason, is_over=is_over):
            return settled
        failure = failure_of_cut_off_attempt(recorded)
        if failure is not None and series_of(self._failed).count >= self._step.retry.max_attempts:
            return await self._reject(failure, undo=None)
        return None

    async def _has_returned(self, over: Over) -> bool:
        """Wait for a call that a lost claim of this worker has left behind in its thread.

        Whatever it comes to is the step's outcome. Without `reconcile` nobody waits for one that
        does not end: then it is unknown.
        """
        await asyncio.wait([over], timeout=None if self._step.reconcile else self._step.limit)
        return over.done() and not isawaitable(over.result())

    async def _write_intent(self, call: Call) -> Promise:
        """Commit the intent to call."""
        step, execution = self._step, self._execution
        call.bound = Bound(execution, self._limit)
        calls = execution.open.calls.setdefault(self._asked.key, [])
        if step.undo is None:
            calls.clear()  # what was called before is known not to have happened
        calls.append(call)
        attempts = encode_running(self._failed, self._closed, self._under_way(call))
        return await execution.recorder.write(
            self._promise(PromiseState.PENDING, attempts=attempts, undo=step.undo)
        )

    @property
    def _limit(self) -> float:
        """How many seconds a call may last that has an intent."""
        return LONGEST_CALL if self._step.limit is None else self._step.limit

    def _under_way(self, call: Call) -> UnderWay:
        assert call.bound is not None
        timeout = round(call.bound.seconds * 1000)
        return UnderWay(call.bound.began_at, timeout, call.is_in_thread)

    async def _attempt(self) -> Any:
        """Call the function once; return what it returned, or `Raised`.

        That is the step's promise itself where another has settled it meanwhile.
        """
        step, execution = self._step, self._execution
        for _ in range(_CHANCES):
            call = self._call = await self._next_call(step.call, wants_key=step.wants_key)
            try:
                if step.has_intent and (intent := await self._write_intent(call)).is_settled:
                    return intent
                outcome = await capture(
                    call.make(step.limit, self._id), execution.lifecycle.check_holds
                )
            finally:
                call.leave()
            if not _is_not_begun(outcome):
                return outcome
            execution.lifecycle.check_holds()
        told = f"{step.name!r} could not begin before its timeout was over, {_CHANCES} times"
        return Raised(NotBegun(f"{told}; nothing was called. Give it a longer one"))

    async def _next_call(self, function: Callable[..., Any], *, wants_key: bool) -> Call:
        """Return a call of a function, with a thread where it needs one."""
        step = self._step
        slot = None if is_async(function) else await self._slot()
        if wants_key:
            function = partial(function, idempotency_key=self._key)
        is_first = step.effect is Effect.ONCE or not (self._recorded or self._is_in_doubt)
        return Call(self._execution, step.name, function, slot, is_first=is_first)

    async def _slot(self) -> Slot:
        """Return a thread. A step that waits for one is not in flight: nothing is announced."""
        execution, threads = self._execution, self._execution.services.threads
        if not threads.is_full:
            return await threads.slot()
        slots: list[Slot] = []

        async def wait() -> None:
            slots.append(await threads.slot())

        try:
            await execution.lifecycle.between_attempts(wait)
        except BaseException:
            for slot in slots:
                slot.leave()
            raise
        return slots.pop()

    async def _run_transaction(self) -> Promise:
        """Make the call and commit what it writes with its outcome, until that is settled."""
        execution, step = self._execution, self._step
        if step.undo is not None:
            execution.open.track(self._promise(PromiseState.PENDING, undo=step.undo))

        slots: list[Slot] = []

        async def call(tx: Transaction) -> Promise:
            slot = slots.pop() if slots else await execution.services.threads.slot()
            with_key = {"idempotency_key": self._key} if step.wants_key else {}
            made = Call(execution, step.name, partial(step.call, tx, **with_key), slot)
            try:
                outcome = await made.make(None)
            finally:
                made.leave()
            if isinstance(outcome, Raised):
                raise _Failed(outcome.error)
            return self._resolved(await result_of(outcome, step.keep))

        while True:
            slots.append(await self._slot())
            try:
                return await execution.recorder.transact(self._id[0], call)
            except NotBegun:
                execution.lifecycle.check_holds()
            except _Failed as failed:
                if settled := await self._reject_or_wait_for_retry(failed.error):
                    return settled
            except Exception as error:  # noqa: BLE001 - here a failure of user code becomes data
                is_result = isinstance(error, NotEncodable)
                if settled := await self._reject_or_wait_for_retry(error, has_returned=is_result):
                    return settled
            finally:
                for slot in slots:
                    slot.leave()
                slots.clear()

    async def _reject_or_wait_for_retry(
        self, error: BaseException, *, has_returned: bool = False
    ) -> Promise | None:
        """Return the promise as rejected, or None when it is time for another attempt.

        `has_returned` says that the call came to its end, and the error is about its result: so
        it has happened. What the call raised itself tells nothing of that, whatever it is.
        """
        step, series = self._step, series_of(self._failed)
        attempt = series.count + 1
        never_left = isinstance(error, (*step.retry.safe_on, NotBegun))
        is_safe = never_left or step.effect is Effect.TRANSACTIONAL
        if step.effect is Effect.ONCE and not (is_safe or has_returned):
            failure = failure_of(error)
            if isinstance(error, Exception) and (fault := step.fault_in(error)):
                await self._leave_in_doubt(error, fault)
            reason = f"{step.name!r} raised {failure.type}: {failure.message}"
            call = self._call
            if call is not None and call.is_cut_off and step.reconcile:
                call.is_cut_off = False
                outcome = await self._see_out(call, error)
                if outcome is not None:
                    return await self._end_without_result(outcome)
            if settled := await self._reconcile(reason, trace=failure.traceback):
                return settled
            is_safe = True  # it is known not to have happened
        self._is_in_doubt = self._is_in_doubt or not is_safe
        undo = step.undo if self._is_in_doubt else None
        if isinstance(error, ModelError):
            self._used = self._with_usage(error.usage and error.usage.to_json())
        fault = step.fault_in(error) if isinstance(error, Exception) else None
        if has_returned and isinstance(error, NotKept):
            fault = failure_of(error)
        if fault or not (
            isinstance(error, Exception) and step.retry.allows(error, attempt, series.spent)
        ):
            if isinstance(error, step.let_through):
                self._let_through(error)
            if isinstance(error, Exception) and (fault or isinstance(error, step.pause_on)):
                await self._leave_paused(error, fault or failure_of(error), undo)
            return await self._reject(failure_of(error), undo=undo)
        delay = step.retry.delay(error, attempt).total_seconds()
        await self._rest(error, delay, undo)
        return None

    def _let_through(self, error: Exception) -> NoReturn:
        """Raise what the caller deals with; what earlier attempts used stays with the key."""
        begun = self._execution.open.pending.get(self._asked.key)
        if begun is not None:
            self._execution.journal.put_back(begun)
        raise error

    async def _pause_over(self, error: NotEncodable) -> NoReturn:
        """Pause the run over the result of a ``once`` call: it has happened, whatever it gave.

        Where there is JSON of it, that is its outcome. Else the intent stands without one: resumed,
        the step is reconciled, or nobody knows what it came to.
        """
        told = failure_of(error)
        told = replace(told, message=f"{self._step.name!r}: {told.message}")
        if not isinstance(error, NotKept) or error.value is None:
            told = replace(told, message=f"{told.message}; {_NOT_AGAIN}")
            await self._leave_in_doubt(error, told)
        await self._resolve(Result(JsonText(error.value)))
        cure = "what it gave is recorded as JSON: mend what is wrong, and resume the run"
        self._execution.lifecycle.drain_and_raise(
            Paused(replace(told, message=f"{told.message}; {cure}"))
        )

    async def _leave_in_doubt(self, error: Exception, told: Failure) -> NoReturn:
        """Pause the run over a ``once`` call that has ended, and left nothing that is its outcome.

        The intent stands: resumed, the step is reconciled, or nobody knows what it came to.
        """
        execution, call = self._execution, self._call
        if call is not None:
            known = [*self._failed, lost_result(error, execution.now_ms)]
            attempts = encode_running(known, self._closed, self._under_way(call))
            undo = self._step.undo
            await execution.recorder.write(
                self._promise(PromiseState.PENDING, attempts=attempts, undo=undo)
            )
        execution.lifecycle.drain_and_raise(Paused(told))

    async def _leave_paused(
        self, error: Exception, failure: Failure, undo: JsonText | None
    ) -> NoReturn:
        """Leave it to a person, who begins a new series of attempts by resuming the run."""
        execution, series = self._execution, series_of(self._failed)
        if self._failed or self._used is not None:
            record = given_up(error, execution.now_ms, series)
            attempts = encode_failed(with_attempt(self._failed, record), self._closed)
            await execution.recorder.write(
                self._promise(PromiseState.PENDING, attempts=attempts, undo=undo)
            )
        if series.since is not None:
            since = from_ms(series.since).isoformat(sep=" ", timespec="seconds")
            tried = f"{failure.message}; tried {series.count + 1} times since {since}"
            failure = replace(failure, message=tried)
        execution.lifecycle.drain_and_raise(Paused(failure))

    async def _see_out(self, call: Call, error: BaseException) -> Any:
        """Wait until a call that was cut off is over, having recorded that it was.

        Returns its own outcome where it went on in a thread: that is what the step came to.
        """
        execution, attempt = self._execution, self._under_way(call)
        known = [*self._failed, timed_out_attempt(error, execution.now_ms)]
        attempts = encode_running(known, self._closed, attempt)
        await execution.recorder.write(
            self._promise(PromiseState.PENDING, attempts=attempts, undo=self._step.undo)
        )
        if call.is_in_thread:
            return await call.over()
        await self._wait_until_call_has_ended(attempt)
        return None

    async def _rest(self, error: Exception, delay: float, undo: JsonText | None) -> None:
        """Wait for the next attempt: in memory when that is soon, else so that the run can go."""
        execution, now = self._execution, self._execution.now_ms
        is_long = delay > execution.services.warm_s
        retry, before = self._step.retry, series_of(self._failed)
        series = Series(
            before.count + 1,
            now if before.since is None else before.since,
            retry.after(before.spent, error, delay),
        )
        record = failed_attempt(error, now, delay, series)
        self._failed = with_attempt(self._failed, record)
        # A wait in memory may have no row: who is looking on is told of it now.
        execution.tell({"event": "retry", "key": self._asked.key, "attempt": record})
        if is_long or self._step.has_intent or isinstance(error, ModelError):
            attempts = encode_failed(self._failed, self._closed)
            resting_row = self._promise(PromiseState.PENDING, attempts=attempts, undo=undo)
            await execution.recorder.write(resting_row, blobs=self._step.blobs)
        if is_long:
            said = hidden(str(error))
            told = (execution.fence.run_id, self._step.name, delay, series.count, said)
            log.info("run %s waits at %s for %.0f s after attempt %d: %s", *told)
            pause = partial(self._rested, resting_row, now + round(delay * 1000))
        else:
            pause = partial(execution.services.clock.sleep, delay)
        await execution.lifecycle.between_attempts(pause)

    async def _rested(self, row: Promise, due_at: int) -> None:
        """Return when it is time for the next attempt."""
        if self._step.pause_on:  # a person decides when it can go on, and may know better
            self._failed = failed_in(await rest(self._execution, row, due_at))
        else:
            await self._execution.wakeups.wait_until(due_at)

    def _total(self, usage: JsonText | None) -> JsonText | None:
        """Return what the whole step used, given what its last attempt did."""
        return usage if self._used is None or usage is None else self._with_usage(decode(usage))

    def _with_usage(self, more: Any) -> JsonText | None:
        """Return what this attempt and those before it used, as the row keeps it."""
        add = self._step.add_usage
        if add is None or more is None:
            return self._used
        return JsonText(encode(add(decode(self._used) if self._used else None, more)))

    async def _wait_until_call_has_ended(self, attempt: UnderWay) -> None:
        """Return when a call must be over that nobody here has seen return."""
        execution = self._execution
        due_at = attempt.over_at(self._limit, execution.services.lease_s)
        await execution.lifecycle.between_attempts(partial(execution.wakeups.wait_until, due_at))

    async def _reconcile(
        self, reason: str, *, is_over: bool = True, trace: str | None = None
    ) -> Promise | None:
        """Settle a call of which nobody knows whether it happened; None when it did not.

        Where it may not be over, "not done" may be true for a moment only: that does not count.
        """
        execution, step = self._execution, self._step
        if step.reconcile is None:
            return await self._reject(unknown_outcome(reason, trace), undo=step.undo)
        ask = await self._next_call(step.reconcile, wants_key=takes_key(step.reconcile))
        try:
            answer = await capture(ask.make(step.limit), execution.lifecycle.check_holds)
        finally:
            ask.leave()
        match answer:
            case NotDone(is_closed=is_closed) if is_over or is_closed:
                self._closed += is_closed
                return None
            case NotDone():
                reason += f"; {_MAY_COME}"
            case Done(value):
                return await self._resolve_reconciled(value)
            case Raised(NotBegun()):
                execution.lifecycle.check_holds()
                return await self._reconcile(reason, is_over=is_over, trace=trace)
            case Raised(error):
                failure = failure_of(error)
                reason += f"; reconcile raised {failure.type}: {failure.message}"
                trace = failure.traceback
        return await self._reject(unknown_outcome(reason, trace), undo=step.undo)

    async def _resolve_reconciled(self, value: Any) -> Promise:
        try:
            result = await result_of(value, self._step.keep)
        except NotEncodable as error:
            await self._pause_over(error)
        return await self._resolve(result)

    async def _resolve(self, result: Result) -> Promise:
        """Record the result; one that the database refuses is a failure like any other."""
        try:
            return await self._execution.recorder.write(
                self._resolved(result), blobs=self._step.blobs
            )
        except CheckpointRefused as error:
            if self._step.effect is Effect.ONCE:
                await self._pause_over(NotEncodable(f"the call was made, and {error}"))
            return await self._reject(failure_of(error), undo=self._step.undo)

    async def _reject(self, failure: Failure, undo: JsonText | None) -> Promise:
        settled = self._promise(
            PromiseState.REJECTED,
            error=encode_failure(failure),
            attempts=encode_failed(self._failed, self._closed),
            settled_at=self._execution.now_ms,
            undo=undo,
        )
        return await self._execution.recorder.write(settled, blobs=self._step.blobs)

    @property
    def _key(self) -> str:
        """The idempotency key, the same at every attempt until `reconcile` closes it."""
        return idempotency_key(self._id[0], self._closed)

    @property
    def _id(self) -> tuple[PromiseId, int]:
        """What a call of this claim for this promise is found by."""
        fence = self._execution.fence
        return promise_id(fence.run_id, self._asked.key), fence.epoch

    def _resolved(self, result: Result) -> Promise:
        return self._promise(
            PromiseState.RESOLVED,
            value=result.value,
            usage=self._total(result.usage),
            attempts=encode_failed(self._failed, self._closed),
            settled_at=self._execution.now_ms,
            undo=self._step.undo,
        )

    def _promise(
        self,
        state: PromiseState,
        *,
        value: JsonText | None = None,
        error: JsonText | None = None,
        usage: JsonText | None = None,
        attempts: JsonText | None = None,
        settled_at: int | None = None,
        undo: JsonText | None = None,
    ) -> Promise:
        """Return the step's row as it is to stand now."""
        run_id, asked, recorded = self._execution.fence.run_id, self._asked, self._recorded
        return Promise(
            id=promise_id(run_id, asked.key),
            run_id=run_id,
            key=asked.key,
            kind=Kind.STEP,
            name=self._step.name,
            state=state,
            created_at=self._created_at,
            settled_at=settled_at,
            effect=recorded.effect if recorded else self._step.effect,
            fingerprint=recorded.fingerprint if recorded else asked.fingerprint,
            # What is known by a fingerprint of its own may be given something else each time.
            input=recorded.input if recorded and not asked.own_fingerprint else asked.input,
            value=value,
            error=error,
            usage=usage or self._used,
            attempts=attempts,
            undo=undo,
        )
