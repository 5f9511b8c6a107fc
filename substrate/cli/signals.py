"""Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, and all is given back; the second, not.

A terminal that is closed hangs up, and often twice, the shell and the system each for itself: that
asks once. Where hanging up is ignored, as under ``nohup``, it stays so. Ctrl-Z leaves the cursor to
the shell.

The handlers are plain ones, not the event loop's, so they work while a tool blocks the loop. What
stops a command is an ordinary exception in its main task: so it leaves the block of `Client.work`
as it would at any other end, and what that block does in the end is never cut off: see
`Worker.close`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_SHOW_CURSOR = b"\x1b[?25h\n"


class Stopped(Exception):
    """A signal has asked the command to stop."""

    def __init__(self, number: int) -> None:
        self.number: signal.Signals = signal.Signals(number)
        super().__init__(f"stopped by {self.number.name}")

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it."""
        return 128 + self.number


class StopRequest:
    """Whether a signal has come. Made by `stopping_on_signals`."""

    def __init__(self) -> None:
        self.last_words = ""
        """What is said when the process is ended by a second signal."""
        self._number: int | None = None
        self._came = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def wait(self) -> Stopped:
        """Return once a signal has come."""
        await self._came.wait()
        return Stopped(self._number or signal.SIGTERM)

    async def or_end(self, work: asyncio.Future[T]) -> T:
        """Return what the work gives; raise `Stopped` when a signal comes first, and let it be."""
        waiting = asyncio.create_task(self.wait())
        either: list[asyncio.Future[Any]] = [work, waiting]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise waiting.result()
        finally:
            waiting.cancel()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal; at the second, end the process."""
        if self._number is not None:
            if number == signal.SIGHUP:
                return
            _say_last(self.last_words)
            os._exit(128 + number)
        self._number = number
        self._loop.call_soon_threadsafe(self._came.set)


def _say_last(words: str) -> None:
    """Write past everything that buffers or draws: the process is about to end."""
    with suppress(OSError, AttributeError):  # nobody reads it, or there is no standard error
        if sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR)
        if words:
            os.write(2, f"{words}\n".encode(errors="backslashreplace"))


def _step_aside(number: int, frame: FrameType | None) -> None:
    """Stop for a shell, as Ctrl-Z asks, with the cursor back; return when that goes on."""
    with suppress(OSError, AttributeError):
        if sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.signal(number, _step_aside)


@contextmanager
def stopping_on_signals() -> Iterator[StopRequest]:
    """Heed SIGINT, SIGTERM and SIGHUP for as long as the block is open; Ctrl-Z, too."""
    stop = StopRequest()
    handlers = dict.fromkeys(_HEEDED, stop.handle) | {signal.SIGTSTP: _step_aside}
    heeded = [each for each in handlers if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handlers[number]) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
