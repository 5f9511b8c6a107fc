"""Processes that are forked from this one, some at a time: real ones, for SIGKILL to end.

A fork takes a tenth of the time that an interpreter takes to start and to import the kit. It copies
one thread, so nothing here starts another; and what it works on is loaded by the forked process.
"""

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_LOOK_S = 0.2  # between two looks at children that may have ended without being heard of


@dataclass(slots=True)
class Processes:
    """What is forked and has not ended. Use `forking`, which ends them all."""

    _ends: dict[int, int] = field(default_factory=dict)
    _begun: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ends)

    def start(self, work: Callable[[], int]) -> int:
        """Fork a process that ends with the code that `work` returns; return its pid."""
        ours, theirs = os.pipe()  # closed by the system when the process ends, however it does
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _be(work)
        os.close(theirs)
        self._ends[pid] = ours
        self._begun[pid] = time.monotonic()
        return pid

    def wait(self, limit_s: float) -> Iterator[tuple[int, int | None]]:
        """Wait until one or more have ended; yield the pid and the exit code of each.

        A code below 0 is the signal that ended it; None: it took longer than so many seconds, and
        was killed for that.
        """
        found: list[tuple[int, int | None]] = []
        while not found and self._ends:
            select.select(list(self._ends.values()), [], [], _LOOK_S)
            for pid in list(self._ends):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    found.append((pid, os.waitstatus_to_exitcode(status)))
                    self._forget(pid)
                elif time.monotonic() - self._begun[pid] > limit_s:
                    self._kill(pid)
                    found.append((pid, None))
        yield from found

    def end(self) -> None:
        """Kill those that there are, and wait for their ends."""
        for pid in list(self._ends):
            self._kill(pid)

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._forget(pid)

    def _forget(self, pid: int) -> None:
        os.close(self._ends.pop(pid))
        self._begun.pop(pid)


@contextmanager
def forking() -> Iterator[Processes]:
    """Give processes that have all ended when the block is left."""
    processes = Processes()
    try:
        yield processes
    finally:
        processes.end()


def _be(work: Callable[[], int]) -> None:
    """Be the forked process, and end without what ends the one that it was forked from."""
    code = 70
    try:
        code = work()
    except BaseException:  # noqa: BLE001 - it ends here, and what it printed says why
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
