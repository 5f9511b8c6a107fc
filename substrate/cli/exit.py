"""How the process ends: with which code, and without waiting for threads that nobody needs."""

import os
import sys
import threading
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """What an exit code says. 128 + n: signal n came, and the runs were given back."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INCOMPLETE = 3
    PAUSED = 4
    INTERRUPTED = 130


def leave(code: int) -> NoReturn:
    """End the process with this code, whatever a tool's thread may still be doing.

    Python waits for its threads at the end, and a plain function that overran its timeout cannot
    be stopped: its result is discarded already, so its thread is left behind.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        sys.stderr.flush()
    if any(_is_waited_for(thread) for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def _is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()
