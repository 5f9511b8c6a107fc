"""How the process ends: with which code, and without waiting for threads that nobody needs."""

import os
import sys
import threading
from contextlib import suppress
from enum import IntEnum
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import NoReturn


class Exit(IntEnum):
    """What an exit code says. 128 + n: signal n came, and the runs were given back."""

    #: There is an answer, and it is whole.
    DONE = 0
    #: The run failed, was cancelled, or is dead; or the command did: there is no such run, or it is
    #: in no state for that; or something is not there, such as a key, a package, the database.
    FAILED = 1
    #: What was typed or written is wrong, in whatever state a run is: the command line, hooks that
    #: do not load, ``.env``, the database's URL; and a decision that its gate does not take, or not
    #: any more. Nothing was done.
    USAGE = 2
    #: There is an answer that is not whole.
    INCOMPLETE = 3
    #: The run is paused: a person has to mend something.
    PAUSED = 4
    #: Ctrl-C.
    INTERRUPTED = 130


def open_closed_streams() -> None:
    """Open what supervisors and cron close: standard input, output and error, to nowhere.

    Python has None for a closed stream, and the next file to be opened takes its number: a database
    whose number is 1 is overwritten by whatever prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    opened = {"stdin": "r", "stdout": "w", "stderr": "w"}
    for number, (name, mode) in enumerate(opened.items()):
        if getattr(sys, name) is None:
            raw = FileIO(number, mode, closefd=False)
            buffered = BufferedReader(raw) if mode == "r" else BufferedWriter(raw)
            setattr(sys, name, TextIOWrapper(buffered, "utf-8"))


def leave(code: int) -> NoReturn:
    """End the process with this code, whatever a tool's thread may still be doing.

    Python waits for its threads at the end, and a plain function that overran its timeout cannot
    be stopped: its result is discarded already, so its thread is left behind.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        # Whoever read the output has gone, and there is nobody to tell; or it cannot be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: standard output cannot be written: {error}\n")
            code = code or Exit.FAILED
    with suppress(OSError):
        sys.stderr.flush()
    if any(_is_waited_for(thread) for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def _is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()
