"""One call of a step's function, on the event loop or in a thread: it begins in time or never.

The worker's lease and the call's own bound are checked immediately before the call begins, on the
loop or in the thread. Otherwise a process that was stopped, or a loop that was blocked, would make
a call that another worker has meanwhile found not to have happened, and made itself. A call that
has begun cannot be stopped in the middle, but does not continue after an await without the lease.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from substrate.engine.failure import Raised, name_of_class
from substrate.engine.function.objects import encoded, holds_objects
from substrate.engine.function.returns import Measured
from substrate.engine.run.attempts import UnderWay
from substrate.engine.run.execution import Execution
from substrate.engine.run.threads import Over, Running, Slot
from substrate.values.clock import uptime
from substrate.values.codec import encode, is_long
from substrate.values.errors import NotEncodable, NotKept
from substrate.values.records import JsonText


@dataclass(frozen=True, slots=True)
class Result:
    """What a call returned, as JSON."""

    value: JsonText
    usage: JsonText | None = None


async def result_of(returned: Any, keep: Callable[[Any], Any] | None = None) -> Result:
    """Return the result of a call as JSON, encoded in a thread if it is long; `keep`: see `Step`.

    Raises `NotEncodable` if it cannot be encoded, with a message which says that the call was made;
    `NotKept` if it can be encoded in part, or as another type.
    """
    try:
        if is_long(returned.value if isinstance(returned, Measured) else returned):
            return await asyncio.to_thread(_written, returned, keep)
        return _written(returned, keep)
    except NotKept as error:
        value = None if error.value is None else _whole(returned, error.value)
        raise NotKept(f"{_MADE}: {error}", error.lost, value) from None
    except NotEncodable as error:
        is_untyped = keep is None and _holds_objects(returned)
        cure = "; or let the function say what it returns, and it comes back as that"
        raise NotEncodable(f"{_MADE}: {error}{cure if is_untyped else ''}") from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # to read a value may run code of its class: see `failure`
        why = f"its own code raises {name_of_class(error)} when it is read"
        raise NotEncodable(f"{_MADE}: {why}; return plain values") from error


_MADE = "the call was made, and its result cannot be kept"


def _whole(returned: Any, part: str) -> str:
    """Return the JSON of a result by its own class; the declared type may have dropped a part."""
    try:
        return encoded(returned)
    except NotEncodable:
        return part


def _holds_objects(returned: Any) -> bool:
    try:
        return holds_objects(returned)
    except Exception:  # noqa: BLE001 - it only decides on a hint
        return False


def _written(returned: Any, keep: Callable[[Any], Any] | None) -> Result:
    if isinstance(returned, Measured):
        return Result(JsonText(encode(returned.value)), JsonText(encode(returned.usage)))
    return Result(JsonText(encode(returned if keep is None else keep(returned))))


class NotBegun(Exception):
    """The call was too late to begin: it was not made, and never will be."""


class CallDeadline:
    """The end of a call's time: it may neither begin nor continue after it.

    The end is kept on two clocks, and the first to reach it counts. By the run's clock, other
    workers decide when the call must have ended. The uptime of the machine runs on while the
    process is stopped, and cannot be set back.
    """

    __slots__ = ("_end", "_execution", "began_at", "over_at", "seconds")

    def __init__(self, execution: Execution, seconds: float) -> None:
        self._execution = execution
        self._end = uptime() + seconds
        self.seconds: float = seconds
        self.began_at: int = execution.now_ms
        self.over_at: int = self.began_at + round(seconds * 1000)

    @property
    def seconds_left(self) -> float:
        """How long the call may still last; 0 if it may not begin any more."""
        if self._execution.now_ms >= self.over_at:
            return 0.0
        return max(0.0, self._end - uptime())


class Call:
    """One call of a function, made at most once. `name` is the step's name, for error messages.

    A call with a slot runs in a thread. Without one it runs on the event loop, and the function is
    a coroutine function. `is_first`: no earlier call for the same promise may have happened.
    """

    def __init__(
        self,
        execution: Execution,
        name: str,
        function: Callable[[], Any],
        slot: Slot | None,
        *,
        is_first: bool = True,
    ) -> None:
        self.deadline: CallDeadline | None = None
        self.has_begun: bool = False
        self.is_cut_off: bool = False
        self.is_first = is_first
        self._name = name
        self._execution = execution
        self._function: Callable[[], Any] | None = function
        self._slot = slot
        self._is_withdrawn = False
        # Held while the call begins or is withdrawn: of the two, exactly one succeeds.
        self._begins = threading.Lock()
        self._in_thread: Over | None = None
        self._on_the_loop: asyncio.Event | None = None

    @property
    def is_in_thread(self) -> bool:
        """Whether the call runs in a thread, where nothing can stop it."""
        return self._slot is not None

    @property
    def under_way(self) -> UnderWay:
        """The record of the call for its intent: when it began, and how long it may last."""
        assert self.deadline is not None, "an intent is written for a call that has a bound"
        timeout = round(self.deadline.seconds * 1000)
        return UnderWay(self.deadline.began_at, timeout, self.is_in_thread)

    async def make(self, seconds: float | None, running: Running | None = None) -> Any:
        """Make the call; return its result, or `Raised` if it raised in a thread.

        The call is cut off with a `TimeoutError` after so many seconds, or at the end of its bound.
        Raises `NotBegun` if it is too late to begin. `running`: see `Slot.start`.
        """
        if self.deadline is None and seconds is None:
            return await self._make(running)
        limit = asyncio.timeout(seconds if self.deadline is None else self.deadline.seconds_left)
        try:
            async with limit:
                return await self._make(running)
        except TimeoutError:
            if not limit.expired():
                raise
            if self.withdraw():
                raise NotBegun from None
            self.is_cut_off = True
            raise TimeoutError(f"{self._name!r} had not ended after {seconds:g} s") from None

    async def over(self) -> Any:
        """Wait until the call has ended; return its outcome if it was cut off in a thread."""
        cut_off = Raised(TimeoutError(f"{self._name!r} was cut off"))
        if self.withdraw():
            return Raised(NotBegun())
        returned = None if self._in_thread is None else await asyncio.shield(self._in_thread)
        if self._on_the_loop is not None:
            await self._on_the_loop.wait()
            return cut_off
        if inspect.isawaitable(returned):  # the coroutine was created but never awaited
            _discard(returned)
            return cut_off
        return returned

    def withdraw(self) -> bool:
        """Prevent the call from beginning; return False if it has begun already."""
        with self._begins:
            self._is_withdrawn = not self.has_begun
            return self._is_withdrawn

    def leave(self) -> None:
        """Give the slot back if the call was never started in it."""
        if self._slot is not None:
            self._slot.leave()

    async def _make(self, running: Running | None) -> Any:
        if self._slot is None:
            return await self._run(self._begin())
        self._in_thread = self._slot.start(self._begin, running)
        try:
            returned = await asyncio.shield(self._in_thread)
        except BaseException:  # if it returns a coroutine later, no task will await it
            self._in_thread.add_done_callback(lambda over: _discard(over.result()))
            self._slot.leave_behind(running, self._in_thread)
            raise
        self._slot.forget(running)
        if isinstance(returned, Raised) and isinstance(returned.error, NotBegun):
            raise returned.error
        if not inspect.isawaitable(returned):
            return returned
        if self._is_late:  # its coroutine has done nothing yet
            _discard(returned)
            self.is_cut_off = True
            raise TimeoutError(f"it was too late for what {self._name!r} returned to be awaited")
        return await self._run(returned)

    async def _run(self, work: Awaitable[Any]) -> Any:
        self._on_the_loop = asyncio.Event()
        try:
            return await work
        finally:
            self._on_the_loop.set()

    def _begin(self) -> Any:
        """Call the function unless it is too late; runs on the loop or in the call's thread."""
        with self._begins:
            function, self._function = self._function, None
            if function is None or self._is_withdrawn or self._is_late:
                self._is_withdrawn = True
                raise NotBegun
            self.has_begun = True
        return function()

    @property
    def _is_late(self) -> bool:
        return not self._execution.lifecycle.holds or (
            self.deadline is not None and self.deadline.seconds_left <= 0.0
        )


async def free_slot(execution: Execution) -> Slot:
    """Return a thread. Meanwhile the step is not in flight: it has no intent yet."""
    threads = execution.services.threads
    if not threads.is_full:
        return await threads.slot()
    slots: list[Slot] = []

    async def wait() -> None:
        slots.append(await threads.slot())

    try:
        await execution.lifecycle.pause_between_attempts(wait)
    except BaseException:  # the run ended while it waited: free the thread
        for slot in slots:
            slot.leave()
        raise
    return slots.pop()


def _discard(returned: object) -> None:
    """Close a coroutine that no task will await, so that Python does not warn."""
    if inspect.iscoroutine(returned):
        returned.close()
