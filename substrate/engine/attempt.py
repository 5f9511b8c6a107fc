"""A step's attempts: called as its policy says, recorded once.

What its effect means for a crash in the middle:

- ``pure`` and ``idempotent``: there is no row until the outcome; it runs again, an idempotent one
  with the same key.
- ``once``: a pending row, the intent, is committed before each call. An intent that a later
  execution finds without an outcome, a timeout, or an exception that does not prove that the call
  never left (`Retry.safe_on`) make the outcome unknown. The step's `reconcile` may find it out, but
  not before the call must be over; else the step is rejected, and never called again.
- ``transactional``: what the call writes and its outcome are one commit, so it happened or not.

A step with an `undo` has an intent too, so that what may have happened can be made up for. A wait
between two attempts that is longer than a run stays in memory is recorded, and so is each failed
attempt of a model call: what it used is on the bill, whatever becomes of the process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from substrate.engine.attempts import (
    Attempt,
    Series,
    began_at,
    calling,
    doubtful_attempt,
    failed_attempt,
    failed_in,
    failed_last,
    given_up,
    resting,
    rests_until,
    series_of,
    with_attempt,
)
from substrate.engine.calling import Result, invoke, result_of, watched
from substrate.engine.execution import Execution
from substrate.engine.failure import (
    Raised,
    encode_failure,
    failure_of,
    outcome_of,
    unknown_outcome,
)
from substrate.engine.journal import Asked
from substrate.engine.means import log
from substrate.engine.step import LONGEST_CALL, Done, NotDone, Step, idempotency_key, takes_key
from substrate.store.protocol import Transaction
from substrate.values.clock import from_ms
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, Failure, ModelError, NotEncodable, Paused
from substrate.values.ids import promise_id
from substrate.values.records import Effect, Json, Kind, Promise, PromiseState


async def run_step(
    execution: Execution,
    prepare: Callable[[], Step],
    asked: Asked,
    recorded: Promise | None,
) -> Promise:
    """Drive a step, prepared only now, to its outcome and return its settled promise."""
    step = prepare()
    await execution.begin_step()
    try:
        return await Trial(execution, step, asked, recorded).run()
    finally:
        execution.end_step()


class Trial:
    """A step on its way from its first attempt, or from a recorded intent, to its outcome."""

    __slots__ = (
        "_asked",
        "_began_at",
        "_created_at",
        "_execution",
        "_failed",
        "_is_cut_off",
        "_is_in_doubt",
        "_recorded",
        "_step",
        "_used",
    )

    def __init__(
        self, execution: Execution, step: Step, asked: Asked, recorded: Promise | None
    ) -> None:
        self._execution = execution
        self._step = step
        self._asked = asked
        self._recorded = recorded
        self._created_at = self._began_at = recorded.created_at if recorded else execution.now_ms
        self._failed: list[Attempt] = []
        self._is_cut_off = False
        self._is_in_doubt = False
        self._used: Json | None = None

    async def run(self) -> Promise:
        """Call as the step's policy says, and return the promise as it was settled."""
        if self._recorded is not None and (settled := await self._take_up(self._recorded)):
            return settled
        if self._step.effect is Effect.TRANSACTIONAL:
            return await self._run_transaction()
        while True:
            if self._step.has_intent:
                intent = await self._announce()
                if intent.is_settled:
                    return intent
            outcome = await outcome_of(self._attempt())
            if not isinstance(outcome, Raised):
                return await self._resolve(outcome)
            if settled := await self._give_up_or_rest(outcome.error):
                return settled

    async def _take_up(self, recorded: Promise) -> Promise | None:
        """Go on from a recorded row; None when the step is to be called."""
        execution = self._execution
        self._failed, self._used = failed_in(recorded), recorded.usage
        self._is_in_doubt = recorded.undo is not None and recorded.effect is not Effect.ONCE
        due_at = rests_until(recorded)
        if due_at is not None:
            await execution.between_attempts(partial(self._rested, due_at))
            return None
        if recorded.effect is not Effect.ONCE:
            return None
        self._began_at = began_at(recorded)
        is_gone = recorded.epoch == execution.claim.run.gone_epoch
        if not is_gone and (self._step.reconcile or self._step.undo):
            await self._until_over()
        reason = f"the worker that called {self._step.name!r} ended before it had an outcome"
        if settled := await self._find_out(reason):
            return settled
        failure = failed_last(recorded)
        if failure is not None and series_of(self._failed).count >= self._step.retry.max_attempts:
            return await self._reject(failure, undo=None)
        return None

    async def _announce(self) -> Promise:
        """Commit the intent to call."""
        self._began_at = self._execution.now_ms
        is_first = self._recorded is None and not self._failed
        attempts = None if is_first else calling(self._failed, self._began_at)
        return await self._execution.write(
            self._promise(PromiseState.PENDING, attempts=attempts, undo=self._step.undo)
        )

    async def _run_transaction(self) -> Promise:
        """Make the call and commit what it writes with its outcome, until that is settled."""
        execution, step = self._execution, self._step
        if step.undo is not None:
            execution.expect(self._promise(PromiseState.PENDING, undo=step.undo))

        async def call(tx: Transaction) -> Promise:
            with_key = {"idempotency_key": self._key} if step.wants_key else {}
            value = await execution.means.threads.call(partial(step.call, tx, **with_key))
            return self._resolved(result_of(value))

        while True:
            try:
                return await execution.transact(
                    promise_id(execution.fence.run_id, self._asked.key), call
                )
            except Exception as error:  # noqa: BLE001 - here a failure of user code becomes data
                if settled := await self._give_up_or_rest(error):
                    return settled

    async def _attempt(self) -> Result:
        """Call the function once, within the step's timeout."""
        step, call = self._step, self._step.call
        self._is_cut_off = False
        if step.wants_key:
            call = partial(call, idempotency_key=self._key)
        if step.undo is not None:
            returned = asyncio.Event()
            self._execution.returns.setdefault(self._asked.key, []).append(returned)
            call = watched(call, returned)
        if step.timeout is None:
            result = await invoke(self._execution, call)
        else:
            result = await self._in_time(call, step.timeout)
        return result_of(result)

    async def _in_time(self, call: Callable[[], Any], seconds: float) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await invoke(self._execution, call)
        except TimeoutError:
            if not limit.expired():
                raise
            told = f"{self._step.name!r} had not ended after {seconds:g} s"
            self._is_cut_off = True
            raise TimeoutError(told) from None

    async def _give_up_or_rest(self, error: BaseException) -> Promise | None:
        """Return the promise as rejected, or None when it is time for another attempt."""
        step, series = self._step, series_of(self._failed)
        attempt = series.count + 1
        is_safe = isinstance(error, step.retry.safe_on) or step.effect is Effect.TRANSACTIONAL
        if step.effect is Effect.ONCE and not (is_safe or isinstance(error, NotEncodable)):
            failure = failure_of(error)
            reason = f"{step.name!r} raised {failure.type}: {failure.message}"
            if self._is_cut_off and step.reconcile and isinstance(error, Exception):
                await self._wait_in_doubt(error)
            if settled := await self._find_out(reason):
                return settled
            is_safe = True  # it is known not to have happened
        self._is_in_doubt = self._is_in_doubt or not is_safe
        undo = step.undo if self._is_in_doubt else None
        if isinstance(error, ModelError):
            self._used = self._with_usage(error.usage and error.usage.to_json())
        if not (isinstance(error, Exception) and step.retry.allows(error, attempt, series.spent)):
            if isinstance(error, step.let_through):
                self._let_through(error)
            if isinstance(error, step.pause_on):
                await self._leave_paused(error, undo)
            return await self._reject(failure_of(error), undo=undo)
        delay = step.retry.delay(error, attempt).total_seconds()
        await self._rest(error, delay, undo)
        return None

    def _let_through(self, error: Exception) -> NoReturn:
        """Raise what the caller deals with; what earlier attempts used stays with the key."""
        begun = self._execution.open.get(self._asked.key)
        if begun is not None:
            self._execution.journal.put_back(begun)
        raise error

    async def _leave_paused(self, error: Exception, undo: Json | None) -> NoReturn:
        """Leave it to a person, who begins a new series of attempts by resuming the run."""
        execution, series, failure = self._execution, series_of(self._failed), failure_of(error)
        if self._failed or self._used is not None:
            record = given_up(error, execution.now_ms, series)
            attempts = resting(with_attempt(self._failed, record))
            await execution.write(self._promise(PromiseState.PENDING, attempts=attempts, undo=undo))
        if series.since is not None:
            since = from_ms(series.since).isoformat(sep=" ", timespec="seconds")
            tried = f"{failure.message}; tried {series.count + 1} times since {since}"
            failure = replace(failure, message=tried)
        execution.leave(Paused(failure))

    async def _wait_in_doubt(self, error: Exception) -> None:
        """Wait until a call that was cut off must be over, having recorded that it was."""
        execution = self._execution
        known = [*self._failed, doubtful_attempt(error, execution.now_ms)]
        attempts = calling(known, self._began_at)
        await execution.write(
            self._promise(PromiseState.PENDING, attempts=attempts, undo=self._step.undo)
        )
        await self._until_over()

    async def _rest(self, error: Exception, delay: float, undo: Json | None) -> None:
        """Wait for the next attempt: in memory when that is soon, else so that the run can go."""
        execution, now = self._execution, self._execution.now_ms
        is_long = delay > execution.means.warm_s
        retry, before = self._step.retry, series_of(self._failed)
        series = Series(
            before.count + 1,
            now if before.since is None else before.since,
            retry.after(before.spent, error, delay),
        )
        self._failed = with_attempt(self._failed, failed_attempt(error, now, delay, series))
        if is_long or self._step.has_intent or isinstance(error, ModelError):
            attempts = resting(self._failed)
            resting_row = self._promise(PromiseState.PENDING, attempts=attempts, undo=undo)
            await execution.write(resting_row, blobs=self._step.blobs)
        if is_long:
            told = (execution.fence.run_id, self._step.name, delay, series.count, error)
            log.info("run %s waits at %s for %.0f s after attempt %d: %s", *told)
            pause = partial(self._rested, now + round(delay * 1000))
        else:
            pause = partial(execution.means.clock.sleep, delay)
        await execution.between_attempts(pause)

    async def _rested(self, due_at: int) -> None:
        """Return when it is time for the next attempt."""
        await self._execution.wait_until(due_at)

    def _total(self, usage: Json | None) -> Json | None:
        """Return what the whole step used, given what its last attempt did."""
        return usage if self._used is None or usage is None else self._with_usage(decode(usage))

    def _with_usage(self, more: Any) -> Json | None:
        """Return what this attempt and those before it used, as the row keeps it."""
        add = self._step.add_usage
        if add is None or more is None:
            return self._used
        return Json(encode(add(decode(self._used) if self._used else None, more)))

    async def _until_over(self) -> None:
        """Return when a call must be over that nobody here has seen return."""
        execution = self._execution
        longest = (self._step.timeout or LONGEST_CALL) + execution.means.lease_s
        due_at = self._began_at + round(longest * 1000)
        await execution.between_attempts(partial(execution.wait_until, due_at))

    async def _find_out(self, reason: str) -> Promise | None:
        """Settle a call of which nobody knows whether it happened; None when it did not."""
        execution, step = self._execution, self._step
        if step.reconcile is None:
            return await self._reject(unknown_outcome(reason), undo=step.undo)
        ask = step.reconcile
        if takes_key(ask):
            ask = partial(ask, idempotency_key=self._key)
        match await outcome_of(invoke(execution, ask)):
            case NotDone():
                return None
            case Done(value):
                return await self._resolve_reconciled(value)
            case Raised(error):
                failure = failure_of(error)
                reason += f"; reconcile raised {failure.type}: {failure.message}"
        return await self._reject(unknown_outcome(reason), undo=step.undo)

    async def _resolve_reconciled(self, value: Any) -> Promise:
        try:
            return await self._resolve(result_of(value))
        except NotEncodable as error:
            return await self._reject(failure_of(error), undo=self._step.undo)

    async def _resolve(self, result: Result) -> Promise:
        """Record the result; one that the database refuses is a failure like any other."""
        try:
            return await self._execution.write(self._resolved(result), blobs=self._step.blobs)
        except CheckpointRefused as error:
            return await self._reject(failure_of(error), undo=self._step.undo)

    async def _reject(self, failure: Failure, undo: Json | None) -> Promise:
        settled = self._promise(
            PromiseState.REJECTED,
            error=encode_failure(failure),
            attempts=resting(self._failed),
            settled_at=self._execution.now_ms,
            undo=undo,
        )
        return await self._execution.write(settled, blobs=self._step.blobs)

    @property
    def _key(self) -> str:
        """The idempotency key, the same at every attempt."""
        return idempotency_key(promise_id(self._execution.fence.run_id, self._asked.key))

    def _resolved(self, result: Result) -> Promise:
        return self._promise(
            PromiseState.RESOLVED,
            value=result.value,
            usage=self._total(result.usage),
            attempts=resting(self._failed),
            settled_at=self._execution.now_ms,
            undo=self._step.undo,
        )

    def _promise(
        self,
        state: PromiseState,
        *,
        value: Json | None = None,
        error: Json | None = None,
        usage: Json | None = None,
        attempts: Json | None = None,
        settled_at: int | None = None,
        undo: Json | None = None,
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
