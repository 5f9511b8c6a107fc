"""Watches the event loop from a thread: one that is blocked can drive no run.

A step that blocks the loop (a plain call in a coroutine, a long computation) stops every run of the
worker while its heart beats on. That is logged, with the line that blocks; and when it lasts too
long, the worker's leases are given up, so that others take its runs over.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

log = logging.getLogger("ostinato")


class LoopWatch:
    """Looks after the running loop until it is stopped. Durations are in seconds.

    `give_up` is called from the watching thread: when the loop is blocked for good, and when it was
    closed under its worker, which then nobody can close any more.
    """

    def __init__(
        self, give_up: Callable[[], None], *, tell_after: float = 1.0, give_up_after: float = 60.0
    ) -> None:
        self._give_up = give_up
        self._tell_after = tell_after
        self._give_up_after = give_up_after
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._answered = threading.Event()
        self._stopping = threading.Event()
        threading.Thread(target=self._watch, name="ostinato-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop watching. Returns at once."""
        self._stopping.set()
        self._answered.set()

    def _watch(self) -> None:
        while not self._stopping.wait(self._tell_after / 2):
            self._answered.clear()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                log.warning("the event loop was closed under a worker; it gives its leases up")
                self._give_up()
                return
            if self._has_answered(self._tell_after):
                continue
            self._tell()
            if not self._has_answered(self._give_up_after - self._tell_after):
                log.error("the event loop is blocked for good; the worker gives its leases up")
                self._give_up()
                # It may answer after all. Until then there is nothing more to say or to give up.
                while not self._has_answered(self._tell_after):
                    pass
            log.warning("the event loop was blocked for %.1f s", time.monotonic() - asked)

    def _has_answered(self, seconds: float) -> bool:
        """Wait so long for the loop's answer, which nobody needs once it is closed or watched."""
        return self._answered.wait(seconds) or self._stopping.is_set() or self._loop.is_closed()

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented for this
        stack = "".join(traceback.format_stack(frame)[-8:]) if frame else ""
        log.warning(
            "the event loop has been blocked for %.1f s, and with it every run of this worker; "
            "make the function that blocks it a plain `def`, which gets a thread:\n%s",
            self._tell_after,
            stack,
        )
