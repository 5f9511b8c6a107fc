"""Databases are asked in processes of the tool's own, so that a statement can harm nothing else.

A statement is somebody else's program: it can compute inside of one function where nothing
interrupts it, fill memory with one value, or crash the library that runs it. In a thread of the
worker all of that would be the worker's. So each tool has a few processes, limited by the operating
system (`child`), which answer one request after the other; one that overruns its time, or whose
caller is gone, is ended, and the next request gets a new one.

- A process ends when it has been idle for a while, and when the worker ends, however that happens.
- It gets the database's settings of the environment, and no other variable: no keys.
- What waits for a process waits in a thread of the tool's own, never in the loop's executor.
"""

import asyncio
import json
import os
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from skills.sql.answer import Json, QueryFailed
from substrate.agent.own_threads import IsLeft, OwnThreads

LIMIT = 4
"""How many statements of one tool run at a time."""

GRACE = timedelta(seconds=1)
"""What a process gets beyond its deadline, to say itself that it stopped the statement."""

LAST = timedelta(seconds=1)
"""What a process gets to cancel a statement on a server, before it is killed."""

START = timedelta(seconds=15)
"""What a process gets to load its driver: a moment, but on a machine that has much to do."""

MAX_REQUEST = 200_000
"""Bytes of a statement with its parameters."""

MAX_BYTES = 4_000_000
"""Bytes of an answer: some times what the limits on rows and names let through."""

POLL_S = 0.05
"""How soon it is noticed that a caller is gone."""

# The interpreter's settings for C libraries, and those that libpq and SQLite read.
_PASSED = ("PG", "SSL_", "KRB5", "SQLITE_", "LC_", "LD_", "DYLD_")
_PASSED_NAMES = frozenset({"HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TMPDIR"})

# Makes this folder the package `skills.sql` without its `__init__`, which loads the kit.
_PROGRAM = """
import json, sys, types
sys.path[:], folder = json.loads(sys.argv[1])
for name, place in (("skills", []), ("skills.sql", [folder])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = place
from skills.sql.child import main
main(sys.argv[2])
"""


class _Ended(Exception):
    """The process ended without an answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a database: `what` is "query" or "tables"."""

    url: str
    what: str
    arguments: dict[str, Json]
    timeout: timedelta

    def line(self) -> bytes:
        """Return the question as a process reads it. Raises `QueryFailed` for one too long."""
        seconds = self.timeout.total_seconds()
        asked = {
            "url": self.url,
            "what": self.what,
            "arguments": self.arguments,
            "seconds": seconds,
            "ends_in": seconds + (GRACE + LAST).total_seconds(),
        }
        line = json.dumps(asked).encode() + b"\n"
        if len(line) > MAX_REQUEST:
            raise QueryFailed(
                f"the statement and its parameters are {len(line)} bytes, "
                f"the limit is {MAX_REQUEST}; send less"
            )
        return line


class Processes:
    """Up to `LIMIT` processes of one tool, each held by a thread, started when needed.

    They load one driver, a module of this skill.
    """

    def __init__(self, name: str, driver: str) -> None:
        self._driver = driver
        self._threads = OwnThreads(name, LIMIT, at_end=self._end)
        self._mine = threading.local()

    async def ask(self, question: Question) -> Json:
        """Return the answer, or raise `QueryFailed`.

        The time is the statement's; before that it may wait for others, twice as long.
        """
        line = question.line()
        loop = asyncio.get_running_loop()

        def work(is_left: IsLeft) -> Json:
            loop.call_soon_threadsafe(_lift, waiting)
            return self._ask(question, line, is_left)

        try:
            async with asyncio.timeout(2 * (question.timeout + GRACE).total_seconds()) as waiting:
                return await self._threads.call(work)
        except TimeoutError:
            if not waiting.expired():
                raise too_slow(question.timeout) from None
            raise QueryFailed(
                f"{LIMIT} other statements are running, and none ended in time; try again later"
            ) from None

    def _ask(self, question: Question, line: bytes, is_left: IsLeft) -> Json:
        """Ask a process, in its thread."""
        try:
            answer = self._child().ask(line, question.timeout + GRACE, is_left)
        except _Ended as error:
            self._end()
            raise QueryFailed(
                f"the process that asked the database ended in the middle ({error}): the query "
                "may take more memory than there is; read fewer or shorter values at once"
            ) from None
        except BaseException:
            self._end()
            raise
        return _told(answer, question.timeout)

    def _child(self) -> "_Child":
        """Return this thread's process; an idle one may have been ended from outside."""
        child: _Child | None = getattr(self._mine, "child", None)
        if child is None or not child.is_there:
            self._end()
            child = self._mine.child = _Child(self._driver)
        return child

    def _end(self) -> None:
        """End this thread's process, if it has one."""
        child, self._mine.child = getattr(self._mine, "child", None), None
        if child is not None:
            child.end()


