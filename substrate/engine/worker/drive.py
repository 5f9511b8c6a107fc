"""Driving a run: its journal is loaded, its function is called, and the outcome is recorded.

A run leaves its worker in exactly one of these ways:

- It is done.
- It has failed, was cancelled or ran out of time, and what it did was undone.
- It is paused, or goes on as its next generation.
- It was interrupted, and goes on elsewhere or later. Nothing is recorded of that. Where the kit has
  not interrupted it, or its driver failed, the worker counts a crash of the run's own.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from substrate.engine.context.base import run_function
from substrate.engine.context.call import Continuation, encoded_result
from substrate.engine.context.context import Context
from substrate.engine.context.task_state import TaskState
from substrate.engine.failure import Raised, encode_failure, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import never_asked
from substrate.engine.run.services import log
from substrate.engine.run.unreadable import unreadable
from substrate.engine.run.user_code import capture
from substrate.engine.step.close import close_all, close_left
from substrate.engine.worker.driven import DrivenRun
from substrate.engine.worker.unwind import (
    RunEnd,
    commit_decision,
    unreadable_decision,
    unwind,
)
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
    Kind,
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

_TASK_CANCELLED = (
    "its task was cancelled, and not by its worker: most likely a cancel scope that was entered in "
    "a step or in the function and never left, or code that cancels every task"
)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The function has not come to its end: the execution was shut, or its task cancelled."""


@dataclass(frozen=True, slots=True)
class Unwinding:
    """The function was not called: an earlier claim has decided to undo what the run did."""

    decision: Promise


Outcome = Returned | Raised[BaseException] | Interrupted | Unwinding
"""What came of driving a run once."""


async def drive(run: DrivenRun, function: Durable[..., Any]) -> None:
    """Drive a run until it leaves this worker: again where something came while it ended."""
    run.execution.lifecycle.task = asyncio.current_task()
    revealing(run.execution.revealed)
    has_left = False
    while not has_left:
        has_left = await _drive_once(run, function)


async def _drive_once(run: DrivenRun, function: Durable[..., Any]) -> bool:
    """Call the function and record what came of it; False where it is to be driven again."""
    outcome = await _outcome_of(run.execution, function)
    # Interrupted while that is recorded: whoever drives the run next records it.
    with suppress(Interrupt):
        return await _record(run, function, outcome)
    return True


async def _outcome_of(execution: Execution, function: Durable[..., Any]) -> Outcome:
    """Load the journal and call the function, unless the run is to be unwound."""
    with suppress(asyncio.CancelledError, Interrupt), execution.lifecycle.tracked():
        await execution.load()
        if decision := execution.journal.pop(UNWIND_KEY):
            return Unwinding(decision)
        return await capture(_call(execution, function))
    return Interrupted()


async def release_as_crashed(execution: Execution, failure: Failure) -> None:
    """Count a crash of the run's own; with the last one it is dead.

    That says more than the death of a worker, which had others: it counts in full.
    """
    if execution.recorder.crashes < MAX_CRASHES:
        await execution.recorder.release_crashed(failure)
        return
    crashes = execution.recorder.crashes
    message = f"it ended {crashes} times in a row without an outcome: {failure.message}"
    details = {"crashes": crashes}
    dead = Failure(RunDead.__name__, message, details, failure.traceback)
    ending = RunEnd(PromiseState.REJECTED, RunStatus.DEAD, dead)
    if _waits_for_person(execution, ending):
        await _pause(execution, dead)
    else:
        await _end(execution, ending)


async def _record(run: DrivenRun, function: Durable[..., Any], outcome: Outcome) -> bool:
    """Record what came of the run, if that is for this worker to say; False: drive it again."""
    execution, lifecycle = run.execution, run.execution.lifecycle
    if isinstance(outcome, Interrupted) or lifecycle.is_own_cancellation(outcome):
        if lifecycle.interrupt is None:  # the kit did not cancel it: user code did
            lifecycle.crash = Failure("TaskCancelled", _TASK_CANCELLED)
        lifecycle.shut(Shutdown("its task was cancelled"))
    # What has shut the execution comes first: what the function made of that says nothing.
    match lifecycle.interrupt, outcome:
        case Paused(failure=failure), _:
            await _pause(execution, failure)
        case Cancelled() as interrupt, _:
            await _end_early(run, interrupt)
        case None, Unwinding(decision):
            run.execution = execution.unwinding()
            await _unwind(run.execution, decision)
        case None, Raised(error):
            await _fail(run, error)
        case None, Continuation() as following:
            await _continue_as(run, function, following)
        case None, str(value):
            return await _finish(run, JsonText(value))
        case interrupt, _:
            log.info("run %s leaves this worker: %s", run.id, interrupt)
    return True


