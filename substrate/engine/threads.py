"""Threads for steps that are plain functions.

A function that does not return keeps its thread, since nothing can stop it; but it keeps neither
the worker nor, the threads being daemons, the process from ending. What it returns in the end is
discarded when nobody waits for it any more.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


@dataclass(frozen=True, slots=True)
class _Job:
    """A call to be made, in whose context, and who waits for it."""

    call: Callable[[], Any]
    context: Context
    waiter: asyncio.Future[Any]

    def do(self) -> None:
        """Make the call, unless nobody waits any more, and hand over what comes of it."""
        if self.waiter.cancelled():
            return
        result: Any = None
        error: BaseException | None = None
        try:
            result = self.context.run(self.call)
        except StopIteration as stop:  # which a future cannot carry
            error = RuntimeError(f"the step raised StopIteration: {stop}")
        except BaseException as raised:  # noqa: BLE001 - it is raised where the step is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.waiter.get_loop().call_soon_threadsafe(self._hand_over, result, error)

    def _hand_over(self, result: Any, error: BaseException | None) -> None:
        if self.waiter.done():
            return
        if error is None:
            self.waiter.set_result(result)
        else:
            self.waiter.set_exception(error)


class Threads:
    """Up to so many threads, started as they are needed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in a thread; it sees the context variables of its caller."""
        waiter = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(function, copy_context(), waiter))
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            self._started += 1
            name = f"ostinato-step-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return await waiter

    def close(self) -> None:
        """Let every thread end when it has nothing to do."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            job.do()
            self._idle.release()
