"""Who is asked when a model cannot answer: a list in order, each for certain reasons.

A model that is short of capacity, or at its limit, is asked again first, since that mostly passes;
when it asks for a long wait, or fails twice in a row, its *breaker* opens, and it is passed over
without being asked until it has rested. Then one call tries it, and the others wait for what that
finds. One that cannot be used at all is passed over at once, and that is logged: somebody has to
mend it. The breakers are the process's: what one run has found out, the others need not.

Invariants: the last model in the list is always asked, so a breaker alone fails no call. What was
paid for and not used (a refusal) is counted with what was used. Of several failures the one that
may pass soonest is raised, so that the durable retry goes on where it can.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from substrate.models.messages import PassedOver, Reply, StopReason
from substrate.values.clock import Clock, OffsetClock
from substrate.values.errors import (
    ContextOverflow,
    ModelError,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TransportFailed,
    Unusable,
)

OPENS_AFTER = 2
"""How many failures in a row open a breaker."""

PATIENCE_S = 30.0
"""How long a model with a fallback may ask to wait before it is passed over."""

FIRST_REST_S = 30.0
LONGEST_REST_S = 600.0
QUOTA_REST_S = 300.0
"""How long a model rests that cannot be used, or whose quota is used up, nobody says until when."""

_MOMENT_S = 0.5
"""Refusals within this time, or within the wait that the first asked for, count as one."""

log = logging.getLogger("ostinato")


class FallbackReason(StrEnum):
    """Why a model is passed over.

    `OVERLOADED` is also one that cannot be reached; `QUOTA` also a limit that asks for a wait of
    more than half a minute, or that does not end; `INVALID` an answer that its provider rejects, or
    that does not fit what was asked for however often the model was told; `UNUSABLE` one whose key
    is refused, or that there is no more.
    """

    OVERLOADED = "overloaded"
    QUOTA = "quota"
    CONTEXT = "context"
    REFUSED = "refused"
    INVALID = "invalid"
    UNUSABLE = "unusable"


def reason_of(error: ModelError) -> FallbackReason | None:
    """Return why another model may do better, or None where it would not."""
    match error:
        case Overloaded() | TransportFailed():
            return FallbackReason.OVERLOADED
        case QuotaExhausted() | RateLimited():
            return FallbackReason.QUOTA
        case ContextOverflow():
            return FallbackReason.CONTEXT
        case Refused():
            return FallbackReason.REFUSED
        case ModelMistake():
            return FallbackReason.INVALID
        case Unusable():
            return FallbackReason.UNUSABLE
    return None


def may_pass_soon(error: ModelError) -> bool:
    """Whether a failure is worth a second try before another model is asked."""
    is_short = isinstance(error, Overloaded | TransportFailed | RateLimited)
    return is_short and (error.retry_after or 0.0) <= PATIENCE_S


def most_hopeful(errors: Sequence[ModelError]) -> ModelError:
    """Return the error that may pass soonest; the first, where none passes by itself."""
    passing = [error for error in errors if error.retryable]
    return min(passing, key=lambda error: error.retry_after or 0.0) if passing else errors[0]


@dataclass(slots=True)
class _Breaker:
    """What is known of one model's health."""

    failures: int = 0
    rests: int = 0
    counts_from_ms: float = 0
    opened_for: FallbackReason | None = None
    rests_until_ms: float = 0


_OPENING = (FallbackReason.OVERLOADED, FallbackReason.QUOTA, FallbackReason.UNUSABLE)
"""What is the model's state, and not the request's."""


class Breakers:
    """The breakers of all models that this process asks, by `Model.place`."""

    __slots__ = ("_breakers", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[str, _Breaker] = {}

    def open_for(self, model: str) -> FallbackReason | None:
        """Return why a model is not to be asked now, or None.

        After its rest one caller is told None, and is to report; until then the others are not.
        """
        breaker = self._breakers.get(model)
        if breaker is None or breaker.opened_for is None:
            return None
        now_ms = self._clock.now_ms()
        if now_ms < breaker.rests_until_ms:
            return breaker.opened_for
        breaker.rests_until_ms = now_ms + FIRST_REST_S * 1000  # one trial in that time
        return None

    def failed(self, model: str, reason: FallbackReason, error: ModelError) -> bool:
        """Take in a failure; return whether the model is open now."""
        if reason not in _OPENING:
            return False
        breaker, now_ms = self._breakers.setdefault(model, _Breaker()), self._clock.now_ms()
        wait_s = error.retry_after or 0.0
        if may_pass_soon(error):
            # A crowd that is refused in one moment has met one limit, not a limit without an end.
            if isinstance(error, RateLimited) and now_ms < breaker.counts_from_ms:
                return breaker.opened_for is not None
            breaker.counts_from_ms = now_ms + max(wait_s, _MOMENT_S) * 1000
            breaker.failures += 1
            if breaker.failures < OPENS_AFTER:
                return False
        if reason is FallbackReason.UNUSABLE and breaker.opened_for is not reason:
            log.warning("%s cannot be used, and others answer in its place: %s", model, error)
        grown = min(FIRST_REST_S * 2**breaker.rests, LONGEST_REST_S)
        rest_s = max(grown, wait_s) if may_pass_soon(error) else wait_s or QUOTA_REST_S
        breaker.rests = min(breaker.rests + 1, 10)
        breaker.opened_for = reason
        breaker.rests_until_ms = now_ms + rest_s * 1000
        return True

    def succeeded(self, model: str) -> None:
        """Take in that a model answered: it is healthy."""
        self._breakers.pop(model, None)

    def forget(self) -> None:
        """Forget what was found out."""
        self._breakers.clear()


BREAKERS = Breakers(OffsetClock())
"""What this process has found out."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer: after which reasons, how it is asked once, and where (`place`)."""

    model: str
    on: frozenset[FallbackReason]
    ask: Callable[[], Awaitable[Reply]]
    place: str


async def first_answer(candidates: Sequence[Candidate], breakers: Breakers = BREAKERS) -> Reply:
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
        if why is not None and (others := _who_take(why, left)):
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
        others = _who_take(FallbackReason.REFUSED, left)
        if reply.stop is not StopReason.REFUSAL or not others:
            return _counted(reply, passed)
        refused = refused or reply
        said = reply.text or "the model declined to answer"
        passed.append(PassedOver(model, FallbackReason.REFUSED, said, reply.usage))
        left = others
    if refused is not None:
        return _counted(refused, [each for each in passed if each.usage is not refused.usage])
    raise _billed(most_hopeful(errors), errors)


def _billed(error: ModelError, errors: Sequence[ModelError]) -> ModelError:
    """Return an error that carries what all of them have used."""
    used = [each.usage for each in errors if each.usage is not None]
    error.usage = sum(used[1:], used[0]) if used else None
    return error


def _after(
    error: ModelError,
    why: FallbackReason | None,
    model: str,
    left: Sequence[Candidate],
    breakers: Breakers,
) -> list[Candidate]:
    """Return who is asked after a failure: nobody, where the same model is worth a second try."""
    if why is None:
        return []
    is_open = breakers.failed(model, why, error)
    if may_pass_soon(error) and not is_open:
        return []
    return _who_take(why, left)


def _who_take(reason: FallbackReason, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [each for each in candidates if reason in each.on]


def _counted(reply: Reply, passed: Sequence[PassedOver]) -> Reply:
    """Return a reply with those that were passed over, and what they took."""
    usage = reply.usage
    for each in passed:
        usage = usage + each.usage if each.usage is not None else usage
    return replace(reply, passed_over=tuple(passed), usage=usage)
