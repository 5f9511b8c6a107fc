"""When to try again, and how long to wait first. Pure: randomness is an argument.

A series of attempts ends by its number, by how many of them cost something, or by how long was
waited of one's own accord, whichever comes first. A wait that the other side asked for is its own
affair: it uses up none of one's patience.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import random

from substrate.values.clock import Duration, OptionalDuration
from substrate.values.errors import Misuse, ModelError, ModelMistake, NotEncodable
from substrate.values.number import check_count, check_number, is_whole

Errors = tuple[type[Exception], ...]

_WORTH_SPREADING_S = 60.0
_WIDEST_SPREAD_S = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a series of failed attempts has used up so far, besides their number.

    `paid` are the attempts that cost something; `waited_s` is how long was waited between them,
    beyond what the other side asked for, in seconds.
    """

    paid: int = 0
    waited_s: float = 0.0


NOTHING_SPENT = Spent()


def _check_errors(name: str, given: object) -> None:
    """Refuse what is no tuple of error classes, before there is an error to compare with it."""
    if isinstance(given, type) and issubclass(given, BaseException):
        raise Misuse(f"{name}={given!r} is one class; write {name}=({given.__name__},)")
    if not isinstance(given, tuple):
        raise Misuse(f"{name}={given!r} is no tuple of error classes; write {name}=(OSError,)")
    for each in given:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise Misuse(
                f"{name}= holds {each!r}, which is no error class; write OSError or its like"
            )


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How a failing step is tried again.

    The wait before attempt n + 1 is ``initial × factor ** (n - 1)``, at most `max_delay`, then
    made shorter by up to `jitter` (0.2 = a fifth) at random. A `ModelError` says by itself whether
    it is worth another try, and how long its provider asks to wait.

    An error of `give_up_on` is never retried, one of `retry_on` is. `safe_on` are errors that
    prove the call never left: only these let a step with ``effect="once"`` be tried again.

    `patience` is how long all waits together may last, but for what the other side asked for; None
    leaves it to `max_attempts`. `max_paid` is how many attempts may fail of those that cost
    something: a model's answer that cannot be used, or that was cut off.

    Raises `Misuse` for a policy that cannot work.

    Example:
        >>> Retry(max_attempts=5, initial=0.1).max_delay
        datetime.timedelta(seconds=60)
    """

    #: How many attempts there may be; 1 is no retry.
    max_attempts: int = 3
    #: The first wait.
    initial: Duration = Duration(timedelta(milliseconds=500))  # noqa: RUF009 - a descriptor
    #: What each wait is longer by than the one before it.
    factor: float = 2.0
    #: The longest wait.
    max_delay: Duration = Duration(timedelta(seconds=60))  # noqa: RUF009 - a descriptor
    #: By which share a wait is made shorter at random, at most.
    jitter: float = 0.2
    #: Errors after which there is another attempt.
    retry_on: Errors = (Exception,)
    #: Errors after which there is none.
    give_up_on: Errors = ()
    #: Errors that prove that the call never left.
    safe_on: Errors = field(default=(ConnectionRefusedError,))
    #: How long all waits together may last; None leaves it to `max_attempts`.
    patience: OptionalDuration = OptionalDuration()  # noqa: RUF009 - a descriptor
    #: How many attempts may fail that cost something; None leaves it to `max_attempts`.
    max_paid: int | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that cannot work."""
        if not is_whole(self.max_attempts):
            raise Misuse(
                f"max_attempts={self.max_attempts!r} is no whole number; a retry must end: write "
                "how many attempts there may be"
            )
        if self.max_attempts < 1:
            raise Misuse(f"max_attempts={self.max_attempts!r} must be 1 or more; 1 is no retry")
        check_number("jitter", self.jitter, 0, 1)
        check_number("factor", self.factor, 1)
        if self.max_paid is not None:
            check_count("max_paid", self.max_paid)
        for name in ("initial", "max_delay", "patience"):
            delay = getattr(self, name)
            if delay is not None and delay < timedelta(0):
                raise Misuse(f"{name}={delay!r} must not be negative; 0 is none")
        for name in ("retry_on", "give_up_on", "safe_on"):
            _check_errors(name, getattr(self, name))

    def allows(self, error: Exception, attempt: int, spent: Spent = NOTHING_SPENT) -> bool:
        """Say whether the attempt with this number (from 1) is followed by another.

        `spent` is what the attempts before it have used up.
        """
        if attempt >= self.max_attempts or isinstance(error, (*self.give_up_on, NotEncodable)):
            return False
        if self.patience is not None and spent.waited_s >= self.patience.total_seconds():
            return False
        if self.max_paid is not None and is_paid(error) and spent.paid + 1 >= self.max_paid:
            return False
        if isinstance(error, ModelError):
            return error.retryable
        return isinstance(error, self.retry_on)

    def delay(
        self, error: Exception, attempt: int, draw: Callable[[], float] = random
    ) -> timedelta:
        """Return the wait after the attempt with this number (from 1).

        A wait that was asked for is never cut short. A long one is stretched a little at random,
        since all who were told the same would else come back at the same moment.
        """
        wanted = self._grown(attempt) * (1 - self.jitter * draw())
        asked = asked_of(error)
        if asked > _WORTH_SPREADING_S:
            asked += min(asked * 0.05, _WIDEST_SPREAD_S) * self.jitter * draw()
        return timedelta(seconds=max(wanted, asked))

    def after(self, spent: Spent, error: Exception, delay_s: float) -> Spent:
        """Return what is used up once this attempt has failed and so long was waited."""
        if self.patience is None and self.max_paid is None:
            return spent
        asked = asked_of(error)
        stretched = _WIDEST_SPREAD_S if asked > _WORTH_SPREADING_S else 0.0
        own = max(delay_s - asked - stretched, 0.0)
        return Spent(spent.paid + is_paid(error), spent.waited_s + own)

    def _grown(self, attempt: int) -> float:
        """Return the wait in seconds before jitter; powers that no float holds are the longest."""
        longest = self.max_delay.total_seconds()
        try:
            return min(self.initial.total_seconds() * self.factor ** (attempt - 1), longest)
        except OverflowError:
            return longest


def asked_of(error: Exception) -> float:
    """Return how long the other side asked to wait, in seconds; 0 where it did not."""
    return (error.retry_after or 0.0) if isinstance(error, ModelError) else 0.0


def is_paid(error: Exception) -> bool:
    """Whether a failed attempt cost something: the model worked, and it was of no use."""
    return isinstance(error, ModelMistake) or (
        isinstance(error, ModelError) and error.usage is not None
    )


NO_RETRY = Retry(max_attempts=1)
"""One attempt: what `ctx.step` does when it is not told otherwise."""
