"""Closing what nobody waits for any more: a race's losers, and all that is open at a run's end.

A timer or a signal's wait is cancelled, and so is a step that rests between two attempts. Of a
call that was under way nobody knows whether it happened. A child is asked to end.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from substrate.engine.failure import encode_failure, unknown_outcome
from substrate.engine.run.attempts import failed_in, next_attempt_at
from substrate.engine.run.execution import Execution
from substrate.values.errors import Failure
from substrate.values.ids import PromiseId
from substrate.values.records import UNWIND_KEY, Effect, Kind, Promise, PromiseState


async def close_branches(
    execution: Execution, ids: Collection[PromiseId], late: Collection[Promise]
) -> None:
    """Close what these operations of the run have begun, and everything in their scopes.

    What waits among them have taken that was too late goes back into the inbox.
    """
    for promise in late:
        await execution.recorder.give_back(promise)
    # Taken now: the branches were cancelled, and begin nothing more.
    concerned = {promise.id for promise in open_in(execution, ids)}
    await execution.recorder.reread_open(lambda promise: promise.id in concerned)
    await _close(execution, open_in(execution, ids))


async def give_up(execution: Execution, begun: Promise, why: str) -> Promise:
    """Reject an operation that was begun and that no code can go on with; close what is in it.

    Where a call may be under way, nobody knows its outcome, and `why` says what is missing. One
    that rests between two attempts came to what the last of them did.
    """
    inside = [each for each in open_in(execution, {begun.id}) if each.id != begun.id]
    await _close(execution, inside)  # first, so that a crash in between leaves nothing open
    failed = failed_in(begun)
    is_known = next_attempt_at(begun) is not None or (failed and begun.effect is not Effect.ONCE)
    failure = unknown_outcome(why)
    if is_known:
        failure = Failure(failed[-1]["type"], failed[-1]["message"])
    error, now = encode_failure(failure), execution.now_ms
    rejected = replace(begun, state=PromiseState.REJECTED, error=error, settled_at=now)
    return await execution.recorder.write(rejected)


async def _close(execution: Execution, begun: Collection[Promise]) -> None:
    for promise in begun:
        if promise.kind is Kind.CHILD:
            await execution.recorder.cancel_child(promise)
        else:
            await execution.recorder.close(as_abandoned(execution, promise))


def took_signals(promise: Promise) -> bool:
    """Whether it stands for signals that have been taken."""
    return promise.kind is Kind.SIGNAL and promise.state is PromiseState.RESOLVED


def open_in(execution: Execution, ids: Collection[PromiseId]) -> Sequence[Promise]:
    """Return what has no outcome yet of these operations, and in their scopes."""
    scopes = tuple(f"{id_}/" for id_ in ids)
    return [
        promise
        for promise in execution.open.pending.values()
        if promise.id in ids or promise.id.startswith(scopes)
    ]


async def close_left(execution: Execution) -> None:
    """Close what a run that ends with a result has begun and its code has not asked for again.

    That is what an earlier version of it began. Hardly ever is there any.
    """
    if any(promise.kind is not Kind.CHILD for promise in execution.open.pending.values()):
        await execution.recorder.reread_open()
        for promise in list(execution.open.pending.values()):
            if promise.kind is not Kind.CHILD:
                await execution.recorder.close(as_abandoned(execution, promise))


async def close_all(execution: Execution) -> None:
    """Close what the run has begun, save its undos, and what will be undone: closed by its undo.

    Its children are told of its end, or live on, by themselves.
    """
    await execution.recorder.reread_open()
    for promise in list(execution.open.pending.values()):
        is_undo = promise.key.startswith(f"{UNWIND_KEY}/")
        if promise.kind is not Kind.CHILD and promise.undo is None and not is_undo:
            await execution.recorder.close(as_abandoned(execution, promise))


def as_abandoned(execution: Execution, promise: Promise) -> Promise:
    """Return the outcome of what nobody waits for any more."""
    ended = replace(promise, settled_at=execution.now_ms)
    is_under_way = next_attempt_at(promise) is None and not execution.open.never_began(promise)
    if promise.effect is Effect.ONCE and is_under_way:
        why = unknown_outcome(f"the run ended while {promise.name!r} was called")
        return replace(ended, state=PromiseState.REJECTED, error=encode_failure(why))
    return replace(ended, state=PromiseState.CANCELLED)
