"""Waiting for a run from outside: when to read its row again, and how to read its outcome.

No change is missed between two reads: the event for the next change is fetched before each read.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from substrate.engine.failure import decode_failure, error_of_run
from substrate.engine.function.function import Durable
from substrate.engine.run.execution import Execution
from substrate.engine.run.services import log
from substrate.engine.run.unreadable import unreadable
from substrate.engine.worker.unknown import missing_worker
from substrate.store.store import Store
from substrate.values.codec import decode
from substrate.values.errors import (
    Failure,
    Forgotten,
    RunCancelled,
    RunDead,
    RunFailed,
    RunPaused,
    StoreUnusable,
)
from substrate.values.ids import RunId
from substrate.values.records import JsonText, Promise, PromiseState, Run, RunStatus

_UNKNOWN_S = 2.0  # seconds of waiting before a warning that no worker knows the function
_POLL = (0.02, 0.25)  # seconds between two reads of a run driven elsewhere: first, longest


class UnknownWatch:
    """Warns once, after a while, if no worker can drive the run that somebody waits for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: float | None = asyncio.get_running_loop().time() + _UNKNOWN_S

    async def look(self, run: Run) -> None:
        """Log the warning if it is due and no worker knows the run's function."""
        now = asyncio.get_running_loop().time()
        if self._ends is None or now < self._ends:
            return
        self._ends = now + _UNKNOWN_S
        if missing := await missing_worker(self._store, run):
            self._ends = None
            log.warning(
                "run %s waits for a worker of queue %r that knows %s, and there is none; give that "
                "function to work([…]), or start the code that has it",
                run.id,
                run.queue,
                missing,
            )


class Looks:
    """When to read a run again: at each change if it is driven here, else less and less often."""

    def __init__(self, execution_of: Callable[[RunId], Execution | None], run_id: RunId) -> None:
        self._execution_of = execution_of
        self._run_id = run_id
        self._changed: asyncio.Event | None = None
        self._pause, self._longest = _POLL

    def begin(self) -> None:
        """Register for the next change. Call this before each read, so that no change is missed."""
        execution = self._execution_of(self._run_id)
        self._changed = execution.recorder.next_change if execution else None

    def found(self) -> None:
        """Read often again, since something has changed."""
        self._pause = _POLL[0]

    async def last(self) -> bool:
        """Wait, at most a second, until the run is not driven here; False if it was not at all."""
        execution = self._execution_of(self._run_id)
        if execution is None or execution.lifecycle.task is None:
            return False
        await asyncio.wait([execution.lifecycle.task], timeout=1)
        return True

    async def next(self) -> None:
        """Return when it is time for the next read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await (self._changed or asyncio.Event()).wait()
        self._pause = min(self._pause * 1.5, self._longest)


def result_of_run(run: Run, promise: Promise, function: Durable[..., Any] | None) -> Any:
    """Return the result of a run, or raise the reason why it has none."""
    try:
        return _read(run, promise, function)
    except (RunPaused, RunFailed, Forgotten):
        raise
    except Exception:
        if failure := unreadable(promise):
            raise StoreUnusable(failure.message) from None
        raise


def _read(run: Run, promise: Promise, function: Durable[..., Any] | None) -> Any:
    if promise.state is PromiseState.RESOLVED:
        value = promise.value or JsonText("null")
        return function.decode_result(value) if function else decode(value)
    if run.status is RunStatus.PAUSED:
        raise RunPaused(run.id, decode_failure(promise))
    error = error_of_run(promise)
    was = f"{error.failure.type}: {error.failure.message}"
    if run.status is RunStatus.FAILED and isinstance(error, RunDead):
        # A child's row keeps what its parent was told, before a person resumed it.
        told = f"what {run.id} did is undone by now; before, its parent was told {was}"
        raise RunFailed(run.id, Failure("Undone", told))
    if run.status is RunStatus.CANCELLED and not isinstance(error, RunCancelled):
        # It had failed, or was dead, before it was given up or undone: its row keeps why.
        fact = "is cancelled" if run.parent_id and run.cancel_requested else "was discarded"
        raise RunCancelled(run.id, Failure("Discarded", f"{run.id} {fact}; before, {was}"))
    raise error


def is_over(run: Run) -> bool:
    """Whether the run has ended, or is paused until a person acts."""
    return run.status.has_ended or run.status is RunStatus.PAUSED
