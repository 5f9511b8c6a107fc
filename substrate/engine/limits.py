"""How a worker behaves: how much it takes on, for how long it is trusted, when it lets go."""

from dataclasses import dataclass
from datetime import timedelta

from substrate.values.clock import Duration
from substrate.values.errors import Misuse
from substrate.values.number import check_count


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a worker behaves. `threads` is for steps that are plain functions.

    Durations are seconds or timedeltas, and are kept as timedeltas.
    A run that only waits stays in memory for as long as `warm`, or until its place is needed.
    """

    concurrency: int = 64
    threads: int = 32
    lease: Duration = Duration(timedelta(seconds=10))  # noqa: RUF009 - a descriptor
    poll: Duration = Duration(timedelta(milliseconds=250))  # noqa: RUF009 - a descriptor
    grace: Duration = Duration(timedelta(seconds=10))  # noqa: RUF009 - a descriptor
    warm: Duration = Duration(timedelta(seconds=20))  # noqa: RUF009 - a descriptor

    def __post_init__(self) -> None:
        """Refuse limits under which nothing would ever run."""
        check_count("concurrency", self.concurrency)
        check_count("threads", self.threads)
        if self.lease < timedelta(milliseconds=300):
            raise Misuse(f"a lease of {self.lease} is too short; 0.3 s is the least, 10 s usual")
        if self.poll <= timedelta(0):
            raise Misuse(f"poll={self.poll!r} must be more than 0; 0.25 s is usual")
        for name in ("grace", "warm"):
            if getattr(self, name) < timedelta(0):
                raise Misuse(f"{name}={getattr(self, name)!r} must not be negative; 0 is none")


DEFAULT_LIMITS = Limits()