async def _call(execution: Execution, function: Durable[..., Any]) -> Returned:
    """Call the function with what the run was started with; return its result."""
    if execution.claim.run.cancel_requested:
        execution.lifecycle.shut_and_raise(
            Cancelled(f"run {execution.fence.run_id!r} was asked to end")
        )
    execution.wakeups.check_time()
    execution.lifecycle.check_open()  # the two above may have ended the run before it began
    try:
        if is_long(execution.claim.input):
            arguments = await asyncio.to_thread(function.decode_arguments, execution.claim.input)
        else:
            arguments = function.decode_arguments(execution.claim.input)
    except Misuse as error:
        execution.lifecycle.shut_and_raise(Paused(failure_of(error)))
    except Exception:
        # As a root's: what a child begins with has the same form.
        own, input_ = own_promise(execution.claim.run), execution.claim.input
        if failure := unreadable(replace(own, kind=Kind.RUN, input=input_)):
            execution.lifecycle.shut_and_raise(Paused(failure))
        raise
    await execution.look_up_secrets()  # arguments of a type of theirs have named some by now
    is_live = not execution.journal.has_scope(execution.generation_scope)
    task_state = TaskState(execution, execution.claim.run.generation_at, is_live=is_live)
    ctx = Context(execution, task_state, execution.generation_scope)
    try:
        result = await run_function(ctx, function, arguments)
    finally:
        execution.aside.leave_all()  # what nobody looks at any more is told to nobody
    if isinstance(result, Continuation):
        return result
    return await encoded_result(execution, function, result)


async def _finish(run: DrivenRun, value: JsonText) -> bool:
    """End the run with its result; False: a signal came that it may hear, so drive it again.

    A run that was driven again for one, and has heard nothing new, does not hear it: it ends.
    """
    execution = run.execution
    if forgotten := execution.journal.forgotten(execution.open.pending.values()):
        await _pause(execution, never_asked(forgotten))
        return True
    # Driven again and nothing heard: it would come to the same end for ever.
    heard = () if execution.is_again and not execution.has_heard else execution.heard
    await close_left(execution)
    done = replace(_own(execution), state=PromiseState.RESOLVED, value=value)
    try:
        if not await execution.recorder.finish(done, heard):
            log.info("run %s is driven again: a signal came", execution.fence.run_id)
            run.execution = await execution.again()
            return False
    except CheckpointRefused as error:
        await _fail(run, error)
    else:
        if execution.heard and not heard:
            names = ", ".join(sorted(execution.heard))
            log.warning(
                "run %s ended without having heard all signals of %s; `show` lists them",
                execution.fence.run_id,
                names,
            )
    return True


async def _continue_as(
    run: DrivenRun, function: Durable[..., Any], following: Continuation
) -> None:
    execution = run.execution
    try:
        arguments = function.encode_arguments(following.args, following.keywords, "ctx.continue_as")
    except (Misuse, NotEncodable) as error:
        await _fail(run, error)
    else:
        if forgotten := execution.journal.forgotten(execution.open.pending.values()):
            await _pause(execution, never_asked(forgotten))
            return
        await close_left(execution)
        try:
            await execution.recorder.continue_as(function.with_defaults(arguments))
        except CheckpointRefused as error:
            await _fail(run, error)


async def _fail(run: DrivenRun, error: BaseException) -> None:
    execution = run.execution
    if isinstance(error, _OF_READING) and (failure := await execution.unreadable_row()):
        await _pause(execution, failure)
        return
    await _end_without_result(
        run, RunEnd(PromiseState.REJECTED, RunStatus.FAILED, failure_of(error))
    )


async def _end_early(run: DrivenRun, interrupt: Cancelled) -> None:
    if isinstance(interrupt, TimedOut):
        failure = Failure("RunTimedOut", "it had not ended when its time was over")
        ending = RunEnd(PromiseState.EXPIRED, RunStatus.FAILED, failure)
    else:
        failure = Failure("RunCancelled", "it was asked to end")
        ending = RunEnd(PromiseState.CANCELLED, RunStatus.CANCELLED, failure)
    await _end_without_result(run, ending)


async def _end_without_result(run: DrivenRun, ending: RunEnd) -> None:
    """Undo what the run did, if it can be undone, and end the run."""
    execution = run.execution
    # Its branches were cancelled: what their last writes came to is not known here.
    await execution.recorder.reread_open()
    if not execution.open.undoable:
        await close_all(execution)
        await _end(execution, ending)
        return
    # Replaced first: from here on nothing but the unwinding can write, a late branch neither.
    run.execution = unwinding = execution.unwinding()
    await _unwind(unwinding, await commit_decision(unwinding, ending))


async def _unwind(execution: Execution, decision: Promise) -> None:
    if failure := unreadable_decision(decision):
        await _pause(execution, failure)
        return
    ending = await unwind(execution, decision)
    if isinstance(execution.lifecycle.interrupt, Paused):
        await _pause(execution, execution.lifecycle.interrupt.failure)
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
    await execution.recorder.end(ended, ending.status)


async def _pause(execution: Execution, failure: Failure) -> None:
    log.warning("run %s is paused: %s", execution.fence.run_id, failure.message)
    waiting = replace(own_promise(execution.claim.run), error=encode_failure(failure))
    await execution.recorder.end(waiting, RunStatus.PAUSED)


def _own(execution: Execution) -> Promise:
    """Return the promise of the run's own outcome, as settled now."""
    return replace(own_promise(execution.claim.run), settled_at=execution.now_ms)
