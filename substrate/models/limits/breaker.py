"""Which models are not asked for a while, because they failed a moment ago.

A model whose *breaker* is open is passed over without being asked. It opens where the model cannot
be used, asks for a long wait, or fails twice in a row. After its rest one call tries the model; the
others wait for what that call finds.

Invariants: only what is the model's own state opens a breaker, never what is wrong with a request.
One answer closes it. A crowd that is refused in one moment counts as one failure.
"""

import logging
from dataclasses import dataclass

from substrate.models.fallback_reason import FallbackReason, may_pass_soon
from substrate.values.clock import Clock
from substrate.values.errors import ModelError, RateLimited

OPENS_AFTER = 2
"""How many failures in a row open a breaker."""

FIRST_REST_S = 30.0
LONGEST_REST_S = 600.0
QUOTA_REST_S = 300.0
"""How long a model rests that cannot be used, or whose quota is used up, nobody says until when."""

_SAME_MOMENT_S = 0.5
"""Refusals within this time, or within the wait that the first asked for, count as one."""

_MOST_RESTS = 10  # 30 s × 2^10 is far above the longest rest; the number need not grow further

_OPENING = (FallbackReason.OVERLOADED, FallbackReason.QUOTA, FallbackReason.UNUSABLE)
"""What is the model's state, and not the request's."""

log = logging.getLogger("ostinato")


@dataclass(slots=True)
class _Breaker:
    """The health of one model."""

    #: Failures in a row that may pass soon.
    failures: int = 0
    #: How often it has opened since the last answer: each rest is twice as long.
    rests: int = 0
    #: Rate limits before this time belong to the failure that was counted last.
    counts_from_ms: float = 0
    #: Why it is open; None while it is closed.
    opened_for: FallbackReason | None = None
    #: When one call may try the model again.
    rests_until_ms: float = 0


class Breakers:
    """The breakers of all models that are asked, by `Model.place`."""

    __slots__ = ("_breakers", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[str, _Breaker] = {}

    def open_for(self, model: str) -> FallbackReason | None:
        """Return why a model is not to be asked now, or None.

        After its rest one caller gets None, and is to report; until then the others do not.
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
        """Count a failure; return whether the model's breaker is open now."""
        if reason not in _OPENING:
            return False
        breaker, now_ms = self._breakers.setdefault(model, _Breaker()), self._clock.now_ms()
        wait_s = error.retry_after or 0.0
        if may_pass_soon(error):
            # A crowd that is refused in one moment has met one limit, not a limit without an end.
            if isinstance(error, RateLimited) and now_ms < breaker.counts_from_ms:
                return breaker.opened_for is not None
            breaker.counts_from_ms = now_ms + max(wait_s, _SAME_MOMENT_S) * 1000
            breaker.failures += 1
            if breaker.failures < OPENS_AFTER:
                return False
        if reason is FallbackReason.UNUSABLE and breaker.opened_for is not reason:
            log.warning("%s cannot be used, and others answer in its place: %s", model, error)
        grown = min(FIRST_REST_S * 2**breaker.rests, LONGEST_REST_S)
        rest_s = max(grown, wait_s) if may_pass_soon(error) else wait_s or QUOTA_REST_S
        breaker.rests = min(breaker.rests + 1, _MOST_RESTS)
        breaker.opened_for = reason
        breaker.rests_until_ms = now_ms + rest_s * 1000
        return True

    def succeeded(self, model: str) -> None:
        """Forget the failures of a model: it has answered."""
        self._breakers.pop(model, None)
