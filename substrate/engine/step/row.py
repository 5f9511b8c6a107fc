"""A step's row: the state of its attempts, and all writes of that row.

A row keeps the effect, the fingerprint and the creation time of the execution that wrote it first.
The current code may ask for something else, if a person has accepted the record.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from substrate.engine.failure import encode_failure, failure_of, unknown_outcome
from substrate.engine.run.attempts import (
    Attempt,
    Series,
    UnderWay,
    closed_keys,
    encode_failed,
    encode_running,
    failed_attempt,
    failed_in,
    given_up,
    lost_result,
    series_of,
    with_attempt,
)
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import RequestedCall
from substrate.engine.run.services import STEP_RETRY, CallBegins
from substrate.engine.step.invoke import Result
from substrate.engine.step.step import Step, idempotency_key
from substrate.values.clock import from_ms
from substrate.values.codec import decode, encode
from substrate.values.errors import (
    Cancelled,
    CheckpointRefused,
    Failure,
    ModelError,
    NotEncodable,
    NotKept,
    Paused,
)
from substrate.values.ids import PromiseId, promise_id
from substrate.values.records import Effect, JsonText, Kind, Promise, PromiseState

_NOT_AGAIN = (
    "mend what it returns for later calls; this one is not made again. When the run is resumed, "
    "`reconcile` says what it came to, or that is unknown"
)


class StepRow:
    """The row of one step, which this execution alone writes."""

    __slots__ = (
        "_attempt",
        "_began",
        "_created_at",
        "_execution",
        "_recorded",
        "asked",
        "closed",
        "failed",
        "is_in_doubt",
        "step",
        "used",
    )

    def __init__(
        self, execution: Execution, step: Step, asked: RequestedCall, recorded: Promise | None
    ) -> None:
        self._execution = execution
        self.step = step
        self.asked = asked
        self._recorded = recorded
        self._began = recorded.began if recorded else execution.recorder.known_seq
        self._created_at = recorded.created_at if recorded else execution.now_ms
        self._attempt: UnderWay | None = None
        self.failed: list[Attempt] = failed_in(recorded) if recorded else []
        """The attempts that have failed."""
        self.closed: int = closed_keys(recorded) if recorded else 0
        """How many of its idempotency keys `reconcile` has closed."""
        self.used: JsonText | None = recorded.usage if recorded else None
        """The usage of the failed attempts, added up."""
        self.is_in_doubt: bool = (
            recorded is not None
            and recorded.undo is not None
            and recorded.effect is not Effect.ONCE
        )
        """Whether an attempt without an outcome may have happened."""

    @property
    def idempotency_key(self) -> str:
        """The key for the other side, the same at every attempt until `reconcile` closes it."""
        return idempotency_key(self.running[0], self.closed)

    @property
    def running(self) -> tuple[PromiseId, int]:
        """Identifies the calls of this claim for this promise in `Threads.running`."""
        fence = self._execution.fence
        return promise_id(fence.run_id, self.asked.key), fence.epoch

    def told(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return a call as it is made: told to who counts the calls, where somebody does."""
        on_call, step = self._execution.services.on_call, self.step
        if on_call is None:
            return function
        key = self.idempotency_key if step.wants_key else None
        begins = CallBegins(self.running[0], step.name, step.effect, key)

        def call() -> Any:
            on_call(begins)
            return function()

        return call

    @property
    def series(self) -> Series:
        """The attempts that failed since a person last resumed the run because of this step."""
        return series_of(self.failed)

    @property
    def undo(self) -> JsonText | None:
        """The undo for the attempts so far; None if none of them can have happened."""
        return self.step.undo if self.is_in_doubt else None

    def expect(self) -> None:
        """Register the row and its undo as open, before the transaction that may write it."""
        self._execution.open.track(self._promise(PromiseState.PENDING, undo=self.step.undo))

    async def write_intent(self, attempt: UnderWay, *records: Attempt) -> Promise:
        """Commit that an attempt is under way, after the failed ones and these records."""
        self._attempt = attempt
        attempts = encode_running([*self.failed, *records], self.closed, attempt)
        undo = self.step.undo
        return await self._write(self._promise(PromiseState.PENDING, attempts=attempts, undo=undo))

    def fail(self, error: BaseException, *, may_have_happened: bool) -> None:
        """Count a failed attempt's usage, and whether it may have happened."""
        self.is_in_doubt = self.is_in_doubt or may_have_happened
        if isinstance(error, ModelError):
            self.used = self._with_usage(error.usage and error.usage.to_json())

    def cut_off(self) -> None:
        """Note what an attempt had used in whose middle the run is cancelled, to be recorded.

        In a run that goes on, elsewhere or without this branch, the step may be called again.
        """
        if not isinstance(self._execution.lifecycle.interrupt, Cancelled):
            return
        used = self._with_usage(self.step.used_by_now())
        if used is not None:
            attempts = encode_failed(self.failed, self.closed)
            row = self._promise(PromiseState.PENDING, usage=used, attempts=attempts, undo=self.undo)
            self._execution.open.cut_off.append((row, self.step.blobs))

    async def wait(self, error: Exception, delay: float, *, is_recorded: bool) -> Promise:
        """Add the record of a failed attempt that another one follows, after `delay` seconds.

        Returns the row, which is committed if `is_recorded`.
        """
        execution, now = self._execution, self._execution.now_ms
        before = self.series
        series = Series(
            before.count + 1,
            now if before.since is None else before.since,
            self.step.retry.after(before.spent, error, delay),
        )
        record = failed_attempt(error, now, delay, series)
        self.failed = with_attempt(self.failed, record)
        # A wait in memory may write no row: only this event shows it to those who follow the run.
        execution.emit({"event": STEP_RETRY, "key": self.asked.key, "attempt": record})
        attempts = encode_failed(self.failed, self.closed)
        row = self._promise(PromiseState.PENDING, attempts=attempts, undo=self.undo)
        if is_recorded:
            await self._write(row, with_blobs=True)
        return row

    def put_back(self) -> None:
        """Put the row back into the journal, with its usage: its key may be asked for again."""
        begun = self._execution.open.pending.get(self.asked.key)
        if begun is not None:
            self._execution.journal.put_back(begun)

    async def resolve(self, result: Result) -> Promise:
        """Record the result; if the database refuses it, the step fails."""
        try:
            return await self._write(self.resolved(result), with_blobs=True)
        except CheckpointRefused as error:
            if self.step.effect is Effect.ONCE:
                await self.pause_over(NotEncodable(f"the call was made, and {error}"))
            fault = self.step.fault_in(error)
            if fault is not None or isinstance(error, self.step.pause_on):
                await self.leave_paused(error, fault or failure_of(error))
            return await self.reject(failure_of(error), undo=self.step.undo)

    async def reject(self, failure: Failure, undo: JsonText | None) -> Promise:
        """Record the failure as the step's outcome."""
        settled = self._promise(
            PromiseState.REJECTED,
            error=encode_failure(failure),
            attempts=encode_failed(self.failed, self.closed),
            settled_at=self._execution.now_ms,
            undo=undo,
        )
        return await self._write(settled, with_blobs=True)

    async def reject_unknown(self, reason: str, trace: str | None) -> Promise:
        """Reject the step: its outcome is unknown. Its undo is kept, since it may have happened."""
        return await self.reject(unknown_outcome(reason, trace), undo=self.step.undo)

    async def pause_over(self, error: NotEncodable) -> NoReturn:
        """Pause the run because the result of a ``once`` call cannot be recorded as it is.

        If there is JSON of the result, that is recorded as the outcome. Otherwise the intent stays
        without one: when the run is resumed, `reconcile` is asked, or the outcome is unknown.
        """
        failure = failure_of(error)
        # The call happened and is never made again: any form of its result is better than none.
        failure = replace(failure, message=f"{self.step.name!r}: {failure.message}")
        if not isinstance(error, NotKept) or error.value is None:
            failure = replace(failure, message=f"{failure.message}; {_NOT_AGAIN}")
            await self.leave_in_doubt(error, failure)
        await self.resolve(Result(JsonText(error.value)))
        cure = "what it gave is recorded as JSON: mend what is wrong, and resume the run"
        self._pause(replace(failure, message=f"{failure.message}; {cure}"))

    async def leave_in_doubt(self, error: BaseException, failure: Failure) -> NoReturn:
        """Pause the run because a ``once`` call has ended without an outcome that can be recorded.

        The intent stays: when the run is resumed, `reconcile` is asked, or the outcome is unknown.
        """
        if self._attempt is not None:  # else an earlier execution wrote the row: keep it
            await self.write_intent(self._attempt, lost_result(error, self._execution.now_ms))
        self._pause(failure)

    async def leave_paused(self, error: BaseException, failure: Failure) -> NoReturn:
        """Pause the run for a person; when it is resumed, a new series of attempts begins."""
        series = self.series
        # Without an earlier attempt there is nothing to keep, so no row is written.
        if self.failed or self.used is not None:
            record = given_up(error, self._execution.now_ms, series)
            attempts = encode_failed(with_attempt(self.failed, record), self.closed)
            row = self._promise(PromiseState.PENDING, attempts=attempts, undo=self.undo)
            await self._write(row)
        if series.since is not None:
            since = from_ms(series.since).isoformat(sep=" ", timespec="seconds")
            tried = f"{failure.message}; tried {series.count + 1} times since {since}"
            failure = replace(failure, message=tried)
        self._pause(failure)

    def resolved(self, result: Result) -> Promise:
        """Return the row, settled with a result."""
        usage = result.usage
        if self.used is not None and usage is not None:
            usage = self._with_usage(decode(usage))
        return self._promise(
            PromiseState.RESOLVED,
            value=result.value,
            usage=usage,
            attempts=encode_failed(self.failed, self.closed),
            settled_at=self._execution.now_ms,
            undo=self.step.undo,
        )

    def _pause(self, failure: Failure) -> NoReturn:
        self._execution.lifecycle.drain_and_raise(Paused(failure))

    def _with_usage(self, more: Any) -> JsonText | None:
        """Return the usage of the earlier attempts with this one added, as JSON."""
        add = self.step.add_usage
        if add is None or more is None:
            return self.used
        return JsonText(encode(add(decode(self.used) if self.used else None, more)))

    async def _write(self, row: Promise, *, with_blobs: bool = False) -> Promise:
        blobs = self.step.blobs if with_blobs else ()
        return await self._execution.recorder.write(row, blobs=blobs)

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
        """Return the row with this state and these columns."""
        run_id, asked, recorded = self._execution.fence.run_id, self.asked, self._recorded
        return Promise(
            id=promise_id(run_id, asked.key),
            run_id=run_id,
            key=asked.key,
            kind=Kind.STEP,
            name=self.step.name,
            state=state,
            created_at=self._created_at,
            settled_at=settled_at,
            began=self._began,
            effect=recorded.effect if recorded else self.step.effect,
            fingerprint=recorded.fingerprint if recorded else asked.fingerprint,
            # A step with a fingerprint of its own may have another input on each replay.
            input=recorded.input if recorded and not asked.own_fingerprint else asked.input,
            value=value,
            error=error,
            usage=usage or self.used,
            attempts=attempts,
            undo=undo,
        )
