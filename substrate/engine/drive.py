"""The life of a run on one worker: loaded, called, and what came of it recorded.

A run leaves in one of four ways: it is done, it has failed, it is paused, or it was interrupted
and goes on elsewhere or later, of which nothing is recorded.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from substrate.engine.context import Context
from substrate.engine.execution import Execution, log
from substrate.engine.failure import Raised, encode_failure, failure_of, outcome_of
from substrate.engine.function import Durable
from substrate.engine.strand import Strand
from substrate.values.errors import CheckpointRefused, Failure, Interrupt, Misuse, Paused, Shutdown
from substrate.values.records import Json, Promise, PromiseState, RunStatus, own_promise


async def drive(execution: Execution, function: Durable[..., Any]) -> None:
    """Load the journal, call the function, and record what came of it."""
    execution.task = asyncio.current_task()
    outcome: Json | Raised[BaseException] | None = None
    with suppress(asyncio.CancelledError, Interrupt), execution.enlisted():
        await execution.load()
        outcome = await outcome_of(_call(execution, function))
    if outcome is None or execution.is_torn_away(outcome):
        execution.shut(Shutdown("its task was cancelled"))
    match execution.interrupt, outcome:
        case Paused(failure=failure), _:
            await _pause(execution, failure)
        case None, Raised(error):
            await _fail(execution, error)
        case None, str(value):
            await _finish(execution, Json(value))
        case interrupt, _:
            log.info("run %s leaves this worker: %s", execution.fence.run_id, interrupt)


async def _call(execution: Execution, function: Durable[..., Any]) -> Json:
    """Call the function with what the run was started with; return its result."""
    try:
        arguments = function.decode_arguments(execution.claim.input)
    except Misuse as error:
        execution.fail(Paused(failure_of(error)))
    is_live = not execution.journal.has_scope("")
    strand = Strand(execution, execution.claim.run.created_at, is_live=is_live)
    result = await function.function(Context(execution, strand), **arguments)
    return function.encode_result(result)


async def _finish(execution: Execution, value: Json) -> None:
    own = _own(execution)
    try:
        done = replace(own, state=PromiseState.RESOLVED, value=value)
        await execution.end(done, RunStatus.DONE)
    except CheckpointRefused as error:
        await _fail(execution, error)


async def _fail(execution: Execution, error: BaseException) -> None:
    failure = encode_failure(failure_of(error))
    failed = replace(_own(execution), state=PromiseState.REJECTED, error=failure)
    await execution.end(failed, RunStatus.FAILED)


async def _pause(execution: Execution, failure: Failure) -> None:
    log.warning("run %s is paused: %s", execution.fence.run_id, failure.message)
    waiting = replace(own_promise(execution.claim.run), error=encode_failure(failure))
    await execution.end(waiting, RunStatus.PAUSED)


def _own(execution: Execution) -> Promise:
    """Return the promise of the run's own outcome, as settled now."""
    return replace(own_promise(execution.claim.run), settled_at=execution.now_ms)
