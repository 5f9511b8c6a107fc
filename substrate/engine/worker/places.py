"""The places of a worker: how many runs it may drive at once, whatever line they lie on.

Its lines share the places and the suspects, since they share the process: what kills it takes the
runs of all lines along.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Protocol

from substrate.engine.run.execution import Execution
from substrate.engine.worker.suspects import Suspects
from substrate.engine.worker.ticks import Ticks


class Occupant(Protocol):
    """Whose runs take places: a line of the worker."""

    @property
    def executions(self) -> Sequence[Execution]:
        """What is driven."""

    @property
    def runs(self) -> Sized:
        """The same, to be counted."""

    @property
    def starts(self) -> Mapping[Any, Any]:
        """The runs that are being created here; each may need a place at once."""

    @property
    def ticks(self) -> Ticks:
        """Where it is told that there may be room for a run that is ready."""


class Places:
    """How many runs may be taken on, and which idle ones make room. One for all lines."""

    def __init__(self, concurrency: int, now: Callable[[], float]) -> None:
        self.is_closed: bool = False
        """Whether no more is taken on: the worker is stopping."""
        self.suspects: Suspects = Suspects(now)
        """Which suspect has its turn."""
        self.lines: Sequence[Occupant] = ()
        """Those that share the places."""
        self._concurrency = concurrency
        self._wanted: dict[Occupant, int] = {}

    @property
    def executions(self) -> list[Execution]:
        """What is driven, of all lines. A list of its own: runs may leave meanwhile."""
        return [execution for line in self.lines for execution in line.executions]

    @property
    def free(self) -> int:
        """How many more runs may be taken on."""
        if self.is_closed or self.suspects.keeps_others_out(self.executions):
            return 0
        # A start counts before it is known whether it was claimed: else one more might be taken on.
        taken = sum(len(line.runs) + len(line.starts) for line in self.lines)
        return self._concurrency - taken

    def claim_soon(self) -> None:
        """Say to every line that there may be room."""
        for line in self.lines:
            line.ticks.claim_soon()

    def longest_idle(self) -> Sequence[tuple[float, Execution]]:
        """Return the idle executions of all lines and since when they are, the longest first."""
        idle = [
            (execution.idle.idle_since, execution)
            for execution in self.executions
            if execution.idle.idle_since is not None
        ]
        return sorted(idle, key=lambda each: each[0])

    def want(self, line: Occupant, count: int) -> int:
        """Note how many ready runs of a line wait for a place; return how many do in all.

        A line lets go of its own runs only, so that none waits for another's database. Where those
        that have been idle for longest are of another line, that one finds the wish at its tick.
        """
        self._wanted[line] = count
        return self.wanted

    @property
    def wanted(self) -> int:
        """How many runs were ready at the last looks, and had no place."""
        return sum(self._wanted.values())
