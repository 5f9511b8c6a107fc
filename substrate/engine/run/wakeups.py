"""What a run waits for, how its tasks are woken, and how it is suspended meanwhile.

No wake-up is lost. Each cause of waking moves the run's wake version in its own transaction, and a
run is suspended by a compare-and-set on the version that was known before it last looked. A task
that is woken while the suspension is on its way waits until that has succeeded or failed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from substrate.engine.run.idle import Group, IdleTracker, Wait
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.services import Services
from substrate.values.errors import Cancelled, Suspend, TimedOut
from substrate.values.ids import PromiseId
from substrate.values.records import Claim, OwnedRun, Promise

LONGEST_LOOK = 60.0
"""So often, in seconds, a wait looks at the clock, which may have been set meanwhile."""


class SignalTaker(Protocol):
    """What hands out the signals of one name: a `Receiver`."""

    def look(self) -> None:
        """Look into the inbox, from this moment on."""

    def on_idle(self) -> None:
        """Be told that nothing of the run is at work."""


class Wakeups:
    """Is told how a run stands in the database, and tells those of its tasks that wait."""

    def __init__(
        self, claim: Claim, services: Services, lifecycle: Lifecycle, open_promises: OpenPromises
    ) -> None:
        self.idle: IdleTracker = IdleTracker(self._on_idle)
        self.takers: dict[str, SignalTaker] = {}
        """Who hands out the signals of each name that was waited for."""
        self.alarms: set[asyncio.Future[Any]] = set()
        """Done at the next wake-up, whatever caused it."""
        self.wake_version: int = claim.run.wake_version
        """The run's wake version as it was seen last."""
        self._claim = claim
        self._fence = claim.fence
        self._services = services
        self._lifecycle = lifecycle
        self._open = open_promises
        self._children: dict[PromiseId, tuple[Wait, asyncio.Future[Promise]]] = {}
        self._arrived: dict[PromiseId, Promise] = {}
        self._arrived_to = claim.run.last_seq
        self._looked = claim.run.wake_version

    @property
    def _now_ms(self) -> int:
        return self._services.clock.now_ms()

    async def look(self, stands: OwnedRun) -> None:
        """Take note of how the run stands: whether something came, whether it is to end."""
        if stands.cancel_requested:
            self._lifecycle.end_early(Cancelled(f"run {self._fence.run_id!r} was asked to end"))
        if stands.wake_version != self.wake_version:
            self.wake_version = stands.wake_version
            self.wake()
        if self._children and self._looked != stands.wake_version:
            await self._look_for_children()
            self._looked = stands.wake_version

    def check_time(self) -> None:
        """End the run when its time is over."""
        deadline = self._claim.run.deadline_at
        if deadline is not None and deadline <= self._now_ms:
            self._lifecycle.end_early(TimedOut(f"the time of run {self._fence.run_id!r} is over"))

    def wake(self) -> None:
        """Let everything that waits for a signal look again."""
        for taker in self.takers.values():
            taker.look()
        # The alarms as well: a step that waits for its next attempt may be asked for it now.
        for alarm in self.alarms:
            if not alarm.done():
                alarm.set_result(None)

    def look_for(self, name: str) -> None:
        """Let others look for the signals of a name that somebody leaves to them."""
        if taker := self.takers.get(name):
            taker.look()

    @asynccontextmanager
    async def waiting(self, wait: Wait) -> AsyncIterator[None]:
        """Count the current task as one that only waits, for this block."""
        async with self.idle.waiting(wait):
            yield
        self._lifecycle.check_open()

    async def wait_until(self, due_at: int) -> None:
        """Return when that moment has come."""
        if due_at <= self._now_ms:
            return
        async with self.waiting(Wait(due_at=due_at)):
            await self.come(due_at)

    async def come(self, due_at: int, unless: asyncio.Future[Promise] | None = None) -> None:
        """Return when that moment has come, or `unless` is done.

        What was slept counts, too: a clock that is set back prolongs nothing that waits in memory.
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
        if arrived := self._arrived.pop(promise.id, None):
            return arrived
        settled: asyncio.Future[Promise] = asyncio.get_running_loop().create_future()
        wait = Wait(child_of=group)
        self._children[promise.id] = wait, settled
        try:
            async with self.waiting(wait):
                return await settled
        finally:
            del self._children[promise.id]

    async def suspend(self) -> None:
        """Let the run go, if nothing has come since it was seen to wait."""
        lifecycle, request = self._lifecycle, self.idle.suspend_request()
        if request is None or lifecycle.is_leaving or lifecycle.interrupt is not None:
            return
        seen = request.seen_wake_version
        expected = self.wake_version if seen is None else seen
        if self._children:
            # We must also have looked for the ends of children at this version: the older of the
            # two makes the compare-and-set fail if a child has ended in between.
            expected = min(expected, self._looked)
        # What is undone is undone to its end, whatever the run's own time says.
        deadline = None if lifecycle.is_unwinding else self._claim.run.deadline_at
        moments = [at for at in (request.due_at, deadline) if at is not None]
        lifecycle.is_leaving = True
        with self.idle.suspending():
            is_let_go = False
            try:
                is_let_go = await self._services.store.suspend(
                    self._fence,
                    expected,
                    need=request.children_needed,
                    due_at=min(moments, default=None),
                )
            finally:
                # Before those that were woken meanwhile go on: they find the run shut, or not.
                if is_let_go:
                    lifecycle.shut(Suspend(f"run {self._fence.run_id!r} waits"))
                else:
                    lifecycle.is_leaving = False

    def _on_idle(self) -> None:
        """Take note that nothing is at work, unless a taker looks for signals once more now."""
        for taker in self.takers.values():
            taker.on_idle()
        if self.idle.idle_since is not None:
            self._services.on_idle()

    async def _look_for_children(self) -> None:
        run_id = self._fence.run_id
        for promise in await self._services.store.settled_children(run_id, self._arrived_to):
            self._arrived_to = promise.seq
            self._open.closed(promise.key)
            wait, settled = self._children.get(promise.id, (None, None))
            if wait is None or settled is None or settled.done():
                self._arrived[promise.id] = promise
            else:
                self.idle.resume(wait)
                settled.set_result(promise)
