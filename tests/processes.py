"""Processes that do what a test's function says, forked from one that has imported what they need.

::

    assert driven(work, url, 7) == 0  # in a process of its own, to its end
    process = Process(target=work, args=(url, 7))  # or with the manners of `multiprocessing`
    process.start()

By itself a process takes half a second to import the kit and a test's code. The one that they are
forked from (`tests/warm.py`) is shared by the processes of a test session.
"""

import os
import pickle
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from tests.warm import Command, Warm

__all__ = ["Process", "driven"]

KIT = Path(__file__).resolve().parent.parent
LIMIT_S = 60
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")

IMPORTED = Warm(
    *("anthropic.resources", "genai_prices", "psycopg", "psycopg_pool"),
    *("concurrent.futures.thread", "substrate.store.postgres", "substrate.store.sqlite"),
    *("skills.sql", "substrate.agent.turn", "substrate.models.providers.anthropic.client"),
    *("tests.analyst", "tests.crew", "tests.late", "tests.payer", "tests.watching"),
    *("tests.test_queue", "tests.torture.family", "tests.torture.scopes"),
    "tests.frozen",  # which drives a run of each of the others
    env={each: os.environ[each] for each in KEPT if each in os.environ} | {"PYTHONPATH": str(KIT)},
)
"""What they are forked from."""


class Process:
    """A process that calls a function of a module with what can be pickled."""

    def __init__(self, target: Callable[..., object], args: Sequence[Any] = ()) -> None:
        self._command: Command | None = None
        self._work = b64encode(pickle.dumps((target, tuple(args)))).decode()

    def start(self) -> None:
        """Start it. What it prints goes where this process prints."""
        there = {"cwd": Path.cwd(), "env": os.environ}
        with Path(os.devnull).open() as nothing:
            files = (nothing.fileno(), 1, 2)
            self._command = IMPORTED.start("tests.process", self._work, **there, stdio=files)

    @property
    def pid(self) -> int:
        """Its process id, once it was started."""
        return self._started.pid

    @property
    def exitcode(self) -> int | None:
        """Its exit code, less than 0 for a signal; None while it runs."""
        return self._started.poll()

    def is_alive(self) -> bool:
        """Say whether it has not ended."""
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most so many seconds."""
        try:
            self._started.wait(timeout)
        except TimeoutExpired:
            return

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._started.kill()

    @property
    def _started(self) -> Command:
        assert self._command is not None, "it was not started"
        return self._command

    def __del__(self) -> None:
        if self._command is not None:
            self._command.forget()


def driven(work: Callable[..., object], *given: Any) -> int:
    """Do some work in a process of its own; return its exit code, less than 0 for a signal."""
    process = Process(work, given)
    process.start()
    process.join(LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{work.__name__}{given} did not end in {LIMIT_S} s")
    return process.exitcode
