"""Threads for steps that are plain functions.

A call takes a slot before it is announced and keeps it until it has returned. So what is announced
never queues: it begins at once, and a crash leaves no more calls in doubt than there are threads.

A function that does not return keeps its slot, since nothing can stop it; but it keeps neither the
worker nor, the threads being daemons, the process from ending.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple

from substrate.engine.failure import Raised
from substrate.engine.run.user_code import end_if_forked
from substrate.values.ids import PromiseId

Over = asyncio.Future[Any | Raised[BaseException]]
"""What a call in a thread came to: its value or what it raised. It is never cancelled."""

Running = tuple[PromiseId, int]
"""The promise, and the epoch of the claim, for which a call is made."""

_KEPT_S = 60.0


class _Job(NamedTuple):
    """A call to be made, in whose context, and where what comes of it is told."""

    function: Callable[[], Any]
    context: Context
    over: Over

    def do(self) -> Any:
        """Make the call; return what it returned or raised, `SystemExit` included."""
        pid = os.getpid()
        try:
            return self.context.run(self.function)
        except StopIteration as stop:  # which no coroutine can pass on
            return Raised(RuntimeError(f"the step raised StopIteration: {stop}"))
        except BaseException as error:  # noqa: BLE001 - told where the step is awaited
            return Raised(error)
        finally:
            end_if_forked(pid)


class Slot:
    """A thread that is kept for one call."""

    __slots__ = ("_is_used", "_threads")

    def __init__(self, threads: "Threads") -> None:
        self._threads = threads
        self._is_used = False

    def start(self, function: Callable[[], Any], running: Running | None) -> Over:
        """Call a function in the thread; it sees the context variables of its caller.

        The slot is free when it has returned. `Threads.running` has it, if it is told what for,
        until whoever started it has heard what came of it: see `forget` and `leave_behind`.
        """
        self._is_used = True
        return self._threads.start(function, running)

    def forget(self, running: Running | None) -> None:
        """Take note that it is known what came of a call."""
        if running is not None:
            self._threads.running.pop(running, None)

    def leave_behind(self, running: Running | None, over: Over) -> None:
        """Keep what a call comes to for whoever has its run next, for a minute after it returns."""
        loop = asyncio.get_running_loop()
        over.add_done_callback(lambda _: loop.call_later(_KEPT_S, self.forget, running))

    def leave(self) -> None:
        """Give the slot back, if no call was started in it."""
        if not self._is_used:
            self._is_used = True
            self._threads.free()


class Threads:
    """Up to so many threads, started as they are needed."""

    def __init__(self, limit: int) -> None:
        self.running: dict[Running, Over] = {}
        """Calls of whose outcome nobody has heard yet, those of a lost lease included."""
        self._slots = asyncio.Semaphore(limit)
        self._busy = 0
        self._started = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    @property
    def is_full(self) -> bool:
        """Whether whoever asks for a slot now has to wait for it."""
        return self._slots.locked()

    async def slot(self) -> Slot:
        """Return a slot, in the order of asking; at once where one is free."""
        await self._slots.acquire()
        return Slot(self)

    def start(self, function: Callable[[], Any], running: Running | None) -> Over:
        """See `Slot.start`."""
        over: Over = asyncio.get_running_loop().create_future()
        if running is not None:
            self.running[running] = over
        self._busy += 1
        if self._busy > self._started:
            self._started += 1
            name = f"ostinato-step-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._jobs.put(_Job(function, copy_context(), over))
        return over

    def free(self) -> None:
        """Let the next one have a slot."""
        self._slots.release()

    def close(self) -> None:
        """Let every thread end when it has nothing to do."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            outcome = job.do()
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                job.over.get_loop().call_soon_threadsafe(self._end, job.over, outcome)
            del job, outcome  # a thread that idles keeps nothing alive

    def _end(self, over: Over, outcome: Any) -> None:
        """Tell what came of a call, on the loop."""
        self._busy -= 1
        self.free()
        over.set_result(outcome)
