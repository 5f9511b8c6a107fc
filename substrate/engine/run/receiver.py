"""Hands out a run's signals: one receiver for each signal name, shared by all waits for that name.

- The oldest signal goes to the first open wait, in the order of keys, that accepts its value. So
  the order of connections and tasks does not decide which question an answer belongs to. A wait
  that would convert the value comes after all waits that accept it unchanged.
- A signal that no open wait accepts goes to a poll. Without a poll it is refused: it counts as
  taken, and the first wait records the reason.
- A wait that is pending in the journal counts as open before the replay has reached it, and until
  then no signal is handed out. If the run becomes idle first, the code never asks for that wait.
- A pass over the inbox counts as work. So a run is not suspended during a pass, nor before a pass
  since the last wake-up has found nothing.
- A cancelled wait receives nothing more. If a write for it is under way, its task waits for that
  write, so that a signal it took can be given back.
"""

import asyncio
from bisect import insort
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter

from substrate.engine.run.execution import Execution
from substrate.engine.run.open_wait import Accepted, OpenWait, Refusal
from substrate.engine.run.unreadable import value_of
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, Paused
from substrate.values.records import JsonText, Kind, Promise, PromiseState, ReceivedSignal

MAX_NOTED = 100
"""How many refused values a wait's row keeps, the latest ones: each refusal writes all of them."""

_BATCH = 128  # signals that are read at once, at most
_POLL_BYTES = 8_000_000  # of values, about, that one poll takes; the next one takes the rest


class Released(Exception):
    """A wait was let go without a signal: see `Receiver.release`."""


