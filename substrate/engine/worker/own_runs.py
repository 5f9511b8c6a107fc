"""The runs that a worker has on one line: woken, let go when they are lost, given back.

- What is driven here and is not ours in the database is let go: another worker has it.
- What is ours in the database and is not driven here is given back, however that came about.
- A run whose own rows are broken is let go alone, and keeps up no other.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from substrate.engine.run.execution import Execution
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.worker.drive import give_up
from substrate.engine.worker.driven import DrivenRuns
from substrate.engine.worker.orphans import Orphans
from substrate.engine.worker.registration import Registration
from substrate.store.store import Store
from substrate.values.errors import (
    CheckpointRefused,
    Interrupt,
    LeaseLost,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.ids import RunId, part_of
from substrate.values.records import Fence, OwnedRun


class OwnRuns:
    """What the ticks of a line do for its own runs."""

    def __init__(
        self,
        store: Store,
        runs: DrivenRuns,
        starts: Mapping[Any, RunId],
        registration: Registration,
        troubles: TroubleLog,
    ) -> None:
        self._store = store
        self._runs = runs
        self._starts = starts
        self._registration = registration
        self._troubles = troubles
        self._orphans = Orphans()
        self._crashed: list[Execution] = []

    def crashed(self, execution: Execution) -> None:
        """Note a run that has crashed by itself, for `count_crashes`."""
        self._crashed.append(execution)

    async def check(self) -> None:
        """Wake runs that something came for; let go of runs that are not ours any more."""
        # Taken before the query: what is adopted or replaced meanwhile is not in its answer.
        driven = self._runs.executions
        owned_runs = {
            seen.run_id: seen for seen in await self._store.owned_runs(self._registration.owner)
        }
        has_lost_run = False
        for execution in driven:
            run_id = execution.fence.run_id
            seen = owned_runs.get(run_id)
            if seen is not None and seen.epoch == execution.fence.epoch:
                execution.wakeups.check_time()
                await self.unless_broken(execution, execution.wakeups.look(seen))
            elif (
                self._runs.execution_of(run_id) is execution and not execution.lifecycle.is_leaving
            ):
                execution.lifecycle.shut(LeaseLost(f"run {run_id!r} belongs to another worker now"))
                has_lost_run = True
        if has_lost_run:
            # We may have been struck off the register. Then whoever did so has counted a crash for
            # each run of ours, and would for what we claim now under a name that is no more.
            await self._registration.confirm()
        await self._release_orphans(list(owned_runs.values()))

    async def count_crashes(self) -> None:
        """Give back runs that crashed by themselves, while their worker goes on."""
        while self._crashed:
            execution = self._crashed.pop()
            if execution.lifecycle.crash is not None:
                with suppress(Interrupt):
                    await self.unless_broken(
                        execution, give_up(execution, execution.lifecycle.crash)
                    )

    async def unless_broken(self, execution: Execution, work: Awaitable[None]) -> None:
        """Do something for one run; where its rows are broken, that keeps up no other."""
        try:
            await work
        except StoreUnreachable:
            raise
        except StoreError as error:
            run_id = execution.fence.run_id
            if isinstance(error, CheckpointRefused):  # its own rows are at fault: each is named
                self._troubles.report(f"run {run_id} cannot go on", error, apart=run_id)
            else:
                who = f"run {run_id} and perhaps others"
                self._troubles.report(f"{who} go on elsewhere or later", error)
            execution.lifecycle.shut(Shutdown(f"the database fails: {error}"))

    async def give_back(self, run_id: RunId) -> bool:
        """Give a run back that is ours and that nobody drives; False where it is driven."""
        if run_id in self._at_hand:
            return False
        owned = await self._store.owned_runs(self._registration.owner)
        await self._release([each for each in owned if each.run_id == run_id])
        return True

    @property
    def _at_hand(self) -> frozenset[RunId]:
        """The runs that are driven here, or may be in a moment."""
        return self._runs.ids | set(self._starts.values())

    async def _release_orphans(self, seen: Sequence[OwnedRun]) -> None:
        """Give back runs that are ours and that nobody drives: a driver failed at the database."""
        at_hand = self._at_hand
        orphans = [each for each in seen if each.run_id not in at_hand]
        lasting = self._orphans.lasting(orphans, asyncio.get_running_loop().time())
        if lasting:
            message = f"giving back {len(lasting)} runs, {lasting[0].run_id} among them"
            self._troubles.report(message, "nobody drives them")
            await self._release(lasting)

    async def release_all(self) -> None:
        """Give back whatever the database says is ours, driven or not."""
        try:
            await self._release(await self._store.owned_runs(self._registration.owner))
        except StoreError as error:
            self._troubles.report("runs not given back; their lease will lapse", error)

    async def _release(self, owned_runs: Sequence[OwnedRun]) -> None:
        await self._store.release(
            [
                Fence(i.run_id, part_of(i.run_id), i.epoch, self._registration.owner)
                for i in owned_runs
            ]
        )
