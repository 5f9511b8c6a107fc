"""Hands out a run's signals: one receiver for each name, not one for each wait.

- The oldest signal goes to the first open wait, in the order of keys, that accepts its value. So
  the order of connections and tasks does not decide which question an answer belongs to. A wait
  that would make another value of it comes after all that accept it as it is.
- A signal that no open wait accepts goes to a poll, or else is refused: it counts as taken, and the
  first wait notes why.
- A wait that the journal has as pending is open, though this replay has not come back to it.
  Until it has, nothing is handed out; once nothing of the run is at work, the code does not ask
  for it any more.
- A pass over the inbox is work: a run is not let go while one is under way, nor before one has
  looked in vain since the last wake-up.
- A wait that is cancelled is given nothing from then on. A write for it that is under way is waited
  for, so that a signal it took can be given back.
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
"""So many refused values a wait notes, the last ones: each is written again with every other."""

_BATCH = 128  # signals that are read at once, at most
_POLL_BYTES = 8_000_000  # of values, about, that one poll takes; the next one takes the rest


class Receiver:
    """Hands the signals of one name to its waiters, waits and polls, one pass after another."""

    def __init__(self, execution: Execution, name: str) -> None:
        self._execution = execution
        self._name = name
        self._waits: list[OpenWait] = []
        self._polls: list[OpenWait] = []
        self._absent = {
            promise.key
            for promise in execution.open.pending.values()
            if promise.kind is Kind.SIGNAL and promise.name == name
        }
        self._pass: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._is_held = False

    async def settle(self, waiter: OpenWait) -> Promise:
        """Return the waiter's promise when it is settled: by a signal, or by its time."""
        self._absent.discard(waiter.promise.key)
        insort(
            self._polls if waiter.judge is None else self._waits, waiter, key=attrgetter("place")
        )
        self.look()
        try:
            async with self._execution.wakeups.waiting(waiter.wait):
                if waiter.due_at is not None:
                    await self._until_due(waiter, waiter.due_at)
                return await waiter.settled
        except BaseException:
            self._dismiss(waiter)
            await self._wait_until_answered()  # a pass may be writing for this one: see `give_back`
            raise

    async def _until_due(self, waiter: OpenWait, due_at: int) -> None:
        """Return when the waiter is settled, or its time has come and a pass is to decide on it."""
        await waiter.recorded.wait()
        await self._execution.wakeups.come(due_at, waiter.settled)
        if not waiter.settled.done():
            waiter.is_due = True
            self.look()

    def look(self) -> None:
        """See to it that a pass begins after this moment, if anybody wants a signal."""
        if self._pass is not None:
            self._is_wanted = True
        elif self._waits or self._polls:
            self._begin()

    def on_idle(self) -> None:
        """Be told that nothing of the run is at work.

        A wait of the journal that the code has not asked for by now is never asked for.
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
            # Before the look: a signal taken while the run is suspended would be lost to it.
            await execution.idle.wait_until_decided()
            execution.lifecycle.check_open()
            self._is_wanted = False
            self._absent &= execution.open.pending.keys()
            self._is_held = bool(self._absent)
            if self._is_held:
                return
            seen = execution.wakeups.wake_version  # before the look: what comes later has another
            looked = await self._hand_out()
            for waiter in looked:
                waiter.wait.seen_wake_version = seen
            await asyncio.gather(*(self._record(each) for each in looked if each in self._waits))

    async def _hand_out(self) -> Sequence[OpenWait]:
        """Hand out what has come; return the waiters that have seen all of it and still wait."""
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
                self._is_wanted = True  # for the waits beside the poll: there is more to see
            after, limit = found[-1].n, limit * 2
        return ()

    async def _give(self, found: Sequence[ReceivedSignal]) -> Sequence[ReceivedSignal]:
        """Give each signal to the first wait that accepts it; return what is left for a poll."""
        left = []
        for received in found:
            accepted, refused = self._judged(received)
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

    def _judged(
        self, received: ReceivedSignal
    ) -> tuple[tuple[OpenWait, Accepted] | None, tuple[OpenWait, ReceivedSignal, Refusal] | None]:
        """Return the wait that a value is for, if any, and the first one that refuses it."""
        accepted, refused = None, None
        for wait in self._waits:
            judged = wait.judge(received) if wait.judge else {}
            if not isinstance(judged, Accepted):
                refused = refused or (wait, received, judged)
            elif judged.is_exact:
                return (wait, judged), refused
            else:
                accepted = accepted or (wait, judged)
        return accepted, refused

    def _unwanted(
        self, left: Sequence[ReceivedSignal], asked: Sequence[OpenWait]
    ) -> Sequence[ReceivedSignal]:
        """Return what no wait wants, nor one that was opened while the others were asked."""
        new = [wait.judge for wait in self._waits if wait not in asked and wait.judge]
        return [
            each for each in left if not any(isinstance(judge(each), Accepted) for judge in new)
        ]

    async def _answer_polls(self, left: Sequence[ReceivedSignal]) -> None:
        """Give what is left to the first poll, and nothing to the others."""
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
        """Let a signal count as taken by the wait, which goes on and notes what was wrong."""
        noted: list[Refusal] = decode(wait.promise.attempts) if wait.promise.attempts else []
        attempts = JsonText(encode([*noted, refusal][-MAX_NOTED:]))
        await self._take(wait, replace(wait.promise, attempts=attempts), [received])

    async def _take(self, waiter: OpenWait, row: Promise, found: Sequence[ReceivedSignal]) -> None:
        """Commit the waiter's row, and that it has taken these signals."""
        stands = await self._execution.recorder.take(row, [received.dedup for received in found])
        self._stands(waiter, stands)

    async def _record(self, wait: OpenWait) -> None:
        """Write what has become of a wait that was given nothing: that it waits, or is over."""
        now = self._execution.now_ms
        promise = wait.promise
        if wait.is_due or (wait.due_at is not None and wait.due_at <= now):
            over = max(now, wait.due_at or now)
            promise = replace(promise, state=PromiseState.EXPIRED, settled_at=over)
        elif promise.seq:
            return
        try:
            stands = await self._execution.recorder.write(promise)
        except CheckpointRefused as error:
            self._fail(wait, error)
            return
        self._stands(wait, stands)

    def _resolved(self, promise: Promise, value: JsonText) -> Promise:
        now = self._execution.now_ms
        return replace(promise, state=PromiseState.RESOLVED, value=value, settled_at=now)

    def _stands(self, waiter: OpenWait, stands: Promise) -> None:
        """Take note of a waiter's row as it stands now."""
        waiter.promise = stands
        if stands.is_settled:
            self._answer(waiter, stands)
        elif stands.seq:
            waiter.recorded.set()

    def _answer(self, waiter: OpenWait, stands: Promise) -> None:
        """Tell a waiter its outcome. It is at work from now on, not from when it has its turn."""
        self._dismiss(waiter)
        self._execution.idle.resume(waiter.wait)
        waiter.recorded.set()
        if not waiter.settled.done():
            waiter.settled.set_result(stands)

    def _fail(self, waiter: OpenWait, error: Exception | Paused) -> None:
        self._dismiss(waiter)
        waiter.recorded.set()
        if not waiter.settled.done():
            waiter.settled.set_exception(error)

    def _dismiss(self, waiter: OpenWait) -> None:
        """Give a waiter nothing more."""
        for waiters in (self._waits, self._polls):
            if waiter in waiters:
                waiters.remove(waiter)

    async def _wait_until_answered(self) -> None:
        """Return when no pass is under way that may write for a waiter that has just left."""
        task = self._pass
        while task is not None and not task.done():
            with suppress(asyncio.CancelledError):  # the caller ends right after, cancelled or not
                await asyncio.wait([task])


def receiver_of(execution: Execution, name: str) -> Receiver:
    """Return the one taker of a name in an execution."""
    taker = execution.wakeups.takers.get(name)
    if not isinstance(taker, Receiver):
        taker = execution.wakeups.takers[name] = Receiver(execution, name)
    return taker


def _size(signals: Sequence[ReceivedSignal]) -> int:
    return sum(len(received.value) for received in signals)
