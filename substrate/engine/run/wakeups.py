"""The waits of a run: how its tasks are woken, and how the run is suspended while all of them wait.

No wake-up is lost. Each event that may wake a run increments the run's wake version in the same
transaction. A run is suspended by a compare-and-set on the version that it read before its last
look. A task that is woken while the suspension is pending waits until that succeeds or fails.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from substrate.engine.run.idle import Group, IdleTracker, Wait
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.services import Services
from substrate.values.errors import Cancelled, Suspend, TimedOut
from substrate.values.gates import LetGo
from substrate.values.ids import PromiseId
from substrate.values.records import Claim, OwnedRun, Promise

T = TypeVar("T")

LONGEST_LOOK = 60.0
"""A wait reads the clock again after so many seconds, since the clock may have been set."""


class SignalTaker(Protocol):
    """Hands out the signals of one name: a `Receiver`."""

    @property
    def is_held(self) -> bool:
        """Whether a pass waits until the run is idle."""

    def look(self) -> None:
        """Read the inbox again, in a pass that begins after this call."""

    def on_idle(self) -> None:
        """React to the run having become idle: no task is at work."""


@dataclass(slots=True)
class _Left:
    """Whether a run was let go."""

    is_done: bool = False


class Wakeups:
    """Receives the state of a run from the database, and wakes the run's waiting tasks."""

    def __init__(
        self, claim: Claim, services: Services, lifecycle: Lifecycle, open_promises: OpenPromises
    ) -> None:
        self.idle: IdleTracker = IdleTracker(self._on_idle)
        self.takers: dict[str, SignalTaker] = {}
        """The receiver of each signal name that the run has waited for."""
        self.alarms: set[asyncio.Future[Any]] = set()
        """Futures that are done at the next wake-up, whatever caused it."""
        self.wake_version: int = claim.run.wake_version
        """The run's wake version as last read."""
        self._claim = claim
        self._fence = claim.fence
        self._services = services
        self._lifecycle = lifecycle
        self._open = open_promises
        # What others settle: children by their own end, gates by who decides.
        self._outside: dict[PromiseId, tuple[Wait, asyncio.Future[Promise]]] = {}
        # Those that no task waits for yet, and the highest seq that was read of them.
        self._arrived: dict[PromiseId, Promise] = {}
        self._arrived_to = claim.run.last_seq
        # The wake version at which they were last read.
        self._outside_seen_at = claim.run.wake_version

    @property
    def _now_ms(self) -> int:
        return self._services.clock.now_ms()

    async def look(self, current: OwnedRun) -> None:
        """Act on the run's current row: end it if it was cancelled, wake it if something came."""
        if current.cancel_requested:
            self._lifecycle.end_early(Cancelled(f"run {self._fence.run_id!r} was asked to end"))
        if current.wake_version != self.wake_version:
            self.wake_version = current.wake_version
            self.wake()
        if self._outside and self._outside_seen_at != current.wake_version:
            await self._look_outside()
            # Only after the query: if it fails, the next look repeats it.
            self._outside_seen_at = current.wake_version

    def check_time(self) -> None:
        """End the run if its deadline has passed."""
        deadline = self._claim.run.deadline_at
        if deadline is not None and deadline <= self._now_ms:
            self._lifecycle.end_early(TimedOut(f"the time of run {self._fence.run_id!r} is over"))

    def wake(self) -> None:
        """Make everything that waits for a signal read the inbox again."""
        for taker in self.takers.values():
            taker.look()
        # The alarms as well: a signal may ask a resting step for its next attempt now.
        for alarm in self.alarms:
            if not alarm.done():
                alarm.set_result(None)

    def look_for(self, name: str) -> None:
        """Make the receiver of a name look again: a wait that ended may have left it signals."""
        if taker := self.takers.get(name):
            taker.look()

    @asynccontextmanager
    async def waiting(self, wait: Wait) -> AsyncIterator[None]:
        """Count the current task as waiting while this block runs; raise if the run was shut."""
        async with self.idle.waiting(wait):
            yield
        self._lifecycle.check_open()

    async def wait_until(self, due_at: int) -> None:
        """Return when that moment has come."""
        if due_at <= self._now_ms:
            return
        async with self.waiting(Wait(due_at=due_at)):
            await self.sleep_until(due_at)

    async def sleep_until(self, due_at: int, unless: asyncio.Future[Promise] | None = None) -> None:
        """Return when that moment has come, or when `unless` is done.

        The time slept counts as well: setting the clock back does not prolong a wait in memory.
        """
        left = due_at - self._now_ms
        while left > 0 and not (unless and unless.done()):
            pause = min(left, LONGEST_LOOK * 1000)
            await self._sleep(pause / 1000, unless)
            left = min(left - round(pause), due_at - self._now_ms)

    async def _sleep(self, seconds: float, unless: asyncio.Future[Promise] | None) -> None:
        if unless is None:
            await self._services.clock.sleep(seconds)
            return
        sleep = asyncio.ensure_future(self._services.clock.sleep(seconds))
        ends: list[asyncio.Future[Any]] = [sleep, unless]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()

    async def wait_for_child(self, promise: Promise, group: Group) -> Promise:
        """Return a child's promise when it is settled."""
        settled = await self._wait_outside(promise, Wait(child_of=group))
        assert settled is not None
        return settled

    async def wait_for_gate(self, promise: Promise, until: int | None) -> Promise | None:
        """Return a gate's promise when it is settled; None when that moment has come before."""
        # A group of its own: whatever it is decided, this task alone can go on, and does.
        return await self._wait_outside(promise, Wait(child_of=Group(), due_at=until))

    async def _wait_outside(self, promise: Promise, wait: Wait) -> Promise | None:
        """Return a promise that others settle; None when the wait is due before."""
        if arrived := self._arrived.pop(promise.id, None):
            return arrived
        settled: asyncio.Future[Promise] = asyncio.get_running_loop().create_future()
        self._outside[promise.id] = wait, settled
        try:
            async with self.waiting(wait):
                if wait.due_at is None:
                    return await settled
                await self.sleep_until(wait.due_at, unless=settled)
                return settled.result() if settled.done() else None
        finally:
            del self._outside[promise.id]

    async def suspend(self) -> None:
        """Suspend the run, unless something came for it since its tasks last looked."""
        if (how := self._how_to_let_go()) is None:
            return
        async with self._leaving() as left:
            left.is_done = await self._services.store.suspend(
                self._fence, how.wake_version, need=how.need, due_at=how.due_at
            )

    async def commit_and_wait(
        self, commit: Callable[[LetGo | None], Awaitable[tuple[T, bool]]], wait: Wait | None
    ) -> T:
        """Commit what the current task waits for next; return what was committed.

        Where the worker keeps no run that only waits, and nothing else is at work, the commit lets
        the run go, if it can, and says so. Then this raises `Suspend`.
        """
        is_quick = wait is not None and self._services.lets_go_at_once
        # Where a pass is held until the run is idle, that may find something.
        is_held = any(taker.is_held for taker in self.takers.values())
        how = self._how_to_let_go(wait) if is_quick and not is_held else None
        if how is None:
            return (await commit(None))[0]
        async with self._leaving() as left:
            committed, left.is_done = await commit(how)
        self._lifecycle.check_open()
        return committed

    def _how_to_let_go(self, following: Wait | None = None) -> LetGo | None:
        """Return how the run is suspended now; None where it works, or is leaving already."""
        lifecycle, request = self._lifecycle, self.idle.suspend_request(following)
        if request is None or lifecycle.is_leaving or lifecycle.interrupt is not None:
            return None
        seen = request.seen_wake_version
        expected = self.wake_version if seen is None else seen
        if self._outside:
            # What others settle may have been read at an older version. With that version, the
            # compare-and-set fails if something was settled since.
            expected = min(expected, self._outside_seen_at)
        # The run's deadline ends its function only: an unwinding always runs to its end.
        deadline = None if lifecycle.is_unwinding else self._claim.run.deadline_at
        moments = [at for at in (request.due_at, deadline) if at is not None]
        return LetGo(expected, request.children_needed, min(moments, default=None))

    @asynccontextmanager
    async def _leaving(self) -> AsyncIterator[_Left]:
        """Hold the run's tasks back while the block tries to let it go; shut it where that is done.

        What the block yields says whether it is.
        """
        lifecycle, left = self._lifecycle, _Left()
        lifecycle.is_leaving = True
        with self.idle.suspending():
            try:
                yield left
            finally:
                # Still inside `suspending`: tasks that were woken meanwhile continue after it, and
                # must find the run shut if it is suspended.
                if left.is_done:
                    lifecycle.shut(Suspend(f"run {self._fence.run_id!r} waits"))
                else:
                    lifecycle.is_leaving = False

    def _on_idle(self) -> None:
        """Report the run as idle, unless a receiver starts another pass now."""
        for taker in self.takers.values():
            taker.on_idle()
        if self.idle.idle_since is not None:
            self._services.on_idle()

    async def _look_outside(self) -> None:
        run_id = self._fence.run_id
        for promise in await self._services.store.settled_outside(run_id, self._arrived_to):
            self._arrived_to = promise.seq
            self._open.closed(promise.key)
            wait, settled = self._outside.get(promise.id, (None, None))
            if wait is None or settled is None or settled.done():
                self._arrived[promise.id] = promise
            else:
                self.idle.resume(wait)
                settled.set_result(promise)
