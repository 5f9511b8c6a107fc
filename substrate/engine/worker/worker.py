"""A worker: claims runs of the lanes it knows, drives them, and gives back what it cannot end.

Correctness rests on one tick: take back the runs of dead workers, wake those whose time has come,
check our own, suspend idle ones, claim ready ones. A hint only makes the tick come sooner. A run
that is ours in the database and is not driven here is given back, however that came about.

A worker that closes tells its heartbeat first, and at once, when to end at the latest; the rest
runs in a task that no cancellation of its caller reaches. So however it is cut off, at worst its
lease lapses.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from substrate.engine.function.function import Durable
from substrate.engine.function.place import described
from substrate.engine.function.registry import Registry
from substrate.engine.run.committer import Committer
from substrate.engine.run.execution import Execution
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.run.services import Listener, Services, tell_nobody
from substrate.engine.run.threads import Threads
from substrate.engine.run.user_code import is_ctrl_c
from substrate.engine.worker.closing import STOPPING, calls_that_must_end, wind_down
from substrate.engine.worker.drive import drive, give_up
from substrate.engine.worker.driven import DrivenRun, DrivenRuns
from substrate.engine.worker.heartbeat import Heartbeat
from substrate.engine.worker.lanes import Lanes
from substrate.engine.worker.options import DEFAULT_OPTIONS, WorkerOptions
from substrate.engine.worker.orphans import Orphans, ended, longest_idle
from substrate.engine.worker.registration import LAST_WAIT, Registration
from substrate.engine.worker.suspects import Suspects
from substrate.engine.worker.unknown import UnknownFunctions
from substrate.engine.worker.watchdog import LoopWatch
from substrate.store.crashes import is_suspect
from substrate.store.shield import to_its_end
from substrate.store.store import Store
from substrate.values.clock import OffsetClock
from substrate.values.errors import (
    CheckpointRefused,
    Interrupt,
    LeaseLost,
    Misuse,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.ids import RunId, check_name, part_of
from substrate.values.records import Claim, Fence, NewRun, OwnedRun, Owner, Promise, Run

log = logging.getLogger("ostinato")

_TROUBLE = "the database does not answer as it should"
_LAST_WORD = 5.0  # seconds for what is still told to the database; one that is silent is left
_CLOSING = 2 * _LAST_WORD + 3 * LAST_WAIT  # seconds of closing beyond the grace period, at most


class Worker:
    """Drives runs in this process. Use `Client.work`, which starts and stops it."""

    def __init__(
        self,
        store: Store,
        functions: Iterable[Durable[..., Any]],
        *,
        queue: str = "default",
        options: WorkerOptions = DEFAULT_OPTIONS,
        on_event: Listener = tell_nobody,
        only: RunId | None = None,
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
        self._lanes = Lanes(store, self._registry, queue=self._queue, only=only)
        self._listener = on_event
        self._only = only
        self._runs = DrivenRuns(self._drive, self._has_left)
        self._orphans = Orphans()
        self._unknown = UnknownFunctions(store, options.lease)
        self._crashed: list[Execution] = []
        self._starts: dict[asyncio.Future[None], RunId] = {}
        self._tick_soon = asyncio.Event()
        self._stir = asyncio.Event()
        self._awaited: list[asyncio.Future[None]] = []
        self._is_stopping = False
        self._is_hurried = False
        self._troubles = TroubleLog()
        self._registration = Registration(store, self._lanes.names, options.lease, self._troubles)

    @property
    def _owner(self) -> Owner:
        return self._registration.owner

    @property
    def _heartbeat(self) -> Heartbeat:
        return self._registration.heartbeat

    async def open(self) -> None:
        """Register, and begin to claim. Cancelled meanwhile, it leaves nothing behind."""
        await self._registration.register()
        self._threads = Threads(self.options.threads)
        self._committer = Committer(self.store, self._troubles)
        has_own_time = isinstance(self.store.clock, OffsetClock)
        self._services = Services(
            self.store,
            self._committer,
            self.store.clock,
            self._threads,
            self._listener,
            lambda: self._heartbeat.is_alive,
            lease_s=self.options.lease.total_seconds(),
            warm_s=self.options.idle_timeout.total_seconds() if has_own_time else 0.0,
            functions=self._registry,
            queue=self._queue,
            on_wake=self.wake,
            on_idle=self._stand_by,
            troubles=self._troubles,
        )
        self._suspects = Suspects(asyncio.get_running_loop().time)
        self._watch = LoopWatch(self._give_leases_up)
        self._watching = asyncio.create_task(self._watch_lease(), name="ostinato-lease")
        self._ticking = asyncio.create_task(self._tick_forever(), name="ostinato-tick")

    async def close(self) -> None:
        """Stop claiming, let running steps end for the grace period, give every run back.

        Who is cancelled meanwhile gets the cancellation when that has been done.
        """
        self._is_stopping = True
        self._heartbeat.retire(self.options.shutdown_grace.total_seconds() + _CLOSING)
        self.tick_soon()
        for execution in self._runs.executions:
            if execution.idle.idle_since is None:
                execution.lifecycle.drain(Shutdown(STOPPING))
        await to_its_end(self._close())

    def hurry(self) -> Sequence[Promise]:
        """Have `close` wait for those calls only that may not be made twice; return their intents.

        What else is under way is cut off, and done again by whoever drives its run next.
        """
        self._is_hurried = True
        return [
            call for execution in self._runs.executions for call in calls_that_must_end(execution)
        ]

    async def _close(self) -> None:
        """Close in order. The end of the event loop may cancel this, too: it goes on to the end."""
        try:
            await self._leave()
        finally:
            try:
                await ended({asyncio.ensure_future(self._release_all())}, _LAST_WORD)
            finally:
                self._watching.cancel()
                self._watch.stop()
                self._threads.close()
                self._heartbeat.stop()
                await ended({asyncio.ensure_future(self._committer.close())}, LAST_WAIT)
                await self._heartbeat.ended(LAST_WAIT)

    async def _leave(self) -> None:
        """Suspend what only waits, and wait for the steps of all else to end."""
        await ended({asyncio.ensure_future(self._suspend_all())}, _LAST_WORD)
        for execution in self._runs.executions:
            execution.lifecycle.drain(Shutdown(STOPPING))
        await wind_down(
            {self._ticking, *self._starts, *self._runs.tasks},
            lambda: self._runs.executions,
            self.options.shutdown_grace.total_seconds(),
            is_hurried=self._is_hurried,
        )

    async def _suspend_all(self) -> None:
        with suppress(StoreError):  # then what waits is given back like all else
            for execution in self._runs.executions:
                await execution.wakeups.suspend()

    @property
    def running(self) -> int:
        """How many runs are being driven."""
        return len(self._runs)

    def takes(self, lane: str, run_id: str) -> bool:
        """Whether this worker would claim a run of this id from the lane."""
        return self._lanes.takes(lane, run_id)

    def recognise(self, function: Durable[..., Any]) -> None:
        """See that what is started here is what this worker drives; take up what is redefined.

        Raises `Misuse` for another function under a name that it knows.
        """
        self._services.recognise(function)

    async def start(self, new: NewRun) -> Run:
        """Create a run; where a place is free, already claimed by this worker."""
        owner = self._owner if self._free > 0 else None
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._starts[over] = new.id
        try:
            run, claim = await self.store.start(new, owner)
            if claim is None:
                self.tick_soon()
            else:
                self._adopt(claim)
            return run
        finally:
            del self._starts[over]
            over.set_result(None)

    def execution_of(self, run_id: RunId) -> Execution | None:
        """Return the execution of a run that is being driven here."""
        return self._runs.execution_of(run_id)

    def wake(self, run_id: RunId) -> None:
        """Say that something was done for a run, which may be driven here or elsewhere."""
        if execution := self._runs.execution_of(run_id):
            execution.wakeups.wake()
        self.tick_soon()

    async def run_until_idle(self) -> None:
        """Drive until each run of its lanes has ended, or waits for what has not come yet.

        What only waits is let go at once, however short its wait. For tests: with a clock of their
        own they move to `Store.next_due_at` then, and call this again.
        """
        while True:
            self._stir.clear()
            self.tick_soon()
            await self._ticked()
            for execution in self._runs.executions:
                await execution.wakeups.suspend()
            if not (self._runs or self._starts or await self._has_work()):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.poll.total_seconds()):
                    await self._stir.wait()

    async def _has_work(self) -> bool:
        """Whether a run of its lanes is ready, or on its way to this worker or from it."""
        ready = await self._lanes.count_ready(1)
        return bool(ready or await self.store.owned_runs(self._owner))

    def tick_soon(self) -> None:
        """Say that there may be something to do, so that the tick comes now."""
        self._tick_soon.set()

    @property
    def _free(self) -> int:
        """How many more runs may be taken on."""
        if self._is_stopping or self._committer.has_stopped or not self._heartbeat.is_alive:
            return 0
        if self._suspects.keeps_others_out(self._runs.executions):
            return 0
        return self.options.concurrency - len(self._runs) - len(self._starts)

    def _adopt(self, claim: Claim) -> None:
        """Drive a claimed run; one that comes too late for this incarnation is given back."""
        run = claim.run
        if self._is_stopping or claim.fence.owner != self._owner:
            return
        log.info("run %s is taken, claim %d", run.id, run.epoch)
        self._runs.adopt(Execution(claim, self._services))

    async def _drive(self, driven: DrivenRun) -> None:
        run = driven.execution.claim.run
        try:
            # Looked up here, where it fails this run alone: its lane may say something else.
            await drive(driven, self._registry[run.function, run.version])
        except (SystemExit, KeyboardInterrupt) as error:
            # Of a value or an error that the kit has looked at. asyncio would end the worker by it.
            if is_ctrl_c(error):
                raise
            raise RuntimeError(f"code of the run raised {type(error).__name__}") from error

    def _has_left(self, execution: Execution) -> None:
        """Take note that a run is driven here no more."""
        if execution.lifecycle.crash is not None:
            self._crashed.append(execution)
            self.tick_soon()
        self._stir.set()
        # There may be more than we had room for, or that a suspect kept out.
        if self._free == 1 or is_suspect(execution.claim.run.crashes):
            self.tick_soon()

    def _stand_by(self) -> None:
        """Take note that a run only waits now."""
        self._stir.set()
        if any(execution.recorder.is_suspect for execution in self._runs.executions):
            self.tick_soon()

    async def _ticked(self) -> None:
        """Return when a whole tick has passed from now on."""
        tick = asyncio.get_running_loop().create_future()
        self._awaited.append(tick)
        self.tick_soon()
        await tick

    async def _tick_forever(self) -> None:
        while not self._is_stopping:
            self._tick_soon.clear()
            awaited, self._awaited = self._awaited, []
            try:
                await self._tick()
                self._troubles.end(_TROUBLE)
            except StoreError as error:
                self._troubles.make(_TROUBLE, error)
            except Exception as error:  # noqa: BLE001 - told with its trace; the next tick comes
                message = "the worker stumbled, and goes on"
                self._troubles.make(message, repr(error), trace=error)
            for tick in awaited:
                if not tick.done():
                    tick.set_result(None)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.poll.total_seconds()):
                    await self._tick_soon.wait()

    async def _tick(self) -> None:
        if not self._heartbeat.is_alive:
            await self._reregister()
        await self.store.recover()
        await self.store.wake_due()
        await self._count_crashes()
        await self._check_own_runs()
        await self._suspend_idle()
        await self._claim()
        await self._registration.tell_lanes()
        if self._only is None:
            await self._unknown.look(asyncio.get_running_loop().time())

    async def _watch_lease(self) -> None:
        """Let go of every run at the moment the lease lapses, whatever the tick is waiting for."""
        while True:
            await asyncio.sleep(min(max(self._heartbeat.seconds_left, 0.05), 1.0))
            if not self._heartbeat.is_alive:
                self._runs.shut_all(LeaseLost("the worker's lease has lapsed"))

    def _give_leases_up(self) -> None:
        """Give every lease up. Called from a thread, also when nobody can close this any more."""
        self._heartbeat.give_up()
        if self._ticking.get_loop().is_closed():
            self._threads.close()

    async def _reregister(self) -> None:
        """Let go of everything, give back what nobody has taken, come back as another."""
        if self._runs or self._starts:
            log.warning("the lease has lapsed; letting go of %d runs", len(self._runs))
        self._runs.shut_all(LeaseLost("the worker's lease has lapsed"))
        await ended({*self._runs.tasks, *self._starts}, LAST_WAIT)
        await self._release_all()
        await self._registration.unregister()
        await self._registration.register()

    async def _claim(self) -> None:
        claims: list[Claim] = []
        try:
            await self._lanes.claim(self._owner, lambda: self._free, claims)
        finally:
            for claim in await self._without_most_suspects(claims):
                self._adopt(claim)

    async def _without_most_suspects(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Return the claims that may be driven now; the others are given back before any is."""
        chosen = self._suspects.choose(claims, self._runs.executions)
        aside = [claim for claim in claims if claim not in chosen]
        if aside:
            with suppress(StoreError):  # then they are found to be orphans, and given back later
                await self.store.release([claim.fence for claim in aside])
        return chosen

    async def _check_own_runs(self) -> None:
        """Wake runs that something came for; let go of runs that are not ours any more."""
        # Taken before the query: what is adopted or replaced meanwhile is not in its answer.
        driven = self._runs.executions
        owned_runs = {inbox.run_id: inbox for inbox in await self.store.owned_runs(self._owner)}
        has_lost_run = False
        for execution in driven:
            run_id = execution.fence.run_id
            inbox = owned_runs.get(run_id)
            if inbox is not None and inbox.epoch == execution.fence.epoch:
                execution.wakeups.check_time()
                await self._unless_broken(execution, execution.wakeups.look(inbox))
            elif self.execution_of(run_id) is execution and not execution.lifecycle.is_leaving:
                execution.lifecycle.shut(LeaseLost(f"run {run_id!r} belongs to another worker now"))
                has_lost_run = True
        if has_lost_run:
            # We may have been struck off the register. Then whoever did so has counted a crash for
            # each run of ours, and would for what we claim now under a name that is no more.
            await self._heartbeat.confirm()
        await self._release_orphans(list(owned_runs.values()))

    async def _count_crashes(self) -> None:
        """Give back runs that crashed by themselves, while their worker goes on."""
        while self._crashed:
            execution = self._crashed.pop()
            if execution.lifecycle.crash is not None:
                with suppress(Interrupt):
                    await self._unless_broken(
                        execution, give_up(execution, execution.lifecycle.crash)
                    )

    async def _unless_broken(self, execution: Execution, work: Awaitable[None]) -> None:
        """Do something for one run; where its rows are broken, that keeps up no other."""
        try:
            await work
        except StoreUnreachable:
            raise
        except StoreError as error:
            run_id = execution.fence.run_id
            if isinstance(error, CheckpointRefused):  # its own rows are at fault: each is named
                self._troubles.make(f"run {run_id} stands still", error, apart=run_id)
            else:
                who = f"run {run_id} and perhaps others"
                self._troubles.make(f"{who} go on elsewhere or later", error)
            execution.lifecycle.shut(Shutdown(f"the database fails: {error}"))

    async def _suspend_idle(self) -> None:
        """Let go of runs that only wait: those that have for long, or whose place is needed."""
        resting = longest_idle(self._runs.executions)
        needed = 0
        if resting and self._free <= 0 and self._heartbeat.is_alive:
            needed = await self._lanes.count_ready(len(resting))
        makes_room = self._suspects.has_left_some  # an empty worker tries a suspect alone
        cold = asyncio.get_running_loop().time() - self.options.idle_timeout.total_seconds()
        for place, (since, execution) in enumerate(resting):
            if place < needed or since <= cold or execution.recorder.is_suspect or makes_room:
                await self._unless_broken(execution, execution.wakeups.suspend())

    async def _release_orphans(self, seen: Sequence[OwnedRun]) -> None:
        """Give back runs that are ours and that nobody drives: a driver failed at the database."""
        at_hand = self._runs.ids | set(self._starts.values())
        orphans = [inbox for inbox in seen if inbox.run_id not in at_hand]
        lasting = self._orphans.lasting(orphans, asyncio.get_running_loop().time())
        if lasting:
            message = f"giving back {len(lasting)} runs, {lasting[0].run_id} among them"
            self._troubles.make(message, "nobody drives them")
            await self._release(lasting)

    async def _release_all(self) -> None:
        """Give back whatever the database says is ours, driven or not."""
        try:
            await self._release(await self.store.owned_runs(self._owner))
        except StoreError as error:
            self._troubles.make("runs not given back; their lease will lapse", error)

    async def _release(self, owned_runs: Sequence[OwnedRun]) -> None:
        await self.store.release(
            [Fence(i.run_id, part_of(i.run_id), i.epoch, self._owner) for i in owned_runs]
        )
