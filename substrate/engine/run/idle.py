"""What of a run is at work and what only waits: so a run of which nothing is at work can be let go.

A run *rests* when each of its strands waits for a moment, a signal or a child. What is at work is
counted, and the count is handed over, never dropped and taken up again: the branch that lets the
strand go on which waits for the branches leaves its place to it. So a run is not taken for one that
rests while it is between two operations.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
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
    """One strand that waits.

    `seen` is the run's wake version before the strand looked in vain for what it waits for; None
    when only time can bring that. `child_of` is the group in which a child is waited for.
    """

    seen: int | None = None
    due_at: int | None = None
    child_of: Group | None = None


class SuspendRequest(NamedTuple):
    """How a run is to be let go: see `Store.suspend`."""

    seen: int | None
    need: int
    due_at: int | None


class Branches:
    """Branches that have taken the place of the strand which waits for them all, or for the first.

    The branch that is waited for leaves its place to the strand.
    """

    __slots__ = ("_ended", "_parking", "_waited_for")

    def __init__(self, idle: "IdleTracker", waited_for: int) -> None:
        self._parking = idle
        self._ended = 0
        self._waited_for = waited_for

    def start_branch(self, branch: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a branch as a task of its own."""
        task = asyncio.create_task(branch)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        """Count a branch that has ended, also one that was cancelled before its first turn."""
        self._ended += 1
        if self._ended != self._waited_for:
            self._parking.leave()


class IdleTracker:
    """Counts a run's strands at work, and keeps what the others wait for."""

    def __init__(self, rests: Callable[[], None]) -> None:
        self.since: float | None = None
        """Since when the run rests, in seconds of the event loop's clock; None while it works."""
        self._rests = rests
        self._at_work = 1
        self._waits: set[Wait] = set()
        self._decision: asyncio.Event | None = None

    def fan(self, count: int, *, needs_any: bool = False) -> Branches:
        """Let so many branches take the place of the strand at work."""
        self._at_work += count - 1
        return Branches(self, 1 if needs_any else count)

    def enter(self) -> None:
        """Count one more as at work, until it leaves: what may let a strand go on."""
        self._at_work += 1
        self.since = None

    def leave(self) -> None:
        """Count one strand less as at work."""
        self._at_work -= 1
        if self._at_work == 0 and self._waits:
            self.since = asyncio.get_running_loop().time()
            self._rests()

    @asynccontextmanager
    async def waiting(self, wait: Wait) -> AsyncIterator[None]:
        """Count the current strand as one that waits. It goes on when nobody decides on the run."""
        self._waits.add(wait)
        self.leave()
        try:
            yield
        finally:
            self.resume(wait)
        await self.decided()

    def resume(self, wait: Wait) -> None:
        """Count who waited as at work again: from when it is told, not when it has its turn."""
        if wait in self._waits:
            self._waits.discard(wait)
            self._at_work += 1
            self.since = None

    async def decided(self) -> None:
        """Return when nobody decides on the run."""
        while self._decision is not None:
            await self._decision.wait()

    @contextmanager
    def suspending(self) -> Iterator[None]:
        """Hold back who is woken while it is decided whether the run is let go."""
        decision = self._decision = asyncio.Event()
        try:
            yield
        finally:
            self._decision = None
            decision.set()

    def rest(self) -> SuspendRequest | None:
        """Return how the run is to be let go; None while it works, or that is being decided."""
        if self.since is None or self._decision is not None:
            return None
        seen = [wait.seen for wait in self._waits if wait.seen is not None]
        due = [wait.due_at for wait in self._waits if wait.due_at is not None]
        return SuspendRequest(min(seen, default=None), self._need(), min(due, default=None))

    def _need(self) -> int:
        """Return how many children must end before any strand can go on."""
        pending = Counter(wait.child_of for wait in self._waits if wait.child_of)
        needs = [1 if group.needs_any else count for group, count in pending.items()]
        return min(needs, default=1)
