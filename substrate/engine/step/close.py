"""Closes abandoned promises: those of the losers of a race, and all open ones at a run's end.

Timers and waits for signals are cancelled, and so are steps that rest between two attempts. A
``once`` call that was under way is rejected: nobody knows whether it happened. A child is asked to
end, and a gate is withdrawn.
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
    """Close these operations, and all open promises in their scopes.

    `late` are waits that took a signal although their branch had lost: the inbox gets it back.
    """
    for promise in late:
        await execution.recorder.give_back(promise)
    # The list is complete: the branches were cancelled, so they begin nothing more.
    concerned = {promise.id for promise in open_in(execution, ids)}
    await execution.recorder.reread_open(lambda promise: promise.id in concerned)
    await _close(execution, open_in(execution, ids))


async def abandon(execution: Execution, begun: Promise, why: str) -> Promise:
    """Reject an open operation that no code can continue, and close what is open in its scope.

    If a call may be under way, the outcome is unknown, and `why` is the reason. If the step rests
    between two attempts, the failure of the last attempt is its outcome.
    """
    inside = [each for each in open_in(execution, {begun.id}) if each.id != begun.id]
    await _close(execution, inside)  # first: a crash in between must leave nothing open in it
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
    """Whether the promise is a settled wait or poll, which has taken its signals."""
    return promise.kind is Kind.SIGNAL and promise.state is PromiseState.RESOLVED


def open_in(execution: Execution, ids: Collection[PromiseId]) -> Sequence[Promise]:
    """Return the open promises among these operations and in their scopes."""
    scopes = tuple(f"{id_}/" for id_ in ids)
    return [
        promise
        for promise in execution.open.pending.values()
        if promise.id in ids or promise.id.startswith(scopes)
    ]


async def close_left(execution: Execution) -> None:
    """Close what is still open when a run ends with a result.

    Rare: an earlier version of the code began it, and the current code has not asked for it.
    """
    if any(promise.kind is not Kind.CHILD for promise in execution.open.pending.values()):
        await execution.recorder.reread_open()
        for promise in list(execution.open.pending.values()):
            if promise.kind is not Kind.CHILD:
                await execution.recorder.close(as_abandoned(execution, promise))


async def close_all(execution: Execution) -> None:
    """Close the run's open promises, except undos, steps with an undo, and children.

    The undo of a step closes that step. Children end with the run, or survive it, by themselves.
    """
    await execution.recorder.reread_open()
    while execution.open.cut_off:
        cut_off, blobs = execution.open.cut_off.pop()
        if cut_off.undo is None:
            await execution.recorder.close(as_abandoned(execution, cut_off), blobs=blobs)
    for promise in list(execution.open.pending.values()):
        is_undo = promise.key.startswith(f"{UNWIND_KEY}/")
        if promise.kind is not Kind.CHILD and promise.undo is None and not is_undo:
            await execution.recorder.close(as_abandoned(execution, promise))


def as_abandoned(execution: Execution, promise: Promise) -> Promise:
    """Return the promise, settled as abandoned: cancelled, or its outcome unknown."""
    ended = replace(promise, settled_at=execution.now_ms)
    is_under_way = next_attempt_at(promise) is None and not execution.open.never_began(promise)
    if promise.effect is Effect.ONCE and is_under_way:
        why = unknown_outcome(f"the run ended while {promise.name!r} was called")
        return replace(ended, state=PromiseState.REJECTED, error=encode_failure(why))
    return replace(ended, state=PromiseState.CANCELLED)
