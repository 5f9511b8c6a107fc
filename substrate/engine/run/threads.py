"""Threads for steps that are plain functions.

A call takes a slot before its intent is committed, and keeps the slot until it has returned. With
the slot comes a thread that runs already: the system may have none left to give. So a call with an
intent never queues: a crash leaves no more calls in doubt than there are threads.

A function that never returns keeps its slot, since nothing can stop it. It does not prevent the end
of the worker, nor of the process: the threads are daemons.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple

from substrate.engine.failure import Raised, tamed, tamed_value
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.run.user_code import end_if_forked
from substrate.values.ids import PromiseId

Over = asyncio.Future[Any | Raised[BaseException]]
"""The outcome of a call in a thread: its value, or what it raised. Never cancelled."""

Running = tuple[PromiseId, int]
"""Identifies a call: its promise, and the epoch of the claim that makes it."""

_PAUSE_S = 0.25  # between two tries to start a thread, where the system gives none
_KEPT_S = 60.0  # how long an outcome is kept for the next claim on its run


class _Job(NamedTuple):
    """A call for a thread: its function, its context variables, and the future for its outcome."""

    function: Callable[[], Any]
    context: Context
    over: Over

    def do(self) -> Any:
        """Make the call; return what it returned or raised, `SystemExit` included."""
        pid = os.getpid()
        try:
            return tamed_value(self.context.run(self.function))
        except StopIteration as stop:  # which no coroutine can pass on
            return Raised(RuntimeError(f"the step raised StopIteration: {stop}"))
        except BaseException as error:  # noqa: BLE001 - raised where the step is awaited
            return Raised(tamed(error))
        finally:
            end_if_forked(pid)


class Slot:
    """The right to use one thread, for one call."""

    __slots__ = ("_is_used", "_threads")

    def __init__(self, threads: "Threads") -> None:
        self._threads = threads
        self._is_used = False

    def start(self, function: Callable[[], Any], running: Running | None) -> Over:
        """Call a function in the thread, with the context variables of the current task.

        The slot is free when the function has returned. With `running`, `Threads.running` keeps the
        outcome until `forget`, which whoever started the call has to call, or `leave_behind`.
        """
        self._is_used = True
        return self._threads.start(function, running)

    def forget(self, running: Running | None) -> None:
        """Drop the outcome of a call: its caller has received it."""
        if running is not None:
            self._threads.running.pop(running, None)

    def leave_behind(self, running: Running | None, over: Over) -> None:
        """Keep the outcome for the next claim on the run, until a minute after the call returns."""
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
        self._troubles = TroubleLog()
        self.running: dict[Running, Over] = {}
        """The calls whose outcome no caller has received yet, including those of lost leases."""
        self._slots = asyncio.Semaphore(limit)
        self._taken = 0
        self._started = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    @property
    def is_full(self) -> bool:
        """Whether a call has to wait for a slot now."""
        return self._slots.locked() or not self._has_idle()

    async def slot(self) -> Slot:
        """Return a slot, in the order of asking; at once where one is free.

        While the system gives no thread, it waits until it does, or until a call has returned.
        """
        await self._slots.acquire()
        try:
            while not self._has_idle():  # noqa: ASYNC110 - the system does not say when
                await asyncio.sleep(_PAUSE_S)
        except BaseException:
            self._slots.release()
            raise
        self._taken += 1
        return Slot(self)

    def start(self, function: Callable[[], Any], running: Running | None) -> Over:
        """See `Slot.start`."""
        over: Over = asyncio.get_running_loop().create_future()
        if running is not None:
            self.running[running] = over
        self._jobs.put(_Job(function, copy_context(), over))
        return over

    def free(self) -> None:
        """Give one slot to the next caller in the queue."""
        self._taken -= 1
        self._slots.release()

    def _has_idle(self) -> bool:
        """Whether a thread runs that no slot has; one is started if need be, and if it can be."""
        if self._taken < self._started:
            return True
        name = f"ostinato-step-{self._started + 1}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self._troubles.report("steps wait for a thread", error)
            return False
        self._started += 1
        return True

    def close(self) -> None:
        """Let each thread end when it has no job."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            outcome = job.do()
            with suppress(RuntimeError):  # the loop is closed: no caller is left
                job.over.get_loop().call_soon_threadsafe(self._end, job.over, outcome)
            del job, outcome  # else an idle thread would keep their objects alive

    def _end(self, over: Over, outcome: Any) -> None:
        """Set the outcome of a call, on the event loop, and free its slot."""
        self.free()
        over.set_result(outcome)
