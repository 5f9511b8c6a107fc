"""Settles a ``once`` call in doubt: asks the step's `reconcile` whether the call happened."""

from typing import Any

from substrate.engine.failure import Raised, failure_of
from substrate.engine.step.caller import Caller
from substrate.engine.step.invoke import result_of
from substrate.engine.step.options import Done, NotDone
from substrate.engine.step.row import StepRow
from substrate.engine.step.step import takes_key
from substrate.values.errors import NotEncodable
from substrate.values.records import Promise

_MAY_COME = (
    "reconcile says that it did not happen, but it may be about to, in a thread of a process that "
    "is not known to have ended"
)


async def reconcile(
    caller: Caller, row: StepRow, reason: str, *, is_over: bool = True, trace: str | None = None
) -> Promise | None:
    """Settle a call in doubt; return its promise, or None if the call did not happen.

    `reason` says why its outcome is unknown. With `is_over=False` the call may still be running, so
    "not done" may be true for a moment only: it counts only if `reconcile` closed the key.
    """
    ask = row.step.reconcile
    if ask is None:
        return await row.reject_unknown(reason, trace)
    match await caller.ask(ask, wants_key=takes_key(ask)):
        case NotDone(is_closed=is_closed) if is_over or is_closed:
            row.closed += is_closed
            return None
        case NotDone():
            reason += f"; {_MAY_COME}"
        case Done(value):
            return await _resolve(row, value)
        case Raised(error):
            failure = failure_of(error)
            reason += f"; reconcile raised {failure.type}: {failure.message}"
            trace = failure.traceback
    return await row.reject_unknown(reason, trace)


async def _resolve(row: StepRow, value: Any) -> Promise:
    """Record the result that `reconcile` has found."""
    try:
        result = await result_of(value, row.step.keep)
    except NotEncodable as error:
        await row.pause_over(error)
    return await row.resolve(result)
