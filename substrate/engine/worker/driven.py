"""A run that this worker drives: the execution that stands for it at present."""

import asyncio

from substrate.engine.run.execution import Execution
from substrate.values.ids import RunId


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

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that drives it."""
        return self.execution.lifecycle.task
