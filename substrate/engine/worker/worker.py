"""A worker: claims runs of the lanes it knows, drives them, and gives back what it cannot end.

It does so line by line: what it holds and does on one of them is a `Line`. Here stands what it is
as a whole: how it opens and closes, and what its client asks of it.

A worker that closes tells its heartbeats first, and at once, when to end at the latest; the rest
runs in a task that no cancellation of its caller reaches. So however it is cut off, at worst its
leases lapse.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from substrate.engine.context.memory import OWN_UNDO
from substrate.engine.function.function import Durable
from substrate.engine.function.place import described
from substrate.engine.function.registry import Registry
from substrate.engine.run.committer import Committer
from substrate.engine.run.execution import Execution
from substrate.engine.run.services import Listener, Services, Witness, ignore_event
from substrate.engine.run.threads import Threads
from substrate.engine.worker.closing import STOPPING, calls_that_must_end, ended, wind_down
from substrate.engine.worker.line import Line
from substrate.engine.worker.options import DEFAULT_OPTIONS, WorkerOptions
from substrate.engine.worker.places import Places
from substrate.engine.worker.registration import LAST_WAIT
from substrate.engine.worker.watchdog import LoopWatch
from substrate.store.store import Store
from substrate.store.uncancelled import to_its_end
from substrate.values.clock import OffsetClock
from substrate.values.errors import Misuse, Shutdown, StoreError
from substrate.values.ids import DEFAULT_QUEUE, RunId, check_name, part_of
from substrate.values.records import NewRun, Promise, Run

log = logging.getLogger("ostinato")

_LAST_WORD = 5.0  # seconds for what is still told to the database; one that is silent is left
_CLOSING = 2 * _LAST_WORD + 3 * LAST_WAIT  # seconds of closing beyond the grace period, at most


class Worker:
    """Drives runs in this process. Use `Client.work`, which starts and stops it.

    `lines` is its share of the store's lines, all of them if not told otherwise. `on_call` is told
    of each call of a step right before it is made, for who counts them.
    """

    def __init__(
        self,
        store: Store,
        functions: Iterable[Durable[..., Any]],
        *,
        queue: str = DEFAULT_QUEUE,
        options: WorkerOptions = DEFAULT_OPTIONS,
        on_event: Listener = ignore_event,
        only: RunId | None = None,
        lines: Collection[int] | None = None,
        on_call: Witness | None = None,
    ) -> None:
        if not isinstance(options, WorkerOptions):
            raise Misuse(
                f"options={options!r} is no WorkerOptions; write WorkerOptions(concurrency=8)"
            )
        if not callable(on_event):
            raise Misuse(
                f"on_event={described(on_event)} is no function; it is given run_id and event"
            )
        #: The open store.
        self.store = store
        #: How it behaves.
        self.options = options
        self._registry = Registry(functions)
        self._queue = check_name(queue)
        self._listener = on_event
        self._on_call = on_call
        self._stir = asyncio.Event()
        self._places = Places(options.concurrency, asyncio.get_running_loop().time)
        #: What it does on each of its lines, by the line's number.
        self.lines: dict[int, Line] = {
            number: self._line(number, only) for number in self._share(only, lines)
        }
        self._places.lines = list(self.lines.values())
        self._is_hurried = False

    def _share(self, only: RunId | None, lines: Collection[int] | None) -> Sequence[int]:
        if only is not None:  # a tree lies on one line
            return [self._number_of(only)]
        return [number for number in self.store.lines if lines is None or number in lines]

    def _line(self, number: int, only: RunId | None) -> Line:
        # A store of one line is asked as it is: it may be another's, put around one of ours.
        is_one = len(self.store.lines) == 1
        return Line(
            self.store if is_one else self.store.on_line(number),
            self._registry,
            queue=self._queue,
            only=only,
            options=self.options,
            places=self._places,
            stir=self._stir,
        )

    def _number_of(self, run_id: str) -> int:
        """Return the line that a run lies on."""
        lines = self.store.lines
        return lines[0] if len(lines) == 1 else self.store.line_of(part_of(run_id))

    def _line_of(self, run_id: str) -> Line | None:
        """Return what is done here on the line of a run, if that is one of this worker's."""
        return self.lines.get(self._number_of(run_id))

    async def open(self) -> None:
        """Register, and begin to claim. Cancelled meanwhile, it leaves nothing behind.

        It is open when it is registered on one of its lines: the others take up their runs when
        they can be reached. Where none can be, it raises why.
        """
        await self._register()
        self._threads = Threads(self.options.threads)
        self._loop = asyncio.get_running_loop()
        self._watch = LoopWatch(self.give_leases_up)
        for line in self.lines.values():
            line.open(self._services_of)

    async def _register(self) -> None:
        lines = self.lines.values()
        tasks = [line.register() for line in lines]
        try:
            fault: StoreError | None = None
            for registered in asyncio.as_completed(tasks):
                try:
                    return await registered
                except StoreError as error:
                    fault = fault or error
            if fault is not None:
                raise fault
        except BaseException:
            # In one piece: who is cancelled a second time goes on only when all of it is done.
            await to_its_end(asyncio.gather(*(line.unregister() for line in lines)))
            raise

    def _services_of(self, line: Line, committer: Committer) -> Services:
        """Return what the runs of a line share."""
        has_own_time = isinstance(line.store.clock, OffsetClock)
        return Services(
            line.store,
            committer,
            line.store.clock,
            self._threads,
            self._listener,
            lambda: line.is_alive,
            lease_s=self.options.lease.total_seconds(),
            warm_s=self.options.idle_timeout.total_seconds() if has_own_time else 0.0,
            lets_go_at_once=not self.options.idle_timeout,
            functions=self._registry,
            queue=self._queue,
            on_wake=line.wake,
            on_idle=self._stand_by,
            on_call=self._on_call,
            own={(OWN_UNDO.name, OWN_UNDO.version): OWN_UNDO},
            troubles=line.troubles,
        )

    async def close(self) -> None:
        """Stop claiming, let running steps end for the grace period, give every run back.

        Who is cancelled meanwhile gets the cancellation when that has been done.
        """
        self._places.is_closed = True
        for line in self.lines.values():
            line.retire(self.options.shutdown_grace.total_seconds() + _CLOSING)
        for execution in self._places.executions:
            if execution.idle.idle_since is None:
                execution.lifecycle.drain(Shutdown(STOPPING))
        await to_its_end(self._close())

    def hurry(self) -> Sequence[Promise]:
        """Have `close` wait for those calls only that may not be made twice; return their intents.

        What else is under way is cut off, and done again by whoever drives its run next.
        """
        self._is_hurried = True
        return [
            call for execution in self._places.executions for call in calls_that_must_end(execution)
        ]

    async def _close(self) -> None:
        """Close in order. The end of the event loop may cancel this, too: it goes on to the end."""
        try:
            await self._leave()
        finally:
            self._watch.stop()
            self._threads.close()
            await asyncio.gather(*(line.close(_LAST_WORD) for line in self.lines.values()))

    async def _leave(self) -> None:
        """Suspend what only waits, and wait for the steps of all else to end."""
        await ended({asyncio.ensure_future(self._suspend_all())}, _LAST_WORD)
        for execution in self._places.executions:
            execution.lifecycle.drain(Shutdown(STOPPING))
        lines = self.lines.values()
        await wind_down(
            {task for line in lines for task in (line.ticking, *line.starts, *line.runs.tasks)},
            lambda: self._places.executions,
            self.options.shutdown_grace.total_seconds(),
            is_hurried=self._is_hurried,
        )

    async def _suspend_all(self) -> None:
        async def suspend(line: Line) -> None:
            with suppress(StoreError):  # then what waits is given back like all else
                for execution in line.executions:
                    await execution.wakeups.suspend()

        await asyncio.gather(*(suspend(line) for line in self.lines.values()))

    @property
    def is_stopping(self) -> bool:
        """Whether it takes on no more runs: it is being closed."""
        return self._places.is_closed

    @property
    def running(self) -> int:
        """How many runs are being driven."""
        return len(self._places.executions)

    def takes(self, lane: str, run_id: str) -> bool:
        """Whether this worker would claim a run of this id from the lane."""
        line = self._line_of(run_id)
        return line is not None and line.lanes.takes(lane, run_id)

    def recognise(self, function: Durable[..., Any]) -> None:
        """See that what is started here is what this worker drives; take up what is redefined.

        Raises `Misuse` for another function under a name that it knows.
        """
        self._registry.recognise(function)

    async def start(self, new: NewRun) -> Run:
        """Create a run that this worker `takes`; where a place is free, already claimed by it."""
        return await self.lines[self._number_of(new.id)].start(new)

    def execution_of(self, run_id: RunId) -> Execution | None:
        """Return the execution of a run that is being driven here."""
        line = self._line_of(run_id)
        return line.runs.execution_of(run_id) if line else None

    async def give_back(self, run_id: RunId) -> None:
        """Give a run back that is this worker's and that nobody here drives.

        Raises the `StoreError` with which the database refuses that, or refuses what the worker did
        last; one that cannot be reached is waited for.
        """
        if line := self._line_of(run_id):
            await line.give_back(run_id)

    def wake(self, run_id: RunId, *, for_signal: bool = False) -> None:
        """Say that something was done for a run, which may be driven here or elsewhere.

        With `for_signal` it was sent one, and no more.
        """
        if line := self._line_of(run_id):
            line.wake(run_id, for_signal=for_signal)

    async def run_until_idle(self) -> None:
        """Drive until each run of its lanes has ended, or waits for what has not come yet.

        What only waits is let go at once, however short its wait. For tests: with a clock of their
        own they move to `Store.next_due_at` then, and call this again.
        """
        while True:
            await asyncio.gather(*(line.ticks.ticked() for line in self.lines.values()))
            for execution in self._places.executions:
                await execution.wakeups.suspend()
            self._stir.clear()
            if not (self.running or await self._has_work() or self._has_moved):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.poll.total_seconds()):
                    await self._stir.wait()

    @property
    def _has_moved(self) -> bool:
        """Whether a run came or went while `_has_work` asked.

        It asks what is ready, then what is ours. A run that is claimed before the first question
        and let go before the second is in neither answer, and the children it started are ready.
        """
        return bool(self.running) or self._stir.is_set()

    async def _has_work(self) -> bool:
        """Whether a run of its lanes is ready, or on its way to this worker or from it."""
        lines = self.lines.values()
        if any(line.starts for line in lines):
            return True
        return any(await asyncio.gather(*(line.has_work() for line in lines)))

    def tick_soon(self) -> None:
        """Say that there may be something to do, so that the tick comes now."""
        for line in self.lines.values():
            line.ticks.tick_soon()

    def _stand_by(self) -> None:
        """Take note that a run only waits now."""
        self._stir.set()
        # It makes room: for a run that is ready, or, if it is a suspect, for the next one.
        has_suspect = any(each.recorder.is_suspect for each in self._places.executions)
        if self._places.wanted or has_suspect:
            self._places.claim_soon()

    def give_leases_up(self) -> None:
        """Give every lease up. Called from a thread, also when nobody can close this any more."""
        for line in self.lines.values():
            line.registration.give_leases_up()
        if self._loop.is_closed():
            self._threads.close()
