"""Counts the tasks of a run that are at work, and keeps what the other tasks wait for.

A run is *idle* when each of its tasks waits for a moment, a signal or a child. When it has been so
for `WorkerOptions.idle_timeout`, its line suspends it. A run must not count as idle between two
operations. So a working task hands its place over, and never gives it up to take it again: the last
branch of a combinator to end leaves its place to the task that waits for the branches.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Group:
    """Branches that one combinator waits for. `needs_any`: any of them lets it go on."""

    __slots__ = ("needs_any",)

    def __init__(self, *, needs_any: bool = False) -> None:
        self.needs_any: bool = needs_any


@dataclass(slots=True, eq=False)
class Wait:
    """One task that waits."""

    #: The run's wake version before the task looked for its signal and found none; None when only
    #: time or a child can end the wait.
    seen_wake_version: int | None = None
    #: When the task continues at the latest, in ms.
    due_at: int | None = None
    #: The group of branches in which the task waits for a child.
    child_of: Group | None = None


class SuspendRequest(NamedTuple):
    """How a run is to be suspended: see `Store.suspend`."""

    #: The oldest wake version at which one of its tasks has looked; None when no task has.
    seen_wake_version: int | None
    #: How many children must end before any task can go on.
    children_needed: int
    #: When the first task is due, in ms.
    due_at: int | None


LetsGo = Callable[[asyncio.Task[Any]], bool]
"""Whether the task that waits for branches goes on now that this one has ended."""


class Branches:
    """The branches that work in place of the task that waits for all of them, or for some."""

    __slots__ = ("_ended", "_idle", "_lets_go", "_started", "let_go")

    def __init__(self, idle: "IdleTracker", count: int, lets_go: LetsGo) -> None:
        self._idle = idle
        self._ended = 0
        self._started = count
        self._lets_go = lets_go
        self.let_go: asyncio.Event = asyncio.Event()
        """Set as soon as the task goes on: with the last of them at the latest."""

    def start_branch(self, branch: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a branch as a task of its own."""
        task = asyncio.create_task(branch)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        """Count a branch that has ended, also one that was cancelled before its first turn."""
        self._ended += 1
        # The task was replaced by N branches: the count went up by N - 1. The branch that lets the
        # task go on hands its place over to it; all others give theirs up. It is decided here, and
        # not when the task has its turn: in between the run would count as idle.
        if not self.let_go.is_set() and (self._ended == self._started or self._lets_go(task)):
            self.let_go.set()
        else:
            self._idle.end_work()


class IdleTracker:
    """Counts the run's tasks at work, and keeps the waits of the others."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self.idle_since: float | None = None
        """When the run became idle, in seconds of the event loop's clock; None while it works."""
        self._on_idle = on_idle
        self._at_work = 1
        self._waits: set[Wait] = set()
        self._decision: asyncio.Event | None = None

    def branch_out(self, count: int, lets_go: LetsGo = lambda task: False) -> Branches:
        """Replace the current task, which is at work, by `count` branches at work.

        It goes on when one ends of which `lets_go` says so, at the latest with the last.
        """
        self._at_work += count - 1
        return Branches(self, count, lets_go)

    def begin_work(self) -> None:
        """Count one more as at work until `end_work`, e.g. a pass that may wake a task."""
        self._at_work += 1
        self.idle_since = None

    def end_work(self) -> None:
        """Count one less as at work."""
        self._at_work -= 1
        # Without any wait the run is not idle: it is ending, and nothing could wake it.
        if self._at_work == 0 and self._waits:
            self.idle_since = asyncio.get_running_loop().time()
            self._on_idle()

    @asynccontextmanager
    async def waiting(self, wait: Wait) -> AsyncIterator[None]:
        """Count the current task as waiting while this block runs.

        After the block, the task continues only if no suspension is pending: see `suspending`.
        """
        self._waits.add(wait)
        self.end_work()
        try:
            yield
        finally:
            self.resume(wait)
        await self.wait_until_decided()

    def resume(self, wait: Wait) -> None:
        """Count a waiting task as at work from now on, though the event loop runs it later."""
        # Called twice for one wait: by the waker, then by the task itself. Only the first counts.
        if wait in self._waits:
            self._waits.discard(wait)
            self._at_work += 1
            self.idle_since = None

    async def wait_until_decided(self) -> None:
        """Return when no suspension of the run is pending."""
        while self._decision is not None:
            await self._decision.wait()

    @contextmanager
    def suspending(self) -> Iterator[None]:
        """Hold back each task that is woken while this block tries to suspend the run."""
        decision = self._decision = asyncio.Event()
        try:
            yield
        finally:
            self._decision = None
            decision.set()

    def suspend_request(self, following: Wait | None = None) -> SuspendRequest | None:
        """Return how to suspend the run; None while it works, or while a suspension is pending.

        With the wait of the current task that is `following`: where that is the only one at work.
        """
        is_idle = self.idle_since is not None if following is None else self._at_work == 1
        if not is_idle or self._decision is not None:
            return None
        waits = self._waits if following is None else {*self._waits, following}
        seen = [wait.seen_wake_version for wait in waits if wait.seen_wake_version is not None]
        due = [wait.due_at for wait in waits if wait.due_at is not None]
        needed = _children_needed(waits)
        return SuspendRequest(min(seen, default=None), needed, min(due, default=None))


def _children_needed(waits: Iterable[Wait]) -> int:
    """Return how many children must end before any task can go on."""
    pending = Counter(wait.child_of for wait in waits if wait.child_of)
    needs = [1 if group.needs_any else count for group, count in pending.items()]
    return min(needs, default=1)
