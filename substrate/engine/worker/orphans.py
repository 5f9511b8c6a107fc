"""How a worker tends what it drives: which runs rest longest, and which have lost their driver."""

import asyncio
from collections.abc import Iterable, Sequence

from substrate.engine.run.execution import Execution
from substrate.values.records import OwnedRun

_STRAY_AGE = 0.5  # seconds for which a run of ours must have been seen without a driver
_STRAY_PAUSE = 30.0  # seconds until one that could not be given back is given back again


class Orphans:
    """Remembers which runs are ours and have no driver here, and since when."""

    def __init__(self) -> None:
        self._since: dict[OwnedRun, float] = {}

    def lasting(self, strays: Sequence[OwnedRun], now: float) -> Sequence[OwnedRun]:
        """Return those that have been seen so for a while: one of them may just have ended."""
        self._since = {stray: self._since.get(stray, now) for stray in strays}
        lasting = [stray for stray, since in self._since.items() if now - since >= _STRAY_AGE]
        self._since |= dict.fromkeys(lasting, now + _STRAY_PAUSE)
        return lasting


def longest_idle(executions: Iterable[Execution]) -> Sequence[tuple[float, Execution]]:
    """Return the executions that only wait and since when, who has waited longest first."""
    resting = [
        (execution.idle.idle_since, execution)
        for execution in executions
        if execution.idle.idle_since is not None
    ]
    return sorted(resting, key=lambda each: each[0])


async def ended(tasks: set[asyncio.Future[None]], seconds: float) -> set[asyncio.Future[None]]:
    """Wait so long for all to end; return those that have not."""
    if not tasks:
        return set()
    return (await asyncio.wait(tasks, timeout=seconds))[1]
