"""The runs of a worker on one of its lines (see `line`): what it drives, and what it owns.

The database says which runs this worker owns; the process knows which ones it drives.

- A run that is owned and driven is woken when something has come for it.
- A run that is driven and not owned is shut with `LeaseLost`: another worker has it.
- A run that is owned and not driven is given back, whatever the cause.
- A run whose own rows are broken is shut alone. The others go on.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from substrate.engine.run.execution import Execution
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.worker.drive import release_as_crashed
from substrate.engine.worker.driven import DrivenRuns
from substrate.engine.worker.registration import Registration
from substrate.engine.worker.undriven import UndrivenRuns
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
        self._undriven = UndrivenRuns()
        self._crashed: list[Execution] = []

    def note_crash(self, execution: Execution) -> None:
        """Remember a run that has crashed by itself, for `release_crashed`."""
        self._crashed.append(execution)

    async def check(self) -> None:
        """Compare what is owned with what is driven, and treat each run as said above."""
        # Listed before the query: a run that is taken on during the query is not in its answer, and
        # would look lost.
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
                await self.shut_if_broken(execution, execution.wakeups.look(seen))
            elif self._is_driven(execution):
                execution.lifecycle.shut(LeaseLost(f"run {run_id!r} belongs to another worker now"))
                has_lost_run = True
        if has_lost_run:
            # Another worker may have declared this one dead. A claim made under the old name would
            # then count as one more crash. So no claim is made before the register has answered.
            await self._registration.confirm()
        await self._release_undriven(list(owned_runs.values()))

    def _is_driven(self, execution: Execution) -> bool:
        """Whether this is still the execution of its run, and is not about to leave by itself."""
        is_current = self._runs.execution_of(execution.fence.run_id) is execution
        return is_current and not execution.lifecycle.is_leaving

    async def release_crashed(self) -> None:
        """Give back runs that crashed by themselves, while their worker goes on."""
        while self._crashed:
            execution = self._crashed.pop()
            if execution.lifecycle.crash is not None:
                with suppress(Interrupt):
                    await self.shut_if_broken(
                        execution, release_as_crashed(execution, execution.lifecycle.crash)
                    )

    async def shut_if_broken(self, execution: Execution, work: Awaitable[None]) -> None:
        """Await some work for one run. Where its rows are broken, shut this run and no other."""
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
        """Give a run back that this worker owns and does not drive; False where it drives it."""
        if run_id in self._driven_or_starting:
            return False
        owned = await self._store.owned_runs(self._registration.owner)
        await self._release([each for each in owned if each.run_id == run_id])
        return True

    @property
    def _driven_or_starting(self) -> frozenset[RunId]:
        """The runs that are driven here, and those whose start has not been answered yet."""
        return self._runs.ids | set(self._starts.values())

    async def _release_undriven(self, owned: Sequence[OwnedRun]) -> None:
        """Give back runs that nobody drives: their drivers could not write to the database."""
        driven = self._driven_or_starting
        undriven = [each for each in owned if each.run_id not in driven]
        due = self._undriven.due(undriven, asyncio.get_running_loop().time())
        if due:
            message = f"giving back {len(due)} runs, {due[0].run_id} among them"
            self._troubles.report(message, "nobody drives them")
            await self._release(due)

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
