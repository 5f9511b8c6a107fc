"""Watches the event loop from a thread: one that is blocked can drive no run.

A step that blocks the loop (a plain call in a coroutine, a long computation) stops every run of the
worker, while its heartbeat, a thread of its own, keeps the leases. That is logged, with the line
that blocks. When it lasts too long, the worker gives its leases up, so that others take its runs.
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
    closed before its worker. Nobody can close that worker any more.
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
        self._thread = threading.Thread(target=self._watch, name="ostinato-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Returns at once."""
        self._stopping.set()
        self._answered.set()  # wakes the thread

    def _watch(self) -> None:
        while not self._stopping.wait(self._tell_after / 2):
            self._answered.clear()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                log.warning("the event loop was closed before its worker; its leases are given up")
                self._give_up()
                return
            if self._need_not_wait(self._tell_after):
                continue
            self._tell()
            if not self._need_not_wait(self._give_up_after - self._tell_after):
                log.error("the event loop is blocked for good; the worker gives its leases up")
                self._give_up()
                # Wait for its answer, so that neither is done twice.
                while not self._need_not_wait(self._tell_after):
                    pass
            if not self._stopping.is_set() and not self._loop.is_closed():
                log.warning("the event loop was blocked for %.1f s", time.monotonic() - asked)

    def _need_not_wait(self, seconds: float) -> bool:
        """Wait so long for the loop's answer; True, too, where none is needed any more.

        That is so where watching has stopped, and where the loop is closed.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._loop.is_closed():
            if self._answered.wait(min(left, self._tell_after)):
                break
        return self._answered.is_set() or self._stopping.is_set() or self._loop.is_closed()

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented for this
        stack = "".join(traceback.format_stack(frame)[-8:]) if frame else ""
        log.warning(
            "the event loop has been blocked for more than %.1f s, and with it every run of this "
            "worker; make the function that blocks it a plain `def`, which gets a thread:\n%s",
            self._tell_after,
            stack,
        )