class _Child:
    """One process and its pipes. Used by one thread."""

    def __init__(self, driver: str) -> None:
        self._is_ready = False
        # Where it is frozen, its executable is the whole program, once again.
        if getattr(sys, "frozen", False) or not sys.executable:
            raise QueryFailed(
                "this program was made without a Python interpreter (by PyInstaller or the like), "
                "and the tool starts one for its statements; run it in an environment instead"
            )
        paths = json.dumps([sys.path, str(Path(__file__).parent)])
        # -I and -S: nothing of the environment or the folder is loaded. A group of its own, so
        # that Ctrl-C at a terminal is the worker's affair.
        self._process = subprocess.Popen(  # noqa: S603 - our own program, in our own interpreter
            [sys.executable, "-I", "-S", "-c", _PROGRAM, paths, driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=0,
            env={
                name: value
                for name, value in os.environ.items()
                if name in _PASSED_NAMES or name.startswith(_PASSED)
            },
        )

    @property
    def is_there(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, line: bytes, within: timedelta, is_left: IsLeft) -> dict[str, Any]:
        """Return the process's answer. Raises `_Ended`, or `TimeoutError` when time is over."""
        assert self._process.stdin is not None
        if not self._is_ready:
            self._read(START, is_left)  # a line that says so
            self._is_ready = True
        try:
            self._process.stdin.write(line)
        except OSError:
            raise self._ended() from None
        answer: dict[str, Any] = json.loads(self._read(within, is_left))
        return answer

    def _read(self, within: timedelta, is_left: IsLeft) -> bytes:
        """Return the next line that the process writes."""
        assert self._process.stdout is not None
        until = monotonic() + within.total_seconds()
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if is_left() or monotonic() > until:
                    raise TimeoutError
                if selector.select(POLL_S):
                    data = os.read(self._process.stdout.fileno(), 2**16)
                    received += data
                    if not data or len(received) > MAX_BYTES:
                        raise self._ended()
        return bytes(received)

    def _ended(self) -> _Ended:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST.total_seconds())
        return _Ended(f"exit code {self._process.returncode}")

    def end(self) -> None:
        """End the process, letting it cancel what a server does for it."""
        process = self._process
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST.total_seconds())
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _lift(limit: asyncio.Timeout) -> None:
    """Take the limit from a wait that is over; from then on the thread looks at the time."""
    with suppress(RuntimeError):  # it has been reached, or the caller is gone
        limit.reschedule(None)


def longest(timeout: timedelta) -> timedelta:
    """Return how long a statement may take with its wait for others and for a process."""
    return 3 * (timeout + GRACE) + START + LAST


def too_slow(timeout: timedelta) -> QueryFailed:
    """Return the error for a query that did not end in time."""
    return QueryFailed(
        f"the query took longer than {timeout.total_seconds():g} s and was stopped; "
        "read fewer rows, filter by an indexed column, or aggregate less at once"
    )


def _told(answer: dict[str, Any], timeout: timedelta) -> Json:
    if "failed" in answer:
        raise QueryFailed(answer["failed"])
    if "is_slow" in answer:
        raise too_slow(timeout)
    return answer["answer"]
