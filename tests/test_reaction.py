"""What follows a call that has failed depends on its effect, its error and its policy alone."""

from typing import Any

import pytest

from substrate import Effect, Retry
from substrate.engine.run.attempts import Series
from substrate.engine.step.invoke import NotBegun
from substrate.engine.step.reaction import Next, reaction_to
from substrate.engine.step.step import Step
from substrate.values.errors import Failure, NotEncodable, NotKept

AGAIN = Retry(max_attempts=2, safe_on=(ConnectionRefusedError,))
FAULT = Failure("Fault", "a mistake in code")


def step(effect: Effect, **options: Any) -> Step:
    """Return a step that is never called, with two attempts."""
    return Step(name="step", call=print, effect=effect, **{"retry": AGAIN, **options})


EFFECTS = {
    # effect, error: what follows, whether it may have happened
    (Effect.PURE, ValueError): (Next.RETRY, True),
    (Effect.PURE, ConnectionRefusedError): (Next.RETRY, False),
    (Effect.PURE, NotBegun): (Next.RETRY, False),
    (Effect.IDEMPOTENT, ValueError): (Next.RETRY, True),
    (Effect.IDEMPOTENT, ConnectionRefusedError): (Next.RETRY, False),
    (Effect.TRANSACTIONAL, ValueError): (Next.RETRY, False),
    (Effect.TRANSACTIONAL, SystemExit): (Next.REJECT, False),
    (Effect.ONCE, ValueError): (Next.FIND_OUT, True),
    (Effect.ONCE, TimeoutError): (Next.FIND_OUT, True),
    (Effect.ONCE, SystemExit): (Next.FIND_OUT, True),
    (Effect.ONCE, ConnectionRefusedError): (Next.RETRY, False),
    (Effect.ONCE, NotBegun): (Next.RETRY, False),
    (Effect.PURE, SystemExit): (Next.REJECT, True),
    (Effect.PURE, NotEncodable): (Next.REJECT, True),
}


@pytest.mark.parametrize("effect, error", EFFECTS)
def test_an_effect_and_an_error(effect: Effect, error: type[BaseException]):
    """An error that proves that the call never left is safe; of a once call all else is unknown."""
    reaction = reaction_to(step(effect), error(), Series())

    assert (reaction.next, reaction.may_have_happened) == EFFECTS[effect, error]
    assert reaction.failure is None


def test_what_did_not_happen_is_tried_again():
    """A once call that reconcile knows not to have happened is one that never left."""
    found = reaction_to(step(Effect.ONCE), ValueError(), Series(), did_not_happen=True)

    assert (found.next, found.may_have_happened) == (Next.RETRY, False)


def test_the_last_attempt():
    """When the policy allows no more: let through, else paused, else rejected."""
    options = [
        ({}, Next.REJECT),
        ({"pause_on": (ValueError,)}, Next.PAUSE),
        ({"pause_on": (OSError,)}, Next.REJECT),
        ({"raised_to_caller": (ValueError,), "pause_on": (ValueError,)}, Next.LET_THROUGH),
    ]
    for given, expected in options:
        reaction = reaction_to(step(Effect.PURE, **given), ValueError("no"), Series(1))
        assert reaction.next is expected, given
        assert (reaction.failure is not None) is (expected is Next.PAUSE)


def test_a_fault_is_never_tried_again():
    """A mistake in code pauses the run at the first attempt, and where nobody knows, at once."""
    for effect, expected in {Effect.PURE: Next.PAUSE, Effect.ONCE: Next.FIND_OUT}.items():
        faulty = step(effect, fault_in=lambda error: FAULT)
        reaction = reaction_to(faulty, ValueError(), Series())
        assert (reaction.next, reaction.failure) == (expected, FAULT)


def test_a_result_that_is_not_kept():
    """A result whose record would not give it back is a mistake; the call has happened."""
    reaction = reaction_to(
        step(Effect.PURE), NotKept("it is lost", "a", None), Series(), has_returned=True
    )

    assert (reaction.next, reaction.may_have_happened) == (Next.PAUSE, True)
    assert reaction.failure is not None
