"""Decides what follows a failed call of a step: a table, with no I/O and no clock.

| effect | the error | may have happened | what follows |
|---|---|---|---|
| ``once`` | is of `Retry.safe_on`, or the call never began | no | as below |
| ``once`` | any other | nobody knows | `FIND_OUT`; where it did not happen: no, and as below |
| ``transactional`` | any | no: it was rolled back | as below |
| others | is of `Retry.safe_on`, or the call never began | no | as below |
| others | any other, or one about the result | yes | as below |

"As below" means, in this order: a mistake in code pauses the run; another attempt is made if the
retry policy allows it; an error of `raised_to_caller` is raised; an error of `pause_on` pauses the
run; any other error rejects the step.
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
    """The next action after a failed call."""

    #: Wait, and make another attempt.
    RETRY = auto()
    #: Ask `reconcile` whether the call happened.
    FIND_OUT = auto()
    #: Pause the run for a person.
    PAUSE = auto()
    #: Raise the error where the step is awaited; record nothing.
    LET_THROUGH = auto()
    #: Record the failure as the step's outcome.
    REJECT = auto()


@dataclass(frozen=True, slots=True)
class Reaction:
    """The decision about one failed call."""

    #: The next action.
    next: Next
    #: Whether the call may have happened, so that it may have to be undone.
    may_have_happened: bool
    #: The failure that pauses the run: set for `PAUSE`, and for `FIND_OUT` after a mistake in code.
    failure: Failure | None = None


def reaction_to(
    step: Step,
    error: BaseException,
    before: Series,
    *,
    has_returned: bool = False,
    did_not_happen: bool = False,
) -> Reaction:
    """Decide what follows the error of a call, after the failed attempts `before` it.

    `has_returned`: the call returned, and the error is about its result, so the call happened. An
    error that the call itself raised does not prove that. `did_not_happen`: the answer of
    `reconcile`.
    """
    is_rolled_back = step.effect is Effect.TRANSACTIONAL
    never_left = isinstance(error, (*step.retry.safe_on, NotBegun))
    is_safe = is_rolled_back or never_left or did_not_happen
    fault = step.fault_in(error)
    if step.effect is Effect.ONCE and not (is_safe or has_returned):
        return Reaction(Next.FIND_OUT, may_have_happened=True, failure=fault)
    may_have_happened = not is_safe
    if has_returned and isinstance(error, NotKept):
        fault = failure_of(error)
    if (
        fault is None
        and isinstance(error, Exception)  # no policy covers what is none, such as SystemExit
        and step.retry.allows(error, before.count + 1, before.spent)
    ):
        return Reaction(Next.RETRY, may_have_happened)
    if isinstance(error, step.raised_to_caller):
        return Reaction(Next.LET_THROUGH, may_have_happened)
    if fault is not None or isinstance(error, step.pause_on):
        return Reaction(Next.PAUSE, may_have_happened, fault or failure_of(error))
    return Reaction(Next.REJECT, may_have_happened)
