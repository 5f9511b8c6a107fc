"""Runs a durable function that another one calls with `ctx.call`, and records its outcome.

- A call has a scope of its own, and one outcome, which is recorded under the call's key.
- While the run drains, and after the call was cancelled, no outcome is recorded: a failure that
  comes only from that must not be replayed.
- A function that returns while one of its operations was never awaited pauses the run: the run must
  not end as if that operation had been done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from substrate.engine.failure import Raised, encode_failure, error_of, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.function.place import in_place
from substrate.engine.function.unawaited import unawaited_below
from substrate.engine.run.execution import Execution
from substrate.engine.run.user_code import capture
from substrate.values.codec import decode, is_long
from substrate.values.errors import Failure, Misuse, NotKept, Paused
from substrate.values.records import JsonText, Promise, PromiseState

T = TypeVar("T")

MAX_CALLS = 64
"""How many calls may be nested: few enough that Python's own stack does not overflow."""

_SHOWN = 5  # keys that the message about operations never awaited names


@dataclass(frozen=True, slots=True, eq=False)
class Continuation:
    """The value that a run's function returns to go on as its next generation.

    Compared by identity: a task keeps each one that its function made until it is returned.
    """

    args: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)


def check_nothing_forgotten(
    execution: Execution,
    function: Durable[..., Any],
    result: object,
    *,
    unstarted: Mapping[object, str | None],
) -> None:
    """Pause the run if a function has returned, but left an operation or a continuation unused.

    Args:
        execution: The run.
        function: The function that has returned.
        result: What it returned.
        unstarted: Operations that it never awaited, and continuations: see `TaskState`.
    """
    if not unstarted:
        return
    # A continuation is in `unstarted` also when all is well: it is returned, never awaited.
    forgotten = {each: why for each, why in unstarted.items() if not isinstance(each, Continuation)}
    if forgotten:
        execution.lifecycle.drain_and_raise(Paused(_never_awaited(function, forgotten)))
    if not isinstance(result, Continuation):
        execution.lifecycle.drain_and_raise(Paused(_never_returned(function)))


def check_all_awaited(execution: Execution, function: Durable[..., Any]) -> None:
    """Pause the run, before the function is called, if its source has a call without `await`."""
    if problem := unawaited_below(function.function):
        message = f"{function.name}() was not called: in {problem}, and resume the run"
        failure = Failure("NeverAwaited", message, {"function": function.name, "keys": []})
        execution.lifecycle.drain_and_raise(Paused(failure))


def _never_returned(function: Durable[..., Any]) -> Failure:
    return Failure(
        "NeverReturned",
        f"{function.name}(){in_place(function)} has called ctx.continue_as() and returned "
        "something else, so the run would end and not go on; write `return ctx.continue_as(…)`, "
        "and resume the run: it goes on from its journal",
        {"function": function.name},
    )


def _never_awaited(function: Durable[..., Any], unstarted: Mapping[object, str | None]) -> Failure:
    """Return the failure for operations that were never awaited, with the reason of a refusal."""
    keys = [str(pending) for pending in unstarted]
    shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if keys[_SHOWN:] else "")
    cure = "await it, or give it to gather, map or race"
    if refusal := next(filter(None, unstarted.values()), None):
        cure = f"it was refused, and the code has swallowed that: {refusal}"
    return Failure(
        "NeverAwaited",
        f"{function.name}(){in_place(function)} has returned and never awaited {shown}, so that "
        f"was not done; {cure}, and resume the run: it goes on from its journal",
        {"function": function.name, "keys": keys},
    )


async def run_call(
    execution: Execution,
    function: Durable[..., Any],
    promise: Promise,
    run: Callable[[], Awaitable[Any]],
) -> Promise:
    """Run the function, and record its result or failure under the key of the call."""
    with execution.lifecycle.tracked():
        outcome = await capture(_encoded(execution, function, run))
        # The call lost a race, or this worker gives the run up: nothing waits for an outcome, and
        # a recorded cancellation would be replayed as if the function had failed.
        if execution.lifecycle.is_own_cancellation(outcome):
            raise asyncio.CancelledError
        # A draining run refuses operations, and the call may have failed only for that reason. Such
        # a failure must not be recorded, so this raises while the run drains.
        await execution.lifecycle.block_while_draining()
    return await execution.recorder.write(
        replace(_settled(promise, outcome), settled_at=execution.now_ms)
    )


def read_call(
    function: Durable[..., T],
    promise: Promise,
    failed: Callable[[Promise], Exception] = error_of,
) -> T | Raised[Exception]:
    """Return the recorded result as the function's type, or its failure, which `failed` makes.

    Raises `Paused` if the type has changed since, and no longer accepts the recorded value.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(failed(promise))
    try:
        return function.decode_result(JsonText("null") if promise.value is None else promise.value)
    except Misuse as error:
        raise Paused(failure_of(error)) from None


async def encoded_result(execution: Execution, function: Durable[..., T], value: T) -> JsonText:
    """Return a result as JSON; pause the run if decoding that JSON would not give an equal value.

    A long result is encoded in a thread, so that the event loop serves other runs meanwhile.
    """
    try:
        if is_long(value):
            return await asyncio.to_thread(function.encode_result, value)
        return function.encode_result(value)
    except NotKept as error:
        execution.lifecycle.drain_and_raise(Paused(_changed(function, error)))


def _changed(function: Durable[..., Any], error: NotKept) -> Failure:
    return Failure(
        NotKept.__name__,
        f"{error}; then resume the run: {function.name}() is called again from its journal, and "
        "no step that is recorded is made again",
        {
            "function": function.name,
            "lost": error.lost,
            "value": None if error.value is None else decode(error.value),
        },
    )


async def _encoded(
    execution: Execution, function: Durable[..., Any], run: Callable[[], Awaitable[Any]]
) -> JsonText:
    return await encoded_result(execution, function, await run())


def _settled(promise: Promise, outcome: JsonText | Raised[BaseException]) -> Promise:
    if isinstance(outcome, Raised):
        failure = encode_failure(failure_of(outcome.error))
        return replace(promise, state=PromiseState.REJECTED, error=failure)
    return replace(promise, state=PromiseState.RESOLVED, value=outcome)
