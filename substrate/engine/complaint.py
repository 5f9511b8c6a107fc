"""Trouble that lasts, told once: not at each tick, nor at each of a hundred commits.

It is told when it comes, again when its words change, and else once a minute with a count. Its end
is told, too.
"""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("ostinato")

_AGAIN_AFTER = 60.0  # seconds until the same trouble is told once more


class Complaint:
    """One kind of trouble. May be used from one thread at a time; `now` counts in seconds."""

    def __init__(self, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._now = now
        self._words: str | None = None
        self._told = 0.0
        self._untold = 0

    def make(self, error: object) -> None:
        """Tell of the trouble, unless it was told of a moment ago in the same words."""
        words, times = str(error), ""
        if words == self._words:
            if self._now() - self._told < _AGAIN_AFTER:
                self._untold += 1
                return
            times = f" ({self._untold} times more since this was last told)"
        log.warning("%s: %s%s", self._what, words, times)
        self._words, self._told, self._untold = words, self._now(), 0

    def end(self) -> None:
        """Tell that the trouble is over, if any was told of."""
        if self._words is None:
            return
        log.info("%s: that is over", self._what)
        self._words, self._untold = None, 0
