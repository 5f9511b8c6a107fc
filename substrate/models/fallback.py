"""Who is asked when a model cannot answer: a list in order, each for certain reasons.

A model that is short of capacity, or at its limit, is asked again first, since that mostly passes.
When it asks for a long wait, or fails twice in a row, its breaker opens (see `limits.breaker`), and
the next model is asked. One that cannot be used at all is passed over at once, and that is logged:
somebody has to mend it.

Invariants: the last model in the list is always asked, so a breaker alone fails no call. What was
paid for and not used (a refusal) is counted with what was used. Of several failures the one that
may pass soonest is raised, so that the durable retry goes on where it can.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from substrate.models.fallback_reason import FallbackReason, may_pass_soon, reason_of
from substrate.models.limits.breaker import Breakers
from substrate.models.messages import PassedOver, Reply, StopReason
from substrate.values.errors import ModelError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer."""

    #: ``provider:name``.
    model: str
    #: The reasons for which it is asked in another's place.
    on: frozenset[FallbackReason]
    #: Asks it once. Raises `ModelError`.
    ask: Callable[[], Awaitable[Reply]]
    #: Whose breaker counts for it: `Model.place`.
    place: str


async def first_answer(candidates: Sequence[Candidate], breakers: Breakers) -> Reply:
    """Ask one after the other, as far as needed; the first of them whatever its reasons are.

    The reply says who was passed over and why. A refusal is what is returned where nobody does
    better. Raises `ModelError`.
    """
    passed: list[PassedOver] = []
    errors: list[ModelError] = []
    refused: Reply | None = None
    left = list(candidates)
    while left:
        candidate = left.pop(0)
        model, why = candidate.model, breakers.open_for(candidate.place)
        if why is not None and (others := _asked_for(why, left)):
            passed.append(PassedOver(model, why, "it rests, having failed a moment ago"))
            left = others
            continue
        try:
            reply = await candidate.ask()
        except ModelError as error:
            errors.append(error)
            why = reason_of(error)
            left = _after(error, why, candidate.place, left, breakers)
            if why is not None:
                passed.append(PassedOver(model, why, str(error), error.usage))
            continue
        breakers.succeeded(candidate.place)
        others = _asked_for(FallbackReason.REFUSED, left)
        if reply.stop is not StopReason.REFUSAL or not others:
            return _counted(reply, passed)
        refused = refused or reply
        text = reply.text or "the model declined to answer"
        passed.append(PassedOver(model, FallbackReason.REFUSED, text, reply.usage))
        left = others
    if refused is not None:
        # The refusal that is returned counts itself; the others are counted beside it.
        return _counted(refused, [each for each in passed if each.usage is not refused.usage])
    raise _billed(most_hopeful(errors), errors)


def most_hopeful(errors: Sequence[ModelError]) -> ModelError:
    """Return the error that may pass soonest; the first, where none passes by itself."""
    passing = [error for error in errors if error.retryable]
    return min(passing, key=lambda error: error.retry_after or 0.0) if passing else errors[0]


def _billed(error: ModelError, errors: Sequence[ModelError]) -> ModelError:
    """Return an error that carries what all of them have used."""
    used = [each.usage for each in errors if each.usage is not None]
    error.usage = sum(used[1:], used[0]) if used else None
    return error


def _after(
    error: ModelError,
    why: FallbackReason | None,
    place: str,
    left: Sequence[Candidate],
    breakers: Breakers,
) -> list[Candidate]:
    """Return who is asked after a failure: nobody, where the same model is worth a second try."""
    if why is None:
        return []
    is_open = breakers.failed(place, why, error)
    if may_pass_soon(error) and not is_open:
        return []  # the step's own retry asks this model again
    return _asked_for(why, left)


def _asked_for(reason: FallbackReason, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [each for each in candidates if reason in each.on]


def _counted(reply: Reply, passed: Sequence[PassedOver]) -> Reply:
    """Return a reply with those that were passed over, and what they took."""
    usage = reply.usage
    for each in passed:
        usage = usage + each.usage if each.usage is not None else usage
    return replace(reply, passed_over=tuple(passed), usage=usage)
