"""A durable function called inside a run: a scope of its own, one outcome under its key."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from substrate.engine.execution import Execution
from substrate.engine.failure import Raised, encode_failure, error_of, failure_of, outcome_of
from substrate.engine.function import Durable
from substrate.values.errors import Misuse, Paused
from substrate.values.records import Json, Promise, PromiseState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a run returns to go on as its next generation, with these arguments."""

    args: tuple[Any, ...]


async def run_call(
    execution: Execution,
    function: Durable[..., Any],
    promise: Promise,
    run: Callable[[], Awaitable[Any]],
) -> Promise:
    """Run the function, and record what came of it under its key."""
    with execution.enlisted():
        outcome = await outcome_of(_encoded(function, run))
        if execution.is_torn_away(outcome):
            raise asyncio.CancelledError
        await execution.proceed()
    return await execution.write(replace(_settled(promise, outcome), settled_at=execution.now_ms))


def read_call(
    execution: Execution, function: Durable[..., T], promise: Promise
) -> T | Raised[Exception]:
    """Return the recorded result as the function's type, or its failure.

    Where the type has changed and takes the record no more, the run is paused.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    try:
        return function.decode_result(promise.value or Json("null"))
    except Misuse as error:
        execution.leave(Paused(failure_of(error)))


async def _encoded(function: Durable[..., Any], run: Callable[[], Awaitable[Any]]) -> Json:
    return function.encode_result(await run())


def _settled(promise: Promise, outcome: Json | Raised[BaseException]) -> Promise:
    if isinstance(outcome, Raised):
        failure = encode_failure(failure_of(outcome.error))
        return replace(promise, state=PromiseState.REJECTED, error=failure)
    return replace(promise, state=PromiseState.RESOLVED, value=outcome)
