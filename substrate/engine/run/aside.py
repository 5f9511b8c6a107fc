"""Gates that a run has asked and goes on without: people decide them while its code works.

Each has a task of its own, which tells people of it, and ends it when its time is over. That is no
branch of the code, and decides nothing: the code learns what became of a gate where it looks.

- Such a task counts as at work, but not while it waits. So the run is suspended as any other, and
  is woken by a decision, for a reminder, and at the end of a gate's time.
- A gate that is settled rings for whoever waits beside it. It does so while its task still counts
  as at work: the run is not idle in between.
- The tasks end with the function that has asked, and with its execution.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from substrate.engine.run.idle import IdleTracker
from substrate.engine.run.lifecycle import Lifecycle
from substrate.values.errors import Interrupt, Paused
from substrate.values.ids import Key

Ring = Callable[[], None]


class Aside:
    """The open gates of one execution that its code does not wait for."""

    def __init__(self, idle: IdleTracker, lifecycle: Lifecycle) -> None:
        self.rung: int = 0
        """How often it has rung: by it one sees whether anything came since."""
        self._idle = idle
        self._lifecycle = lifecycle
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._bells: list[Ring] = []

    def follow(self, key: Key, until_settled: Callable[[], Awaitable[object]]) -> None:
        """Follow a gate beside the code, until it is settled."""
        # Before the task's first turn: else the run might be let go in between.
        self._idle.begin_work()
        task = self._tasks[key] = asyncio.create_task(self._follow(until_settled))
        task.add_done_callback(lambda task: self._idle.end_work())

    async def leave(self, key: Key) -> None:
        """Follow a gate no more; raise a fault of the kit's that has ended its task."""
        task = self._tasks.pop(key, None)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def leave_all(self) -> None:
        """Follow no gate any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def check(self) -> None:
        """Raise the fault of the kit's that has ended a task, if one has."""
        for task in self._tasks.values():
            if task.done() and not task.cancelled():
                task.result()

    @contextmanager
    def bell(self, ring: Ring) -> Iterator[None]:
        """Call `ring` at each gate that is settled while this block is open."""
        self._bells.append(ring)
        try:
            yield
        finally:
            self._bells.remove(ring)

    async def _follow(self, until_settled: Callable[[], Awaitable[object]]) -> None:
        try:
            with self._lifecycle.tracked():
                await until_settled()
        except Paused as paused:  # a row that cannot be read: the code, too, goes no further
            self._lifecycle.drain(paused)
        except Interrupt:
            return
        finally:
            self.rung += 1
            for ring in tuple(self._bells):
                ring()
