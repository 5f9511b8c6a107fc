"""One line of a worker: its lease there, its tick, and the runs that it drives of that line.

A *line* is what commits in one transaction: one SQLite file, one server, one node. A whole tree of
runs lies on one. A worker has a `Line` for each, with a lease, a committer and a tick of its own:
a database that is slow or away costs the runs of its own line, and nobody else waits for it. Most
stores are one line; then all this is there once. (A *lane* is another thing: queue / function /
version, what is claimed from. Every line has runs of every lane.)

Correctness rests on the whole tick, at each poll: take back the runs of dead workers, wake those
whose time has come, check our own, suspend idle ones, claim ready ones. A hint makes a tick come
sooner, and that one looks only for what the hint was about: see `ticks`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from substrate.engine.function.registry import Registry
from substrate.engine.run.committer import Committer
from substrate.engine.run.execution import Execution
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.run.services import Services
from substrate.engine.run.user_code import is_ctrl_c
from substrate.engine.worker.closing import ended
from substrate.engine.worker.drive import drive
from substrate.engine.worker.driven import DrivenRun, DrivenRuns
from substrate.engine.worker.lanes import Lanes
from substrate.engine.worker.options import WorkerOptions
from substrate.engine.worker.own_runs import OwnRuns
from substrate.engine.worker.places import Places
from substrate.engine.worker.registration import LAST_WAIT, Registration
from substrate.engine.worker.ticks import Tick, Ticks
from substrate.engine.worker.unknown import UnknownFunctions
from substrate.store.crashes import is_suspect
from substrate.store.store import Store
from substrate.values.errors import LeaseLost, StoreError, StoreUnreachable
from substrate.values.ids import RunId
from substrate.values.records import Claim, NewRun, Owner, Run

log = logging.getLogger("ostinato")

_TROUBLE = "the database does not answer as it should"

_RECOVER_EVERY = 0.4
"""Seconds between two looks for dead workers. Postgres needs two of them, so a takeover takes twice
this and a poll: about a second."""


class Line:
    """What a worker does on one line. `stir` is set when a run has left, or only waits now."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        queue: str,
        only: RunId | None,
        options: WorkerOptions,
        places: Places,
        stir: asyncio.Event,
    ) -> None:
        self.store: Store = store
        """Through which this line, and no other, is asked."""
        self.lanes: Lanes = Lanes(store, registry, queue=queue, only=only)
        """What it claims from."""
        self.runs: DrivenRuns = DrivenRuns(self._drive, self._has_left)
        """What it drives."""
        self.starts: dict[asyncio.Future[None], RunId] = {}
        """The runs that are being created here; each is done when that is over."""
        self.troubles: TroubleLog = TroubleLog()
        """Where trouble with this line's database is told."""
        self.registration: Registration = Registration(
            store, self.lanes.names, options.lease, self.troubles
        )
        """Under which name it is known, and for how long."""
        self._registry = registry
        self._only = only
        self._options = options
        self._places = places
        self._stir = stir
        self._unknown = UnknownFunctions(store, options.lease)
        self._own = OwnRuns(store, self.runs, self.starts, self.registration, self.troubles)
        self._refusal: StoreError | None = None  # what the last whole tick was answered
        self.ticks: Ticks = Ticks(options.poll.total_seconds())
        """What makes it tick."""
        self._next_recovery = 0.0

    @property
    def owner(self) -> Owner:
        """The name under which it claims."""
        return self.registration.owner

    @property
    def is_alive(self) -> bool:
        """Whether its lease holds. Asked in any thread."""
        return self.registration.is_alive

    @property
    def executions(self) -> list[Execution]:
        """What it drives. A list of its own: runs may leave while it is gone through."""
        return self.runs.executions

    def register(self) -> asyncio.Task[None]:
        """Begin to register the worker on this line; return the task of it."""
        self._registering = asyncio.create_task(self.registration.register())
        return self._registering

    async def unregister(self) -> None:
        """Break registering off, and leave nothing behind of it."""
        self._registering.cancel()
        await asyncio.gather(self._registering, return_exceptions=True)
        await self.registration.unregister()

    def open(self, services: Callable[["Line", Committer], Services]) -> None:
        """Begin to tick, once it is registered. A line that is away is tried again by its tick."""
        self.committer: Committer = Committer(self.store, self.troubles)
        self.services: Services = services(self, self.committer)
        self._now = asyncio.get_running_loop().time
        self.store.on_followed.add(self.ticks.tick_soon)
        self._watching = asyncio.create_task(self._watch_lease(), name="ostinato-lease")
        self.ticking: asyncio.Task[None] = asyncio.create_task(
            self._tick_forever(), name="ostinato-tick"
        )

    def retire(self, seconds: float) -> None:
        """Beat so long at most, and tick no more, whatever becomes of the event loop."""
        self._registering.cancel()
        self.registration.retire(seconds)
        self.ticks.tick_soon()

    async def close(self, last_word: float) -> None:
        """Give back what is left, and be known no more. The tick has ended by then."""
        self.store.on_followed.discard(self.ticks.tick_soon)
        try:
            await ended({asyncio.ensure_future(self._own.release_all())}, last_word)
        finally:
            self._watching.cancel()
            await ended({self._registering}, LAST_WAIT)
            self.registration.stop()
            await ended({asyncio.ensure_future(self.committer.close())}, LAST_WAIT)
            await self.registration.ended()

    async def start(self, new: NewRun) -> Run:
        """Create a run of this line; where a place is free, already claimed."""
        owner = self.owner if self._free > 0 else None
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.starts[over] = new.id
        try:
            run, claim = await self.store.start(new, owner)
            if claim is None:
                self.ticks.claim_soon()
            else:
                self._adopt(claim)
            return run
        finally:
            del self.starts[over]
            over.set_result(None)

    def wake(self, run_id: RunId, *, for_signal: bool = False) -> None:
        """Say that something was done for a run, which may be driven here or elsewhere.

        A signal to a run that is driven here is found by who waits for it: no tick is needed.
        """
        execution = self.runs.execution_of(run_id)
        if execution is None:
            self.ticks.claim_soon()
            return
        execution.wakeups.wake()
        # One that is leaving may have been suspended before this was done: then it is ready. And a
        # suspect that has recorded something lets the next one be driven.
        claims = execution.lifecycle.is_leaving or is_suspect(execution.claim.run.crashes)
        if claims or not for_signal:
            self.ticks.check_soon(claims=claims)

    async def has_work(self) -> bool:
        """Whether a run of its lanes is ready, or on its way to this line or from it."""
        ready = await self.lanes.count_ready(1)
        return bool(ready or await self.store.owned_runs(self.owner))

    @property
    def _free(self) -> int:
        """How many more runs may be taken on from this line."""
        if self.committer.has_stopped or not self.is_alive:
            return 0
        return self._places.free

    def _adopt(self, claim: Claim) -> None:
        """Drive a claimed run; one that comes too late for this incarnation is given back."""
        run = claim.run
        if self._places.is_closed or claim.fence.owner != self.owner:
            return
        log.info("run %s is taken, claim %d", run.id, run.epoch)
        self.runs.adopt(Execution(claim, self.services))

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
            self._own.note_crash(execution)
            self.ticks.claim_soon()
        self._stir.set()
        # There may be more than we had room for, on any line, or that a suspect kept out.
        if self._places.free == 1 or is_suspect(execution.claim.run.crashes):
            self._places.claim_soon()

    async def _tick_forever(self) -> None:
        await asyncio.wait([self._registering])
        if not self._registering.cancelled() and (error := self._registering.exception()):
            self.troubles.report(_TROUBLE, repr(error))
        while not self._places.is_closed:
            tick = self.ticks.begin()
            try:
                await self._tick(tick)
                if tick.is_whole:  # others may have asked nothing
                    self.troubles.resolved(_TROUBLE)
                    self._refusal = None
            except StoreError as error:
                self.troubles.report(_TROUBLE, error)
                self._refusal = None if isinstance(error, StoreUnreachable) else error
            except Exception as error:  # noqa: BLE001 - told with its trace; the next tick comes
                message = "the worker stumbled, and goes on"
                self.troubles.report(message, repr(error), trace=error)
            self.ticks.end(tick)
            await self.ticks.next()

    async def _tick(self, tick: Tick) -> None:
        """Do what hints were about, or all there is to do."""
        if not self.is_alive:
            await self._reregister()
        if tick.is_whole:
            await self._recover(is_due=bool(tick.awaited) or self._now() >= self._next_recovery)
            await self.store.wake_due()
            await self.store.wake_followers()
        await self._own.release_crashed()
        if tick.is_to_check:
            await self._own.check()
        await self._suspend_idle(is_checked=tick.is_to_check)
        if tick.is_to_claim:
            await self._claim()
        await self.registration.tell_lanes()
        if tick.is_whole and self._only is None:
            await self._unknown.look(self._now())

    async def _recover(self, *, is_due: bool) -> None:
        """Take back the runs of dead workers, if it is time to look for them again."""
        if is_due:
            await self.store.recover()
            self._next_recovery = self._now() + _RECOVER_EVERY

    async def _watch_lease(self) -> None:
        """Let go of every run at the moment the lease lapses, whatever the tick is waiting for."""
        while True:
            await asyncio.sleep(min(max(self.registration.seconds_left, 0.05), 1.0))
            if not self.is_alive:
                self.runs.shut_all(LeaseLost("the worker's lease has lapsed"))

    async def _reregister(self) -> None:
        """Let go of everything, give back what nobody has taken, come back as another."""
        if self.runs or self.starts:
            log.warning("the lease has lapsed; letting go of %d runs", len(self.runs))
        self.runs.shut_all(LeaseLost("the worker's lease has lapsed"))
        await ended({*self.runs.tasks, *self.starts}, LAST_WAIT)
        await self._own.release_all()
        await self.registration.unregister()
        await self.registration.register()

    async def _claim(self) -> None:
        claims: list[Claim] = []
        try:
            await self.lanes.claim(self.owner, lambda: self._free, claims)
        finally:
            for claim in await self._without_most_suspects(claims):
                self._adopt(claim)

    async def _without_most_suspects(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Return the claims that may be driven now; the others are given back before any is."""
        chosen = self._places.suspects.choose(claims, self._places.executions)
        aside = [claim for claim in claims if claim not in chosen]
        if aside:
            with suppress(StoreError):  # then they are found to be orphans, and given back later
                await self.store.release([claim.fence for claim in aside])
        return chosen

    async def _suspend_idle(self, *, is_checked: bool) -> None:
        """Let go of runs that only wait: those that have for long, or whose place is needed."""
        resting = self._places.longest_idle()
        wanted = 0
        if resting and self._free <= 0 and self.is_alive:
            wanted = await self.lanes.count_ready(len(resting))
        needed = self._places.want(self, wanted)
        makes_room = self._places.suspects.has_left_some  # an empty worker tries a suspect alone
        if (needed or makes_room) and not is_checked:
            # A run that was woken without a tick has an older wake version, by which it could not
            # be suspended: its place would be needed until the next poll.
            await self._own.check()
            resting = self._places.longest_idle()
        cold = self._now() - self._options.idle_timeout.total_seconds()
        ours = self.executions
        for place, (since, execution) in enumerate(resting):
            if execution not in ours:
                continue
            if place < needed or since <= cold or execution.recorder.is_suspect or makes_room:
                await self._own.shut_if_broken(execution, execution.wakeups.suspend())

    async def give_back(self, run_id: RunId) -> None:
        """Give a run back that is ours and that nobody drives; see `Worker.give_back`."""
        if await self._own.give_back(run_id) and self._refusal is not None:
            raise self._refusal
