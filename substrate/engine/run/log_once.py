"""Lasting trouble, logged once for each cause: not at each tick, nor by each of a hundred runs.

A cause is logged when it first occurs, and then once a minute with a count, also if it comes and
goes meanwhile. The end of all trouble is logged, too.
"""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("ostinato")

_AGAIN_AFTER = 60.0  # seconds until the same cause is logged once more
_MOST_CAUSES = 1000


class TroubleLog:
    """The log of what goes wrong on one line. In any thread; `now` counts in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        # When each cause was logged last, and how often it has occurred since.
        self._logged: dict[str, tuple[float, int]] = {}
        self._is_over = True

    def make(
        self, what: str, cause: object, *, apart: str = "", trace: BaseException | None = None
    ) -> None:
        """Log what a cause leads to, unless the same cause was logged less than a minute ago.

        A cause that concerns one run alone names the run in `apart`, and is logged for each such
        run. `trace` is an unforeseen fault; its traceback is logged with it.
        """
        key, now, times = f"{apart}: {cause}", self._now(), ""
        with self._lock:
            if key in self._logged:
                last, unlogged = self._logged[key]
                if now - last < _AGAIN_AFTER:
                    self._logged[key] = last, unlogged + 1
                    return
                times = f" ({unlogged} times more since this was last told)" if unlogged else ""
            elif len(self._logged) >= _MOST_CAUSES:
                self._logged.clear()  # a cause that is different each time must not fill the memory
            self._logged[key] = now, 0
            # What concerns one run alone may last for ever; it does not put off the good news.
            self._is_over = self._is_over and bool(apart)
        log.warning("%s: %s%s", what, cause, times, exc_info=trace)

    def end(self, what: str) -> None:
        """Log that the trouble is over, if any was logged."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            log.info("%s: that is over", what)
