"""A durable function called inside a run: a scope of its own, one outcome under its key."""

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
"""How deep calls may stand in each other: far from where Python's own stack ends."""

_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Continuation:
    """What a run returns to go on as its next generation, with these arguments.

    Compared by identity: a task counts those that its function made and may have forgotten.
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
    """Pause the run where a function has returned and left undone what it was to do.

    That is an operation that it made and never awaited, or a continuation that it does not return:
    `unstarted`, see `TaskState`.
    """
    if not unstarted:
        return
    # A continuation apart: it is not awaited but returned, which ends the run.
    forgotten = {each: why for each, why in unstarted.items() if not isinstance(each, Continuation)}
    if forgotten:
        execution.lifecycle.drain_and_raise(Paused(_never_awaited(function, forgotten)))
    if not isinstance(result, Continuation):
        execution.lifecycle.drain_and_raise(Paused(_never_returned(function)))


def check_all_awaited(execution: Execution, function: Durable[..., Any]) -> None:
    """Pause the run where the source of a function has a call that nobody awaits, before any."""
    if problem := unawaited_below(function.function):
        told = f"{function.name}() was not called: in {problem}, and resume the run"
        failure = Failure("NeverAwaited", told, {"function": function.name, "keys": []})
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
    """Return the failure for operations that nobody began; where one was refused, it says why."""
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
    """Run the function, and record what came of it under its key."""
    with execution.lifecycle.tracked():
        outcome = await capture(_encoded(execution, function, run))
        # A loser of a race, or a branch of a run that is let go: nobody waits for an outcome.
        if execution.lifecycle.is_own_cancellation(outcome):
            raise asyncio.CancelledError
        # While the run drains, a call may have failed for that alone: nothing of it is recorded.
        await execution.lifecycle.wait_unless_draining()
    return await execution.recorder.write(
        replace(_settled(promise, outcome), settled_at=execution.now_ms)
    )


def read_call(function: Durable[..., T], promise: Promise) -> T | Raised[Exception]:
    """Return the recorded result as the function's type, or its failure.

    Raises `Paused` where the type has changed and takes the record no more.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    try:
        return function.decode_result(JsonText("null") if promise.value is None else promise.value)
    except Misuse as error:
        raise Paused(failure_of(error)) from None


async def encoded_result(execution: Execution, function: Durable[..., T], value: T) -> JsonText:
    """Return a result as JSON; where its record would not give it back, the run is paused.

    A long one is written in a thread.
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
