"""When to try again, and how long to wait first. Pure: randomness is an argument."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import random

from substrate.values.errors import Misuse, ModelError, NotEncodable

Errors = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a failing step is tried again.

    The wait before attempt n + 1 is ``initial × factor ** (n - 1)``, at most `max_delay`, then
    made shorter by up to `jitter` (0.2 = a fifth) at random. A `ModelError` says by itself whether
    it is worth another try, and how long its provider asks to wait.

    An error of `give_up_on` is never retried, one of `retry_on` is. `safe_on` are errors that
    prove the call never left: only these let a step with ``effect="once"`` be tried again.
    """

    max_attempts: int = 3
    initial: timedelta = timedelta(milliseconds=500)
    factor: float = 2.0
    max_delay: timedelta = timedelta(seconds=60)
    jitter: float = 0.2
    retry_on: Errors = (Exception,)
    give_up_on: Errors = ()
    safe_on: Errors = field(default=(ConnectionRefusedError,))

    def __post_init__(self) -> None:
        """Refuse a policy that cannot work."""
        if not isinstance(self.max_attempts, int):
            raise Misuse(
                f"max_attempts={self.max_attempts!r} is no whole number; a retry must end: write "
                "how many attempts there may be"
            )
        if self.max_attempts < 1:
            raise Misuse(f"max_attempts={self.max_attempts!r} must be 1 or more; 1 is no retry")
        if not 0 <= self.jitter <= 1:
            raise Misuse(f"jitter={self.jitter!r} must lie between 0 and 1")
        if self.factor < 1 or self.initial < timedelta(0):
            raise Misuse("a retry's factor must be 1 or more and its initial delay not negative")

    def allows(self, error: Exception, attempt: int) -> bool:
        """Say whether the attempt with this number (from 1) is followed by another."""
        if attempt >= self.max_attempts or isinstance(error, (*self.give_up_on, NotEncodable)):
            return False
        if isinstance(error, ModelError):
            return error.retryable
        return isinstance(error, self.retry_on)

    def delay(
        self, error: Exception, attempt: int, draw: Callable[[], float] = random
    ) -> timedelta:
        """Return the wait after the attempt with this number (from 1)."""
        grown = self.initial.total_seconds() * self.factor ** (attempt - 1)
        wanted = min(grown, self.max_delay.total_seconds()) * (1 - self.jitter * draw())
        asked = error.retry_after if isinstance(error, ModelError) else None
        return timedelta(seconds=max(wanted, asked or 0.0))


NO_RETRY = Retry(max_attempts=1)
"""One attempt: what `ctx.step` does when it is not told otherwise."""
