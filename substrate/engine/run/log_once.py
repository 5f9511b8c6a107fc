"""A log of lasting trouble: one line for each cause, not one at each tick or from each run.

A cause is logged when it first occurs, and then at most once a minute with a count, even if it
stops and starts again meanwhile. One more line says when all trouble is over.
"""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("ostinato")

_AGAIN_AFTER = 60.0  # seconds until the same cause is logged once more
_MOST_CAUSES = 1000


class TroubleLog:
    """The trouble of one line of a worker. Safe in any thread.

    `now` is a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        # When each cause was logged last, and how often it has occurred since.
        self._logged: dict[str, tuple[float, int]] = {}
        self._is_resolved = True

    def report(
        self, message: str, cause: object, *, apart: str = "", trace: BaseException | None = None
    ) -> None:
        """Log a message with its cause, unless the same cause was logged less than a minute ago.

        If the cause concerns one run alone, `apart` names that run, and the cause counts separately
        for each run. `trace` is an unforeseen exception, whose traceback is logged as well.
        """
        key, now, times = f"{apart}: {cause}", self._now(), ""
        with self._lock:
            if key in self._logged:
                last, unlogged = self._logged[key]
                if now - last < _AGAIN_AFTER:
                    self._logged[key] = last, unlogged + 1
                    return
                times = f" ({unlogged} times more since the last report)" if unlogged else ""
            elif len(self._logged) >= _MOST_CAUSES:
                self._logged.clear()  # a cause that is different each time must not fill the memory
            self._logged[key] = now, 0
            # One run's own trouble may last for ever: it must not delay the line that says "over".
            self._is_resolved = self._is_resolved and bool(apart)
        log.warning("%s: %s%s", message, cause, times, exc_info=trace)

    def resolved(self, message: str) -> None:
        """Log that the trouble is over, if any was reported since the last such line."""
        with self._lock:
            was_resolved, self._is_resolved = self._is_resolved, True
        if not was_resolved:
            log.info("%s: that is over", message)