class Receiver:
    """Hands the signals of one name to its waiters (waits and polls), in one pass after another."""

    def __init__(self, execution: Execution, name: str) -> None:
        self._execution = execution
        self._name = name
        self._waits: list[OpenWait] = []
        self._polls: list[OpenWait] = []
        # Waits that an earlier claim opened, and that this replay has not reached.
        self._absent = {
            promise.key
            for promise in execution.open.pending.values()
            if promise.kind is Kind.SIGNAL and promise.name == name
        }
        self._pass: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._is_held = False

    async def settle(self, waiter: OpenWait) -> Promise:
        """Return the waiter's promise when a signal or its time has settled it."""
        self._absent.discard(waiter.promise.key)
        insort(
            self._polls if waiter.validate is None else self._waits, waiter, key=attrgetter("place")
        )
        self.look()
        try:
            async with self._execution.wakeups.waiting(waiter.wait):
                if waiter.due_at is not None:
                    await self._until_due(waiter, waiter.due_at)
                return await waiter.settled
        except BaseException:
            self._dismiss(waiter)
            await self._wait_until_answered()  # a pass may be giving it a signal: see `give_back`
            raise

    async def _until_due(self, waiter: OpenWait, due_at: int) -> None:
        """Return when the waiter is settled, or when its time is over and a pass will expire it."""
        await waiter.recorded.wait()
        await self._execution.wakeups.sleep_until(due_at, waiter.settled)
        if not waiter.settled.done():
            waiter.is_due = True
            self.look()

    def look(self) -> None:
        """Start a pass, or another one after the pass under way, if there is any waiter."""
        if self._pass is not None:
            self._is_wanted = True
        elif self._waits or self._polls:
            self._begin()

    @property
    def is_held(self) -> bool:
        """Whether a pass waits until the run is idle."""
        return self._is_held

    def release(self, waiter: OpenWait) -> None:
        """Let a wait go without a signal: its `settle` raises `Released`.

        A pass may be giving it one just then; its row tells, once `settle` has raised.
        """
        self._execution.idle.resume(waiter.wait)  # at work from now on, before its next turn
        self._fail(waiter, Released())

    def on_idle(self) -> None:
        """Start the pass that was held for waits of the journal: the run is idle now.

        An idle run has reached all of its code, so it never asks for a wait that is still absent.
        """
        if self._is_held and self._pass is None:
            self._absent.clear()
            self._begin()

    def _begin(self) -> None:
        self._execution.idle.begin_work()
        self._pass = asyncio.create_task(self._run())
        self._pass.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._pass = None
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(fault, Exception | Paused):
            for waiter in (*self._waits, *self._polls):
                self._fail(waiter, fault)
        elif fault is None and self._is_wanted:
            self.look()
        self._execution.idle.end_work()

    async def _run(self) -> None:
        execution = self._execution
        with execution.lifecycle.tracked():
            # Before reading the inbox: a signal taken during a suspension would be lost.
            await execution.idle.wait_until_decided()
            execution.lifecycle.check_open()
            self._is_wanted = False
            self._absent &= execution.open.pending.keys()
            self._is_held = bool(self._absent)
            if self._is_held:
                return
            # Read before the inbox: a signal that comes during the pass has a higher version.
            seen = execution.wakeups.wake_version
            looked = await self._hand_out()
            for waiter in looked:
                waiter.wait.seen_wake_version = seen
            await asyncio.gather(*(self._record(each) for each in looked if each in self._waits))

    async def _hand_out(self) -> Sequence[OpenWait]:
        """Hand out the signals in the inbox; return the waiters that have seen all and got none."""
        after, limit = 0, len(self._waits)
        left: list[ReceivedSignal] = []
        while asked := (*self._waits, *self._polls):
            limit = _BATCH if self._polls else min(limit, _BATCH)
            found = await self._execution.access.inbox(self._name, after, limit)
            left += await self._give(found)
            if len(found) < limit:
                await self._answer_polls(self._unwanted(left, asked))
                return asked
            if _size(left) > _POLL_BYTES:
                await self._answer_polls(self._unwanted(left, asked))
                self._is_wanted = True  # the waits have not seen the rest of the inbox
            after, limit = found[-1].n, limit * 2
        return ()

    async def _give(self, found: Sequence[ReceivedSignal]) -> Sequence[ReceivedSignal]:
        """Give each signal to the first wait that accepts it; return the others for the polls."""
        left = []
        for received in found:
            accepted, refused = self._offered(received)
            if accepted:
                wait, taken = accepted
                await self._take(wait, self._resolved(wait.promise, taken.value), [received])
            elif self._polls:
                left.append(received)
            elif refused:
                await self._refuse(*refused)
            else:
                break
        return left

    def _offered(
        self, received: ReceivedSignal
    ) -> tuple[tuple[OpenWait, Accepted] | None, tuple[OpenWait, ReceivedSignal, Refusal] | None]:
        """Return the wait that gets this value, if any, and the first wait that refuses it."""
        accepted, refused = None, None
        for wait in self._waits:
            validated = wait.validate(received) if wait.validate else {}
            if not isinstance(validated, Accepted):
                refused = refused or (wait, received, validated)
            elif validated.is_exact:
                return (wait, validated), refused
            else:
                accepted = accepted or (wait, validated)
        return accepted, refused

    def _unwanted(
        self, left: Sequence[ReceivedSignal], asked: Sequence[OpenWait]
    ) -> Sequence[ReceivedSignal]:
        """Return the signals in `left` that no wait accepts which was opened during this pass."""
        new = [wait.validate for wait in self._waits if wait not in asked and wait.validate]
        return [
            each for each in left if not any(isinstance(check(each), Accepted) for check in new)
        ]

    async def _answer_polls(self, left: Sequence[ReceivedSignal]) -> None:
        """Answer all polls: the first with the signals that are left, the others with none."""
        for poll in tuple(self._polls):
            found, left = left, ()
            run_id = poll.promise.run_id
            given = [value_of(received, run_id, self._name) for received in found]
            values = JsonText(encode(given))
            polled = self._resolved(poll.promise, values)
            if found:
                await self._take(poll, polled, found)
            elif poll.is_silent:
                self._answer(poll, polled)
            else:
                self._answer(poll, await self._execution.recorder.write(polled))

    async def _refuse(self, wait: OpenWait, received: ReceivedSignal, refusal: Refusal) -> None:
        """Take a signal for a wait that refuses it; the wait stays open and records the reason."""
        noted: list[Refusal] = decode(wait.promise.attempts) if wait.promise.attempts else []
        attempts = JsonText(encode([*noted, refusal][-MAX_NOTED:]))
        await self._take(wait, replace(wait.promise, attempts=attempts), [received])

    async def _take(self, waiter: OpenWait, row: Promise, found: Sequence[ReceivedSignal]) -> None:
        """Commit the waiter's row together with the signals that it takes."""
        written = await self._execution.recorder.take(row, [received.dedup for received in found])
        self._update(waiter, written)

    async def _record(self, wait: OpenWait) -> None:
        """Write the row of a wait that got no signal: pending, or expired if its time is over."""
        now = self._execution.now_ms
        promise = wait.promise
        if wait.is_due or (wait.due_at is not None and wait.due_at <= now):
            # Not before it was due: the clock may have been set back while it waited.
            ended_at = max(now, wait.due_at or now)
            promise = replace(promise, state=PromiseState.EXPIRED, settled_at=ended_at)
        elif promise.seq:
            return
        try:
            written = await self._execution.recorder.write(promise)
        except CheckpointRefused as error:
            self._fail(wait, error)
            return
        self._update(wait, written)

    def _resolved(self, promise: Promise, value: JsonText) -> Promise:
        now = self._execution.now_ms
        return replace(promise, state=PromiseState.RESOLVED, value=value, settled_at=now)

    def _update(self, waiter: OpenWait, row: Promise) -> None:
        """Set a waiter's row to the one in the database; answer the waiter if it is settled."""
        waiter.promise = row
        if row.is_settled:
            self._answer(waiter, row)
        elif row.seq:
            waiter.recorded.set()

    def _answer(self, waiter: OpenWait, row: Promise) -> None:
        """Hand a waiter its settled row. It counts as at work from now on, before its next turn."""
        self._dismiss(waiter)
        self._execution.idle.resume(waiter.wait)
        waiter.recorded.set()
        if not waiter.settled.done():
            waiter.settled.set_result(row)

    def _fail(self, waiter: OpenWait, error: Exception | Paused) -> None:
        self._dismiss(waiter)
        waiter.recorded.set()
        if not waiter.settled.done():
            waiter.settled.set_exception(error)

    def _dismiss(self, waiter: OpenWait) -> None:
        """Remove a waiter: it receives nothing more."""
        for waiters in (self._waits, self._polls):
            if waiter in waiters:
                waiters.remove(waiter)

    async def _wait_until_answered(self) -> None:
        """Return when the pass under way has ended: it may be writing for a removed waiter."""
        task = self._pass
        while task is not None and not task.done():
            with suppress(asyncio.CancelledError):  # the caller raises right after, in any case
                await asyncio.wait([task])


def receiver_of(execution: Execution, name: str) -> Receiver:
    """Return the execution's receiver for a signal name, created at the first call."""
    taker = execution.wakeups.takers.get(name)
    if not isinstance(taker, Receiver):
        taker = execution.wakeups.takers[name] = Receiver(execution, name)
    return taker


def _size(signals: Sequence[ReceivedSignal]) -> int:
    return sum(len(received.value) for received in signals)
