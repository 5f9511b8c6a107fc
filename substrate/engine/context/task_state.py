"""The state of one asyncio task of a run, shared by the contexts that its code may use.

- The task does one operation after another. A context refuses to be used from any other task: that
  would take keys in an order that a replay cannot repeat.
- The task's time, `now_ms`, is that of the last outcome it has seen, so a replay sees it too.
- `is_live` is false until the task gets beyond the outcomes that were recorded at the claim.
- `unstarted` lists operations that were made and not awaited. A run does not end with any left.
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
    """What one task of a run has seen, and the operations that it has made and not started."""

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
        """Operations that were made and not started yet, in the order in which they were made, and
        continuations that are to be returned. The value is the message of a refusal, if any."""
        self._execution = execution
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._thread = get_ident()
        self._is_waiting = False
        self._refusals: list[tuple[str, Misuse, frozenset[FrameType]]] = []

    def check_use(self, what: str = "a combinator") -> None:
        """Refuse to be used from another task, or while this one waits for an operation."""
        # The thread is compared too: seen from another thread, the loop's current task may well be
        # the run's own, which waits for that thread.
        if get_ident() != self._thread or asyncio.current_task(self._loop) is not self._task:
            refusal = Misuse(
                "this ctx is used in a task or thread that is not its own; asyncio.gather, "
                "wait_for and create_task make such tasks: use ctx.gather or ctx.map, and "
                "ctx.call for a branch of several operations"
            )
            # The kit awaits its own tasks, so their refusals reach a result. A task that user code
            # made may be dropped with its exception: keep the refusal for `forgotten`.
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
        """Return `unstarted` after the function has returned, with refusals that nobody has seen.

        An exception of a task that the code made and never awaited is lost. If a refusal was raised
        again where something awaited that task, its traceback has a frame that was not on the stack
        when it was refused: then the code has seen it. One that was seen is enough for all.
        """
        refusals, self._refusals = self._refusals, []
        is_seen = any(
            any(frame not in stack for frame, _ in walk_tb(refusal.__traceback__))
            for _, refusal, stack in refusals
        )
        if not is_seen:
            self.unstarted.update({what: str(refusal) for what, refusal, _ in refusals})
        return self.unstarted

    def observe(self, promise: Promise) -> None:
        """Move the task's time and change number forward to those of an outcome it has seen."""
        self.now_ms = max(self.now_ms, promise.settled_at or 0)
        self.seq = max(self.seq, promise.seq)

    async def drive(
        self,
        work: Callable[[], Awaitable[T]],
        group: Group | None = None,
        *,
        is_live: bool = True,
    ) -> T:
        """Do live work; raise the cause of a cancellation instead of `CancelledError`.

        Args:
            work: Makes what is awaited.
            group: The branches that `work` waits for, if it has any.
            is_live: Whether the task leaves its replay by this.
        """
        self.is_live = is_live
        self._is_waiting = True
        self.group = group
        try:
            await self._execution.lifecycle.block_while_draining()
            return await work()
        except Paused as paused:  # a row cannot be read, and the run does not drain yet
            self._execution.lifecycle.drain_and_raise(paused)
        except asyncio.CancelledError:
            self._execution.lifecycle.check_open()
            if self._task is not self._execution.lifecycle.task:
                raise  # a branch: the combinator waits for it, and raises the cause itself
            raise self._execution.lifecycle.note_cancellation() from None
        finally:
            self._is_waiting = False
            self.group = None
