"""One task of a run: it makes one operation after another, and nobody else uses its contexts.

A context and those scoped from it share the state of their task: the time that it has seen, whether
it is still replaying, and what it has made and not begun. An operation begun from another task
would take its key in an order that a replay cannot repeat, so it is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import currentframe
from threading import get_ident
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import TypeVar

from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.values.errors import Misuse, Paused
from substrate.values.records import Promise

T = TypeVar("T")


class TaskState:
    """What one task of a run has seen and made, and whose turn it is."""

    def __init__(self, execution: Execution, now_ms: int, *, is_live: bool) -> None:
        self.now_ms: int = now_ms
        """The time of the last outcome that the task has seen, which a replay sees, too."""
        self.is_live: bool = is_live
        """Whether the task is beyond what the journal had when the run was claimed."""
        self.seq: int = 0
        """The highest change number among the outcomes that the task has seen."""
        self.group: Group | None = None
        """The branches that the task waits for now."""
        self.unstarted: dict[object, str | None] = {}
        """Operations that were made and not begun yet, in the order in which they were made, with
        why where they were refused; and what the function is to return."""
        self._execution = execution
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._thread = get_ident()
        self._is_waiting = False
        self._refusals: list[tuple[str, Misuse, frozenset[FrameType]]] = []

    def check_use(self, what: str = "a combinator") -> None:
        """Refuse to be used from another task, or while this one waits for an operation."""
        # In another thread the loop's current task may well be the run's own: it waits there.
        if get_ident() != self._thread or asyncio.current_task(self._loop) is not self._task:
            refusal = Misuse(
                "this ctx is used in a task or thread that is not its own; asyncio.gather, "
                "wait_for and create_task make such tasks: use ctx.gather or ctx.map, and "
                "ctx.call for a branch of several operations"
            )
            # A task of the kit's own is awaited: what it is told, or makes of that, is a result.
            if get_ident() != self._thread or not self._execution.lifecycle.is_in_own_task:
                stack = frozenset(frame for frame, _ in walk_stack(currentframe()))
                self._refusals.append((what, refusal, stack))
            raise refusal
        if self._is_waiting:
            raise Misuse(
                "this ctx is used inside one of its own operations, whose record would hide that "
                "from a replay; make that a durable function and ctx.call it: it has its own ctx"
            )

    def forgotten(self) -> dict[object, str | None]:
        """Return what is unstarted, when the function has returned.

        What was refused in a task that the code made and left was told to nobody: such a task keeps
        its error to itself. Who is told raises it again, in a frame that was not there yet; and of
        several that were refused, one says it for all.
        """
        refusals, self._refusals = self._refusals, []
        is_told = any(
            any(frame not in stack for frame, _ in walk_tb(refusal.__traceback__))
            for _, refusal, stack in refusals
        )
        if not is_told:
            self.unstarted.update({what: str(refusal) for what, refusal, _ in refusals})
        return self.unstarted

    def observe(self, promise: Promise) -> None:
        """Take note of an outcome that the task has seen: its time moves on to it."""
        self.now_ms = max(self.now_ms, promise.settled_at or 0)
        self.seq = max(self.seq, promise.seq)

    async def drive(
        self,
        work: Callable[[], Awaitable[T]],
        group: Group | None = None,
        *,
        is_live: bool = True,
    ) -> T:
        """Do live work, turning a cancellation into what caused it. `group`: of its branches."""
        self.is_live = is_live
        self._is_waiting = True
        self.group = group
        try:
            await self._execution.lifecycle.wait_unless_draining()
            return await work()
        except Paused as paused:  # over a row that cannot be read: the run does not drain yet
            self._execution.lifecycle.drain_and_raise(paused)
        except asyncio.CancelledError:
            self._execution.lifecycle.check_open()
            if self._task is not self._execution.lifecycle.task:
                raise  # a branch: the combinator that waits for it was cancelled, and tells why
            raise self._execution.lifecycle.cancelled() from None
        finally:
            self._is_waiting = False
            self.group = None
