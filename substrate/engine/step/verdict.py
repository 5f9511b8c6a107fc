"""What follows a step's call that has failed: a table, with no I/O and no clock.

| effect | the error | may have happened | what follows |
|---|---|---|---|
| ``once`` | is of `Retry.safe_on`, or the call never began | no | as below |
| ``once`` | any other | nobody knows | `FIND_OUT`; where it did not happen: no, and as below |
| ``transactional`` | any | no: it was rolled back | as below |
| others | is of `Retry.safe_on`, or the call never began | no | as below |
| others | any other, or one about the result | yes | as below |

Below: a mistake in code pauses the run, or else the retry policy allows another attempt. An error
that neither is nor has one is let through, pauses the run, or rejects the step, in this order.
"""

from dataclasses import dataclass
from enum import Enum, auto

from substrate.engine.failure import failure_of
from substrate.engine.run.attempts import Series
from substrate.engine.step.invoke import NotBegun
from substrate.engine.step.step import Step
from substrate.values.errors import Failure, NotKept
from substrate.values.records import Effect


class Next(Enum):
    """What is to be done about a call that has failed."""

    #: Wait, and make another attempt.
    RETRY = auto()
    #: Ask `reconcile` whether the call has happened: nobody else knows.
    FIND_OUT = auto()
    #: Leave it to a person.
    PAUSE = auto()
    #: Raise the error where the step is awaited, and record nothing.
    LET_THROUGH = auto()
    #: Record the failure as the step's outcome.
    REJECT = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed call means for its step."""

    #: What is to be done.
    next: Next
    #: Whether the call may have happened, so that its undo has something to make up for.
    may_have_happened: bool
    #: What the run is paused with: always for `PAUSE`; for `FIND_OUT` where code is at fault.
    failure: Failure | None = None


def judge(
    step: Step,
    error: BaseException,
    before: Series,
    *,
    has_returned: bool = False,
    did_not_happen: bool = False,
) -> Verdict:
    """Return what follows from the error of a call, after the attempts `before` it.

    `has_returned` says that the call came to its end, and the error is about its result: so it has
    happened. What the call raised itself tells nothing of that, whatever it is. `did_not_happen` is
    what `reconcile` has found out.
    """
    is_rolled_back = step.effect is Effect.TRANSACTIONAL
    never_left = isinstance(error, (*step.retry.safe_on, NotBegun))
    is_safe = is_rolled_back or never_left or did_not_happen
    fault = step.fault_in(error) if isinstance(error, Exception) else None
    if step.effect is Effect.ONCE and not (is_safe or has_returned):
        return Verdict(Next.FIND_OUT, may_have_happened=True, failure=fault)
    may_have_happened = not is_safe
    if not isinstance(error, Exception):  # SystemExit and the like: no policy speaks of these
        return Verdict(Next.REJECT, may_have_happened)
    if has_returned and isinstance(error, NotKept):
        fault = failure_of(error)
    if fault is None and step.retry.allows(error, before.count + 1, before.spent):
        return Verdict(Next.RETRY, may_have_happened)
    if isinstance(error, step.let_through):
        return Verdict(Next.LET_THROUGH, may_have_happened)
    if fault is not None or isinstance(error, step.pause_on):
        return Verdict(Next.PAUSE, may_have_happened, fault or failure_of(error))
    return Verdict(Next.REJECT, may_have_happened)
