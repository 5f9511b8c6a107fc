"""What a run waits for, how it hears of it, and how it is let go meanwhile.

No wake-up is lost: a run is let go by a compare-and-set on the wake version that was known before
it last looked, and each cause of waking moves that in its own transaction. Whoever is woken while
the decision is on its way waits for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from substrate.engine.run.idle import Group, IdleTracker, Wait
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.services import Services
from substrate.values.errors import Cancelled, Suspend, TimedOut
from substrate.values.ids import Key, PromiseId
from substrate.values.records import Claim, OwnedRun, Promise

if TYPE_CHECKING:
    from substrate.engine.run.receiver import Receiver

LONGEST_LOOK = 60.0
"""So often, in seconds, a wait looks at the clock, which may have been set meanwhile."""


class Wakeups(Lifecycle):
    """A run's ear: it is told how the run stands, and tells its strands."""

    def __init__(self, claim: Claim, services: Services) -> None:
        super().__init__(claim, services)
        self.idle: IdleTracker = IdleTracker(self._rest)
        self.takers: dict[str, Receiver] = {}
        self.alarms: set[asyncio.Future[Any]] = set()
        self.is_loaded = False
        self.is_leaving: bool = False
        self.is_unwinding = False
        self.wake_version: int = claim.run.wake_version
        self.open: dict[Key, Promise] = {}
        self._children: dict[PromiseId, tuple[Wait, asyncio.Future[Promise]]] = {}
        self._arrived: dict[PromiseId, Promise] = {}
        self._arrived_to = claim.run.last_seq
        self._looked = claim.run.wake_version

    @property
    def now_ms(self) -> int:
        """The time: the database's, unless the worker was given another clock."""
        return self.services.clock.now_ms()

    async def look(self, inbox: OwnedRun) -> None:
        """Take note of how the run stands: whether something came, whether it is to end."""
        if inbox.cancel_requested:
            self.end_early(Cancelled(f"run {self.fence.run_id!r} was asked to end"))
        if inbox.wake_version != self.wake_version:
            self.wake_version = inbox.wake_version
            self.wake()
        if self._children and self._looked != inbox.wake_version:
            await self._look_for_children()
            self._looked = inbox.wake_version

    def check_time(self) -> None:
        """End the run when its time is over."""
        deadline = self.claim.run.deadline_at
        if deadline is not None and deadline <= self.now_ms:
            self.end_early(TimedOut(f"the time of run {self.fence.run_id!r} is over"))

    def end_early(self, interrupt: Cancelled) -> None:
        """Shut the execution so that the run ends now.

        Not before it knows what it has to close, nor while it unwinds, or is at its end.
        """
        if self.is_loaded and not (self.is_unwinding or self.is_leaving):
            self.shut(interrupt)

    def wake(self) -> None:
        """Let everything that waits for a signal look again."""
        for taker in self.takers.values():
            taker.look()
        for alarm in self.alarms:
            if not alarm.done():
                alarm.set_result(None)

    @asynccontextmanager
    async def waiting(self, wait: Wait) -> AsyncIterator[None]:
        """Count the current strand as one that only waits, for this block."""
        async with self.idle.waiting(wait):
            yield
        self.check_open()

    async def wait_until(self, due_at: int) -> None:
        """Return when that moment has come."""
        if due_at <= self.now_ms:
            return
        async with self.waiting(Wait(due_at=due_at)):
            await self.come(due_at)

    async def come(self, due_at: int, unless: asyncio.Future[Promise] | None = None) -> None:
        """Return when that moment has come, or `unless` is done.

        What was slept counts, too: a clock that is set back prolongs nothing that waits in memory.
        """
        left = due_at - self.now_ms
        while left > 0 and not (unless and unless.done()):
            pause = min(left, LONGEST_LOOK * 1000)
            await self._sleep(pause / 1000, unless)
            left = min(left - round(pause), due_at - self.now_ms)

    async def _sleep(self, seconds: float, unless: asyncio.Future[Promise] | None) -> None:
        if unless is None:
            await self.services.clock.sleep(seconds)
            return
        sleep = asyncio.ensure_future(self.services.clock.sleep(seconds))
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
        """Let the run go, if it still waits for what it was seen to wait for."""
        rest = self.idle.rest()
        if rest is None or self.is_leaving or self.interrupt is not None:
            return
        seen = self.wake_version if rest.seen is None else rest.seen
        moments = (rest.due_at, None if self.is_unwinding else self.claim.run.deadline_at)
        self.is_leaving = True
        with self.idle.suspending():
            is_let_go = False
            try:
                is_let_go = await self.services.store.suspend(
                    self.fence,
                    min(seen, self._looked) if self._children else seen,
                    need=rest.need,
                    due_at=min((at for at in moments if at is not None), default=None),
                )
            finally:
                if is_let_go:
                    self.shut(Suspend(f"run {self.fence.run_id!r} waits"))
                else:
                    self.is_leaving = False

    def _rest(self) -> None:
        """Take note that nothing is at work: who may still hand out a signal is at work again."""
        for taker in self.takers.values():
            taker.rested()
        if self.idle.since is not None:
            self.services.on_idle()

    async def _look_for_children(self) -> None:
        run_id = self.fence.run_id
        for promise in await self.services.store.settled_children(run_id, self._arrived_to):
            self._arrived_to = promise.seq
            self.open.pop(promise.key, None)
            wait, settled = self._children.get(promise.id, (None, None))
            if wait is None or settled is None or settled.done():
                self._arrived[promise.id] = promise
            else:
                self.idle.resume(wait)
                settled.set_result(promise)
