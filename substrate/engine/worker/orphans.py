"""Runs of this worker that nobody here drives, and those that have been idle for longest.

A run that has just ended here may still be listed as ours, so an orphan is one only after a while.
"""

import asyncio
from collections.abc import Iterable, Sequence

from substrate.engine.run.execution import Execution
from substrate.values.records import OwnedRun

_ORPHAN_AGE = 0.5  # seconds for which a run of ours must have been seen without a driver
_ORPHAN_PAUSE = 30.0  # seconds until one that could not be given back is given back again


class Orphans:
    """Remembers which runs are ours and have no driver here, and since when."""

    def __init__(self) -> None:
        self._since: dict[OwnedRun, float] = {}

    def lasting(self, orphans: Sequence[OwnedRun], now: float) -> Sequence[OwnedRun]:
        """Return those that have been seen so for a while: one of them may just have ended."""
        self._since = {orphan: self._since.get(orphan, now) for orphan in orphans}
        lasting = [orphan for orphan, since in self._since.items() if now - since >= _ORPHAN_AGE]
        self._since |= dict.fromkeys(lasting, now + _ORPHAN_PAUSE)
        return lasting


def longest_idle(executions: Iterable[Execution]) -> Sequence[tuple[float, Execution]]:
    """Return the idle executions and since when they are, the longest idle first."""
    idle = [
        (execution.idle.idle_since, execution)
        for execution in executions
        if execution.idle.idle_since is not None
    ]
    return sorted(idle, key=lambda each: each[0])


async def ended(tasks: set[asyncio.Future[None]], seconds: float) -> set[asyncio.Future[None]]:
    """Wait so long for all to end; return those that have not."""
    if not tasks:
        return set()
    return (await asyncio.wait(tasks, timeout=seconds))[1]
