"""The life of a run on one worker: loaded, called, and what came of it recorded.

A run leaves in one of these ways: it is done; it has failed, was cancelled or ran out of time, and
what it did was undone; it is paused; it goes on as its next generation; or it was interrupted and
goes on elsewhere or later, of which nothing is recorded. Where nobody of the kit interrupted it,
or driving it failed, that is a crash of the run's own, which the worker counts.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from substrate.engine.context.call import Continuation, encoded_result, run_function
from substrate.engine.context.context import Context
from substrate.engine.context.task_state import TaskState
from substrate.engine.failure import Raised, encode_failure, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.run.execution import Execution
from substrate.engine.run.journal import never_asked
from substrate.engine.run.services import log
from substrate.engine.run.unreadable import unreadable
from substrate.engine.run.user_code import capture
from substrate.engine.step.close import close_all, close_left
from substrate.engine.worker.unwind import RunEnd, commit_decision, unwind
from substrate.store.crashes import MAX_CRASHES
from substrate.values.codec import is_long
from substrate.values.errors import (
    Cancelled,
    CheckpointRefused,
    Failure,
    Interrupt,
    Misuse,
    NotEncodable,
    Paused,
    RunDead,
    Shutdown,
    TimedOut,
)
from substrate.values.records import (
    UNWIND_KEY,
    JsonText,
    OnDead,
    Promise,
    PromiseState,
    RunStatus,
    own_promise,
)
from substrate.values.secret import revealing

Returned = JsonText | Continuation

_OF_READING = (ValueError, KeyError, TypeError, AttributeError)
"""What is raised where a row holds what the kit never writes, by whoever reads it."""

_TORN_AWAY = (
    "its task was cancelled, and not by its worker: most likely a cancel scope that was entered in "
    "a step or in the function and never left, or code that cancels every task"
)


async def drive(execution: Execution, function: Durable[..., Any]) -> None:
    """Drive a run until it leaves this worker: again where something came while it ended."""
    execution.task = asyncio.current_task()
    revealing(execution.revealed)
    following: Execution | None = execution
    while following is not None:
        following = await _drive(following, function)


async def _drive(execution: Execution, function: Durable[..., Any]) -> Execution | None:
    """Load the journal, call the function, record what came of it; return who is to go on."""
    outcome: Returned | Raised[BaseException] | None = None
    decision: Promise | None = None
    with suppress(asyncio.CancelledError, Interrupt), execution.tracked():
        await execution.load()
        decision = execution.journal.pop(UNWIND_KEY)
        if decision is None:
            outcome = await capture(_call(execution, function))
    with suppress(Interrupt):
        if decision is not None and execution.interrupt is None:
            await _unwind(execution.unwinding_execution(), decision)
        else:
            return await _record(execution, function, outcome)
    return None


async def give_up(execution: Execution, failure: Failure) -> None:
    """Count a crash of the run's own; with the last one it is dead.

    That says more than the death of a worker, which had others: it counts in full.
    """
    if execution.crashes < MAX_CRASHES:
        await execution.release_crashed(failure)
        return
    told = f"it ended {execution.crashes} times in a row without an outcome: {failure.message}"
    details = {"crashes": execution.crashes}
    dead = Failure(RunDead.__name__, told, details, failure.traceback)
    ending = RunEnd(PromiseState.REJECTED, RunStatus.DEAD, dead)
    if _waits_for_person(execution, ending):
        await _pause(execution, dead)
    else:
        await _end(execution, ending)


async def _record(
    execution: Execution,
    function: Durable[..., Any],
    outcome: Returned | Raised[BaseException] | None,
) -> Execution | None:
    """Record what came of the run, if it is for this worker to say; return who is to go on."""
    if outcome is None or execution.is_own_cancellation(outcome):
        if execution.interrupt is None:  # nobody of the kit did that
            execution.crash = Failure("TaskCancelled", _TORN_AWAY)
        execution.shut(Shutdown("its task was cancelled"))
    match execution.interrupt, outcome:
        case Paused(failure=failure), _:
            await _pause(execution, failure)
        case Cancelled() as interrupt, _:
            await _end_early(execution, interrupt)
        case None, Raised(error):
            await _fail(execution, error)
        case None, Continuation() as following:
            await _continue_as(execution, function, following)
        case None, str(value):
            return await _finish(execution, JsonText(value))
        case interrupt, _:
            log.info("run %s leaves this worker: %s", execution.fence.run_id, interrupt)
    return None


async def _call(execution: Execution, function: Durable[..., Any]) -> Returned:
    """Call the function with what the run was started with; return its result."""
    if execution.claim.run.cancel_requested:
        execution.fail(Cancelled(f"run {execution.fence.run_id!r} was asked to end"))
    execution.check_time()
    execution.check_open()
    try:
        if is_long(execution.claim.input):
            arguments = await asyncio.to_thread(function.decode_arguments, execution.claim.input)
        else:
            arguments = function.decode_arguments(execution.claim.input)
    except Misuse as error:
        execution.fail(Paused(failure_of(error)))
    except Exception:
        began = replace(own_promise(execution.claim.run), input=execution.claim.input)
        if failure := unreadable(began):
            execution.fail(Paused(failure))
        raise
    is_live = not execution.journal.has_scope(execution.generation_scope)
    task_state = TaskState(execution, execution.claim.run.generation_at, is_live=is_live)
    ctx = Context(execution, task_state, execution.generation_scope)
    result = await run_function(ctx, function, arguments)
    if isinstance(result, Continuation):
        return result
    return await encoded_result(execution, function, result)


async def _finish(execution: Execution, value: JsonText) -> Execution | None:
    """End the run with its result; return who goes on where a signal came that it may hear.

    Who was driven again for one, and has heard nothing new, does not hear it: it ends.
    """
    if forgotten := execution.journal.forgotten(execution.open.values()):
        await _pause(execution, never_asked(forgotten))
        return None
    heard = () if execution.is_again and not execution.has_heard else execution.heard
    await close_left(execution)
    done = replace(_own(execution), state=PromiseState.RESOLVED, value=value)
    try:
        if not await execution.finish(done, heard):
            log.info("run %s is driven again: a signal came", execution.fence.run_id)
            return await execution.again()
    except CheckpointRefused as error:
        await _fail(execution, error)
    else:
        if execution.heard and not heard:
            names = ", ".join(sorted(execution.heard))
            log.warning(
                "run %s ended without having heard all signals of %s; `show` lists them",
                execution.fence.run_id,
                names,
            )
    return None


async def _continue_as(
    execution: Execution, function: Durable[..., Any], following: Continuation
) -> None:
    try:
        arguments = function.encode_arguments(following.args, following.keywords, "ctx.continue_as")
    except (Misuse, NotEncodable) as error:
        await _fail(execution, error)
    else:
        if forgotten := execution.journal.forgotten(execution.open.values()):
            await _pause(execution, never_asked(forgotten))
            return
        await close_left(execution)
        try:
            await execution.continue_as(function.with_defaults(arguments))
        except CheckpointRefused as error:
            await _fail(execution, error)


async def _fail(execution: Execution, error: BaseException) -> None:
    if isinstance(error, _OF_READING) and (failure := await execution.unreadable_row()):
        await _pause(execution, failure)
        return
    await _end_without_result(
        execution, RunEnd(PromiseState.REJECTED, RunStatus.FAILED, failure_of(error))
    )


async def _end_early(execution: Execution, interrupt: Cancelled) -> None:
    if isinstance(interrupt, TimedOut):
        failure = Failure("RunTimedOut", "it had not ended when its time was over")
        ending = RunEnd(PromiseState.EXPIRED, RunStatus.FAILED, failure)
    else:
        failure = Failure("RunCancelled", "it was asked to end")
        ending = RunEnd(PromiseState.CANCELLED, RunStatus.CANCELLED, failure)
    await _end_without_result(execution, ending)


async def _end_without_result(execution: Execution, ending: RunEnd) -> None:
    """Undo what the run did, if it can be undone, and end the run."""
    await execution.reread_open()
    if not execution.undoable:
        await close_all(execution)
        await _end(execution, ending)
        return
    heir = execution.unwinding_execution()
    await _unwind(heir, await commit_decision(heir, ending))


async def _unwind(execution: Execution, decision: Promise) -> None:
    if failure := unreadable(decision):
        await _pause(execution, failure)
        return
    ending = await unwind(execution, decision)
    if isinstance(execution.interrupt, Paused):
        await _pause(execution, execution.interrupt.failure)
    elif ending is not None and _waits_for_person(execution, ending):
        await _pause(execution, ending.failure)
    elif ending is not None:
        await _end(execution, ending)


def _waits_for_person(execution: Execution, ending: RunEnd) -> bool:
    """Whether its parent waits until a person has seen to what would be the run's death."""
    return ending.status is RunStatus.DEAD and execution.claim.run.on_dead is OnDead.WAIT


async def _end(execution: Execution, ending: RunEnd) -> None:
    error = encode_failure(ending.failure)
    ended = replace(_own(execution), state=ending.state, error=error)
    await execution.end(ended, ending.status)


async def _pause(execution: Execution, failure: Failure) -> None:
    log.warning("run %s is paused: %s", execution.fence.run_id, failure.message)
    waiting = replace(own_promise(execution.claim.run), error=encode_failure(failure))
    await execution.end(waiting, RunStatus.PAUSED)


def _own(execution: Execution) -> Promise:
    """Return the promise of the run's own outcome, as settled now."""
    return replace(own_promise(execution.claim.run), settled_at=execution.now_ms)
