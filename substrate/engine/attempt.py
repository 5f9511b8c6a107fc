"""A step's attempts: called as its policy says, recorded once.

What its effect means for a crash in the middle:

- ``pure`` and ``idempotent``: there is no row until the outcome; it runs again, an idempotent one
  with the same key.
- ``once``: a pending row, the intent, is committed before each call. An intent that a later
  execution finds without an outcome, a timeout, or an exception that does not prove that the call
  never left (`Retry.safe_on`) make the outcome unknown, and the step is never called again. While
  it rests after an error that proves just that, its row says so by its `attempts`.
"""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from substrate.engine.execution import Execution
from substrate.engine.failure import (
    Raised,
    encode_failure,
    failure_of,
    outcome_of,
    unknown_outcome,
)
from substrate.engine.journal import Asked
from substrate.engine.step import Measured, Step, idempotency_key
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, Failure, NotEncodable, Paused
from substrate.values.ids import promise_id
from substrate.values.records import Effect, Json, Kind, Promise, PromiseState

Attempt = dict[str, Any]
"""The record of an attempt that failed: type, message, when, and the wait that followed."""


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


@dataclass(frozen=True, slots=True)
class _Result:
    """What a call returned, as JSON."""

    value: Json
    usage: Json | None = None


class Trial:
    """A step on its way from its first attempt, or from a recorded intent, to its outcome."""

    __slots__ = ("_asked", "_created_at", "_execution", "_failed", "_recorded", "_step")

    def __init__(
        self, execution: Execution, step: Step, asked: Asked, recorded: Promise | None
    ) -> None:
        self._execution = execution
        self._step = step
        self._asked = asked
        self._recorded = recorded
        self._created_at = recorded.created_at if recorded else execution.now_ms
        self._failed: list[Attempt] = []

    async def run(self) -> Promise:
        """Call as the step's policy says, and return the promise as it was settled."""
        recorded = self._recorded
        if recorded is not None and recorded.effect is Effect.ONCE:
            if recorded.attempts is None:
                reason = (
                    f"the worker that called {self._step.name!r} ended before it had an outcome"
                )
                return await self._reject(unknown_outcome(reason))
            self._failed = decode(recorded.attempts)
        while True:
            if self._step.effect is Effect.ONCE:
                intent = await self._execution.write(self._promise(PromiseState.PENDING))
                if intent.is_settled:
                    return intent
            outcome = await outcome_of(self._attempt())
            if not isinstance(outcome, Raised):
                return await self._resolve(outcome)
            if settled := await self._give_up_or_rest(outcome.error):
                return settled

    async def _attempt(self) -> _Result:
        """Call the function once, within the step's timeout."""
        step, call = self._step, self._step.call
        if step.wants_key:
            key = idempotency_key(promise_id(self._execution.fence.run_id, self._asked.key))
            call = partial(call, idempotency_key=key)
        if step.timeout is None:
            result = await _invoke(self._execution, call)
        else:
            result = await self._in_time(call, step.timeout)
        if isinstance(result, Measured):
            return _Result(Json(encode(result.value)), Json(encode(result.usage)))
        return _Result(Json(encode(result)))

    async def _in_time(self, call: Callable[[], Any], seconds: float) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await _invoke(self._execution, call)
        except TimeoutError:
            if not limit.expired():
                raise
            told = f"{self._step.name!r} had not ended after {seconds:g} s"
            raise TimeoutError(told) from None

    async def _give_up_or_rest(self, error: BaseException) -> Promise | None:
        """Return the promise as rejected, or None when it is time for another attempt."""
        step, attempt = self._step, len(self._failed) + 1
        if not (isinstance(error, Exception) and _is_retried(step, error, attempt)):
            if isinstance(error, step.pause_on):
                self._execution.leave(Paused(failure_of(error)))
            return await self._reject(_failure(step, error))
        delay = step.retry.delay(error, attempt).total_seconds()
        self._failed.append(_failed_attempt(self._execution, error, delay))
        if step.effect is Effect.ONCE:
            rests = self._promise(PromiseState.PENDING, attempts=self._attempts)
            await self._execution.write(rests)
        await self._execution.rest(delay)
        return None

    async def _resolve(self, result: _Result) -> Promise:
        """Record the result; one that the database refuses is a failure like any other."""
        settled = self._promise(
            PromiseState.RESOLVED,
            value=result.value,
            usage=result.usage,
            attempts=self._attempts,
            settled_at=self._execution.now_ms,
        )
        try:
            return await self._execution.write(settled, blobs=self._step.blobs)
        except CheckpointRefused as error:
            return await self._reject(failure_of(error))

    async def _reject(self, failure: Failure) -> Promise:
        settled = self._promise(
            PromiseState.REJECTED,
            error=encode_failure(failure),
            attempts=self._attempts,
            settled_at=self._execution.now_ms,
        )
        return await self._execution.write(settled, blobs=self._step.blobs)

    @property
    def _attempts(self) -> Json | None:
        """The attempts that failed, as the journal keeps them."""
        return Json(encode(self._failed)) if self._failed else None

    def _promise(
        self,
        state: PromiseState,
        *,
        value: Json | None = None,
        error: Json | None = None,
        usage: Json | None = None,
        attempts: Json | None = None,
        settled_at: int | None = None,
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
            input=recorded.input if recorded else asked.input,
            value=value,
            error=error,
            usage=usage,
            attempts=attempts,
        )


async def _invoke(execution: Execution, call: Callable[[], Any]) -> Any:
    """Call a coroutine function on the loop, a plain function in a thread."""
    if inspect.iscoroutinefunction(call):
        return await call()
    result = await execution.means.threads.call(call)
    return await result if inspect.isawaitable(result) else result


def _is_retried(step: Step, error: Exception, attempt: int) -> bool:
    if step.effect is Effect.ONCE and not isinstance(error, step.retry.safe_on):
        return False
    return step.retry.allows(error, attempt)


def _failure(step: Step, error: BaseException) -> Failure:
    """Return what a call that is not tried again came to."""
    failure = failure_of(error)
    if step.effect is Effect.ONCE and not isinstance(error, (*step.retry.safe_on, NotEncodable)):
        return unknown_outcome(f"{step.name!r} raised {failure.type}: {failure.message}")
    return failure


def _failed_attempt(execution: Execution, error: Exception, delay: float) -> Attempt:
    failure = failure_of(error)
    record = {"type": failure.type, "message": failure.message[:1000]}
    return record | {"at": execution.now_ms, "waited_ms": round(delay * 1000)}
