"""Trouble that lasts, told once for each cause: not at each tick, nor by each of a hundred runs.

A cause is told of when it comes, by whoever meets it first, and then once a minute with a count,
also when it comes and goes meanwhile. The end of all trouble is told, too.
"""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("ostinato")

_AGAIN_AFTER = 60.0  # seconds until the same cause is told of once more
_MOST_CAUSES = 1000


class TroubleLog:
    """What the parts of one worker complain of. In any thread; `now` counts in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._told: dict[
            str, tuple[float, int]
        ] = {}  # when each cause was, and how often not since
        self._is_over = True

    def make(
        self, what: str, cause: object, *, apart: str = "", trace: BaseException | None = None
    ) -> None:
        """Tell what comes of a cause, unless that was told of, whatever came of it, a moment ago.

        Where the cause is a thing's own, `apart` names that thing: it is told of by itself. `trace`
        is a fault that nobody foresaw, and is shown with where it comes from.
        """
        key, now, times = f"{apart}: {cause}", self._now(), ""
        with self._lock:
            if key in self._told:
                last, untold = self._told[key]
                if now - last < _AGAIN_AFTER:
                    self._told[key] = last, untold + 1
                    return
                times = f" ({untold} times more since this was last told)" if untold else ""
            elif len(self._told) >= _MOST_CAUSES:
                self._told.clear()
            self._told[key] = now, 0
            self._is_over = self._is_over and bool(apart)
        log.warning("%s: %s%s", what, cause, times, exc_info=trace)

    def end(self, what: str) -> None:
        """Tell that all is well again, if anything was told of."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            log.info("%s: that is over", what)
