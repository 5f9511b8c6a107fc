"""The runs that this worker drives: a task for each, and the execution that stands for it now.

A run is here from its adoption until its driver has ended. One that is claimed anew meanwhile takes
the place of the former, which is shut.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from substrate.engine.failure import failure_of
from substrate.engine.run.execution import Execution
from substrate.values.errors import Interrupt, LeaseLost
from substrate.values.ids import RunId

log = logging.getLogger("ostinato")


class DrivenRun:
    """One claim of this worker, from its adoption until its driver has ended."""

    __slots__ = ("execution",)

    def __init__(self, execution: Execution) -> None:
        self.execution: Execution = execution
        """It is followed by another where the run is unwound, or driven again."""

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.execution.fence.run_id


class DrivenRuns:
    """All of them. `on_left` is called with the last execution of each, when it is gone."""

    def __init__(
        self,
        driver: Callable[[DrivenRun], Coroutine[Any, Any, None]],
        on_left: Callable[[Execution], None],
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        """What drives them, those included that a run claimed anew has left behind."""
        self._driver = driver
        self._on_left = on_left
        self._runs: dict[RunId, DrivenRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def ids(self) -> frozenset[RunId]:
        """The ids of the runs."""
        return frozenset(self._runs)

    @property
    def executions(self) -> list[Execution]:
        """What stands for them now. A list of its own: runs may leave while it is gone through."""
        return [run.execution for run in self._runs.values()]

    def execution_of(self, run_id: RunId) -> Execution | None:
        """Return the execution of a run that is driven here."""
        run = self._runs.get(run_id)
        return run.execution if run else None

    def adopt(self, execution: Execution) -> None:
        """Drive a run that was just claimed."""
        run = DrivenRun(execution)
        if former := self._runs.get(run.id):
            former.execution.lifecycle.shut(LeaseLost(f"run {run.id!r} has been claimed anew"))
        self._runs[run.id] = run
        task = asyncio.create_task(self._driver(run), name=f"ostinato-run {run.id}")
        execution.lifecycle.task = task
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, run))

    def shut_all(self, interrupt: Interrupt) -> None:
        """Let go of every run now."""
        for execution in self.executions:
            execution.lifecycle.shut(interrupt)

    def _ended(self, run: DrivenRun, task: asyncio.Task[None]) -> None:
        lifecycle = run.execution.lifecycle
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            lifecycle.crash = failure_of(error)
            # Its traceback is told as text: logging would ask the error itself.
            trace = lifecycle.crash.traceback
            log.error("run %s crashed: its driver failed\n%s", run.id, trace)
        elif lifecycle.crash is not None:
            log.error("run %s crashed: %s", run.id, lifecycle.crash.message)
        if self._runs.get(run.id) is run:  # not where it has been claimed anew meanwhile
            del self._runs[run.id]
        self._on_left(run.execution)
