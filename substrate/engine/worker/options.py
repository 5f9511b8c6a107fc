"""How a worker behaves: how much it takes on, for how long it is trusted, when it lets go."""

from dataclasses import dataclass
from datetime import timedelta

from substrate.values.clock import Duration
from substrate.values.errors import Misuse
from substrate.values.number import MOST, check_count

SHORTEST_LEASE_S = 0.3
"""Three heartbeats have to fit into a lease, each with its way to the database."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker behaves. Durations are seconds or timedeltas, and are kept as timedeltas.

    Raises `Misuse` for options under which nothing would ever run.

    Example:
        >>> WorkerOptions(concurrency=8, lease=5).lease
        datetime.timedelta(seconds=5)
    """

    #: How many runs it drives at once.
    concurrency: int = 64
    #: How many steps that are plain functions it calls at once.
    threads: int = 32
    #: How long it counts as alive after its last heartbeat; `SHORTEST_LEASE_S` at least.
    lease: Duration = Duration(timedelta(seconds=10))  # noqa: RUF009 - a descriptor
    #: How long it waits between two looks for runs that nobody told it of.
    poll: Duration = Duration(timedelta(milliseconds=250))  # noqa: RUF009 - a descriptor
    #: How long running steps may go on once it is to stop.
    shutdown_grace: Duration = Duration(timedelta(seconds=10))  # noqa: RUF009 - a descriptor
    #: How long a run that only waits stays in memory, where its place is not needed.
    idle_timeout: Duration = Duration(timedelta(seconds=20))  # noqa: RUF009 - a descriptor

    def __post_init__(self) -> None:
        """Refuse limits under which nothing would ever run."""
        check_count("concurrency", self.concurrency, MOST)
        check_count("threads", self.threads, MOST)
        if self.lease < timedelta(seconds=SHORTEST_LEASE_S):
            raise Misuse(
                f"lease={self.lease!r} is too short; {SHORTEST_LEASE_S} s is the least, 10 s usual"
            )
        if self.poll <= timedelta(0):
            raise Misuse(f"poll={self.poll!r} must be more than 0; 0.25 s is usual")
        for name in ("shutdown_grace", "idle_timeout"):
            if getattr(self, name) < timedelta(0):
                raise Misuse(f"{name}={getattr(self, name)!r} must not be negative; 0 is none")


DEFAULT_OPTIONS = WorkerOptions()
