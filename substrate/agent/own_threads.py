"""Threads of a tool's own, for calls that block and cannot be awaited.

The event loop's default executor belongs to everybody: the name of a provider's host is looked up
there. A tool that filled it with calls that hang would cut the whole worker off. So a tool that
must block does it in threads of its own.

- They are daemons, started when they are needed, ended when they have been idle for a while. They
  belong to no event loop.
- When the caller of a running call is cancelled, `IsLeft` returns True to the call, and its place
  goes to the next call in line. A thread cannot be stopped, and one that hangs must not keep the
  others out. At most `limit` threads are lost in this way, so there are at most twice `limit`.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
IsLeft = Callable[[], bool]
"""Returns True once the caller was cancelled; a call in a thread asks it now and then."""

IDLE_S = 30.0
"""How long a thread waits for its next call before it ends."""


@dataclass(eq=False, slots=True)
class _Call:
    """A call in line or under way, and the future for its outcome."""

    #: What is called.
    function: Callable[[IsLeft], Any]
    #: Receives the outcome.
    over: asyncio.Future[Any]
    #: Set when its caller was cancelled.
    is_left: threading.Event = field(default_factory=threading.Event)
    #: Whether it has given its place up, so that its thread ends with it.
    is_lost: bool = False
    #: Whether it has ended.
    is_over: bool = False

    def make(self) -> None:
        """Make the call, and deliver its outcome on the event loop of its caller."""
        deliver: Callable[[Any], None]
        try:
            deliver, outcome = self.over.set_result, self.function(self.is_left.is_set)
        except StopIteration as error:  # which no future can hold
            deliver, outcome = self.over.set_exception, RuntimeError(repr(error))
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            deliver, outcome = self.over.set_exception, error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.over.get_loop().call_soon_threadsafe(self._deliver, deliver, outcome)

    def _deliver(self, deliver: Callable[[Any], None], outcome: Any) -> None:
        if not self.over.done():
            deliver(outcome)


class OwnThreads:
    """Up to `limit` calls at a time; the others wait in line, in the order in which they came.

    A thread ends when it had nothing to do for `idle_s` seconds. `at_end` is called in each thread
    when it ends, to give back what the thread holds.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        idle_s: float = IDLE_S,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._limit = limit
        self._idle_s = idle_s
        self._at_end = at_end
        self._begin()

    async def call(self, function: Callable[[IsLeft], T]) -> T:
        """Return what the function returns, called in a thread, or raise what it raises.

        The function is given an `IsLeft`. When the caller is cancelled, a call that still waits in
        line is never made, and one that runs goes on unheard until it returns.
        """
        if os.getpid() != self._pid:  # a forked child has the numbers, and none of the threads
            self._begin()
        call = _Call(function, asyncio.get_running_loop().create_future())
        with self._changed:
            self._line.append(call)
            self._staff()
            self._changed.notify()
        try:
            value: T = await call.over
        except asyncio.CancelledError:
            self._leave(call)
            raise
        return value

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._line: deque[_Call] = deque()
        self._idle = 0
        self._places = 0
        self._lost = 0
        self._started = 0

    def _staff(self) -> None:
        """Start a thread if there are calls in line that no idle one will take."""
        if len(self._line) > self._idle and self._places < self._limit:
            name = f"{self._name}-{self._started + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._places += 1
            self._started += 1

    def _leave(self, call: _Call) -> None:
        """Take a call out of the line, or its place from it."""
        with self._changed:
            call.is_left.set()
            if call in self._line:
                self._line.remove(call)
            elif not call.is_over and self._lost < self._limit:
                call.is_lost = True
                self._lost += 1
                self._places -= 1
                self._staff()

    def _work(self) -> None:
        try:
            while call := self._next():
                call.make()
                with self._changed:
                    call.is_over = True
                    if call.is_lost:
                        self._lost -= 1
                        return
                del call  # a thread that idles keeps nothing alive
        finally:
            if self._at_end is not None:
                self._at_end()

    def _next(self) -> _Call | None:
        """Return the next call, or None: there was none for a while, and the place is given up."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._line, self._idle_s)
            self._idle -= 1
            if self._line:
                return self._line.popleft()
            self._places -= 1
            return None
