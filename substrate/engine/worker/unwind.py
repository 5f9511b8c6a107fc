"""Unwinding: a run that ends without a result has its steps undone.

The decision is a promise of its own, committed before the first undo: from then on nothing else of
the run is called, whatever becomes of its worker. The undos run newest first, each once. What may
have happened counts as happened, and what is under way is over before it is undone. An undo that
fails for good makes the run dead; resumed, the run goes on with that one, in another try of it.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Self

from substrate.engine.context.base import run_function
from substrate.engine.context.call import encoded_result
from substrate.engine.context.context import Context
from substrate.engine.context.task_state import TaskState
from substrate.engine.failure import Raised, encode_failure, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.run.attempts import UnderWay, Waiting, closed_keys, last_record
from substrate.engine.run.execution import Execution
from substrate.engine.run.services import log
from substrate.engine.run.unreadable import misformed, unreadable
from substrate.engine.run.user_code import capture
from substrate.engine.step.close import as_abandoned, close_all
from substrate.engine.step.step import idempotency_key
from substrate.engine.step.undo import KEY, RESULT, Undo
from substrate.values.codec import decode, encode
from substrate.values.errors import Failure, Interrupt, Misuse, Paused, UnknownFunction
from substrate.values.ids import Key, promise_id
from substrate.values.records import UNWIND_KEY, JsonText, Kind, Promise, PromiseState, RunStatus


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ends that has no result."""

    #: The state of its own promise.
    state: PromiseState
    #: The status of the run.
    status: RunStatus
    #: Why there is no result.
    failure: Failure

    def to_json(self) -> dict[str, Any]:
        """Return it as the decision keeps it."""
        return {
            "state": self.state.value,
            "status": self.status.value,
            "failure": self.failure.to_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild it from the decision."""
        return cls(
            PromiseState(record["state"]),
            RunStatus(record["status"]),
            Failure.from_json(dict(record["failure"])),
        )


async def commit_decision(execution: Execution, ending: RunEnd) -> Promise:
    """Commit the decision to undo what the run did, newest first, and to end so."""
    newest_first = sorted(execution.open.undoable.values(), key=lambda done: done.seq, reverse=True)
    value = ending.to_json() | {"keys": [done.key for done in newest_first]}
    now = execution.now_ms
    return await execution.recorder.write(
        Promise(
            id=promise_id(execution.fence.run_id, UNWIND_KEY),
            run_id=execution.fence.run_id,
            key=UNWIND_KEY,
            kind=Kind.STEP,
            name=UNWIND_KEY,
            state=PromiseState.RESOLVED,
            created_at=now,
            settled_at=now,
            began=execution.recorder.known_seq,
            value=JsonText(encode(value)),
        )
    )


def unreadable_decision(decision: Promise) -> Failure | None:
    """Return the failure for a decision that the kit cannot have written; None if it is readable.

    Of one that cannot be read nobody knows what is still to be undone.
    """
    if failure := unreadable(decision):
        return failure
    try:
        keys: object = _read(decision)[1]
    except (ValueError, KeyError, TypeError, AttributeError):
        return misformed(decision, "value")
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return None if is_list else misformed(decision, "value")


def _read(decision: Promise) -> tuple[RunEnd, list[Key]]:
    """Return how the run is to end, and the keys of the steps to undo, newest first."""
    record = decode(decision.value or JsonText("{}"))
    return RunEnd.from_json(record), record["keys"]


async def unwind(execution: Execution, decision: Promise) -> RunEnd | None:
    """Undo what was decided on; return how the run ends, None when it goes on elsewhere or later.

    `execution` is one of its own, since that of the function has been shut.
    """
    ending, keys = _read(decision)
    with suppress(asyncio.CancelledError, Interrupt), execution.lifecycle.tracked():
        await close_all(execution)  # before any undo: nothing is under way that one would race with
        for key in keys:
            if failure := await _undo(execution, key, ending.failure):
                message = (
                    f"{key!r} could not be undone: {failure.type}: {failure.message}; "
                    f"{_whereby(ending.failure)}. Resumed, it goes on with that undo"
                )
                dead = Failure("RunDead", message, {"undo": key}, failure.traceback)
                return RunEnd(PromiseState.REJECTED, RunStatus.DEAD, dead)
        return ending
    return None


def _whereby(failure: Failure) -> str:
    """Say why a run is undone at all."""
    return f"the run is undone for {failure.type}: {failure.message}"


async def _undo(execution: Execution, key: Key, why: Failure) -> Failure | None:
    """Undo one step, unless that was done before; return why it cannot be.

    Where no undo can be called, the run is paused; `why` it is undone is told as well.
    """
    step, scope = execution.open.undoable.get(key), _next_try(execution, key)
    if step is None or step.undo is None:
        return None
    if scope is None:  # undone before a crash, which came before the step was closed
        await _close(execution, step)
        return None
    # What was announced and not called needs no undo, and is withdrawn: it can't begin any more.
    if not step.is_settled and execution.open.never_began(step):
        await execution.recorder.close(replace(as_abandoned(execution, step), undo=None))
        return None
    undo = Undo.from_json(decode(step.undo))
    await _wait_until_call_has_ended(execution, step, undo)
    function = execution.services.function(undo.name, undo.version)
    if function is None:
        message = (
            f"nobody here knows {undo.name!r}, version {undo.version}, which undoes {key!r}, so "
            f"that was not tried; {_whereby(why)}. Give it to work([…]), or let a function that is "
            "known there name it, and resume the run: it goes on with that undo"
        )
        execution.lifecycle.shut_and_raise(
            Paused(Failure(UnknownFunction.__name__, message, {"undo": key}))
        )
    arguments = _arguments(execution, function, undo, step, why)
    began = execution.recorder.known_seq  # before the undo's own steps move it
    outcome = await capture(_call(execution, function, arguments, scope))
    execution.lifecycle.check_open()  # what an interrupt has made of the undo is no outcome of it
    tried = _tried(execution, function, undo, scope, outcome)
    await execution.recorder.write(replace(tried, began=began))
    if isinstance(outcome, Raised):
        failure = failure_of(outcome.error)
        message = failure.traceback or failure.message
        log.error("%s#%s failed: %s", execution.fence.run_id, scope, message)
        return failure
    await _close(execution, step)
    return None


async def _close(execution: Execution, step: Promise) -> None:
    """Close a step that has been undone, if it had no outcome."""
    if not step.is_settled:
        await execution.recorder.close(as_abandoned(execution, step))


def _next_try(execution: Execution, key: Key) -> Key | None:
    """Return the scope of the next try to undo a step; None when one was successful."""
    for number in count():
        scope = Key(f"{UNWIND_KEY}/{key}/{number}")
        before = execution.journal.pop(scope)
        if before is None:
            return scope
        if before.state is PromiseState.RESOLVED:
            return None
    return None


async def _wait_until_call_has_ended(execution: Execution, step: Promise, undo: Undo) -> None:
    """Return when the step's call is over: nobody undoes what may be about to happen.

    What this claim has settled without a call of its own was over before that.
    """
    if (calls := execution.open.calls.get(step.key)) is not None:
        for call in calls:
            await call.over()
        return
    run = execution.claim.run
    # An epoch of a process that is known to have ended, or our own: no call of it is under way.
    if step.state is PromiseState.RESOLVED or step.epoch in (run.epoch, run.exited_epoch):
        return
    match last_record(step):
        case Waiting() | UnderWay(has_returned=True):
            return
        case UnderWay() as attempt:
            if step.settled_at is not None:  # cut off then, it may have gone on
                attempt = replace(attempt, began_at=step.settled_at)
            over_at = attempt.over_at(undo.timeout, execution.services.lease_s)
            await execution.wakeups.wait_until(over_at)


def _arguments(
    execution: Execution, function: Durable[..., Any], undo: Undo, step: Promise, why: Failure
) -> Mapping[str, Any]:
    """Return what an undo is called with; where it takes that no more, the run is paused."""
    arguments = undo.arguments_for(function.parameters, _extras(step))
    try:
        return function.decode_arguments(JsonText(encode(arguments)))
    except Misuse as error:
        message = (
            f"{step.key!r} cannot be undone by {undo.name!r}, version {undo.version}: {error}; "
            f"{_whereby(why)}. Give work([…]) one that takes what was recorded, and resume the run"
        )
        execution.lifecycle.shut_and_raise(
            Paused(Failure(Misuse.__name__, message, {"undo": step.key}))
        )


async def _call(
    execution: Execution, function: Durable[..., Any], arguments: Mapping[str, Any], scope: Key
) -> JsonText:
    task_state = TaskState(execution, execution.now_ms, is_live=True)
    ctx = Context(execution, task_state, scope)
    result = await run_function(ctx, function, arguments)
    return await encoded_result(execution, function, result)


def _extras(step: Promise) -> Mapping[str, Any]:
    """Return what is known of the step only after its call."""
    return {
        RESULT: decode(step.value) if step.value else None,
        KEY: idempotency_key(step.id, closed_keys(step)),
    }


def _tried(
    execution: Execution,
    function: Durable[..., Any],
    undo: Undo,
    key: Key,
    outcome: JsonText | Raised[BaseException],
) -> Promise:
    """Return the row of a try to undo: what came of it."""
    now = execution.now_ms
    tried = Promise(
        id=promise_id(execution.fence.run_id, key),
        run_id=execution.fence.run_id,
        key=key,
        kind=Kind.STEP,
        name=function.name,
        state=PromiseState.RESOLVED,
        created_at=now,
        settled_at=now,
        input=JsonText(encode(undo.arguments)),
    )
    if isinstance(outcome, Raised):
        error = encode_failure(failure_of(outcome.error))
        return replace(tried, state=PromiseState.REJECTED, error=error)
    return replace(tried, value=outcome)
