"""Runs of this worker that nobody here drives: found by looking twice.

A run that has just ended here may still be listed as ours, so one look proves nothing.
"""

from collections.abc import Sequence

from substrate.values.records import OwnedRun

_AGE_S = 0.5  # for so long a run of ours must have been seen without a driver
_PAUSE_S = 30.0  # until one that could not be given back is given back again


class UndrivenRuns:
    """Remembers which runs are ours and have no driver here, and since when."""

    def __init__(self) -> None:
        self._due: dict[OwnedRun, float] = {}

    def due(self, undriven: Sequence[OwnedRun], now: float) -> Sequence[OwnedRun]:
        """Return those to be given back: seen without a driver for a while, or once more."""
        self._due = {each: self._due.get(each, now + _AGE_S) for each in undriven}
        due = [each for each, at in self._due.items() if now >= at]
        self._due |= dict.fromkeys(due, now + _PAUSE_S)
        return due
