"""How a worker that stops waits for what it drives: for a while, and then no more.

In a hurry it waits only for calls of which nobody would know whether they happened. All else is cut
off at once, and done again by whoever drives its run next.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from substrate.engine.run.attempts import next_attempt_at
from substrate.engine.run.execution import Execution
from substrate.engine.worker.registration import LAST_WAIT
from substrate.values.errors import Shutdown
from substrate.values.records import Effect, Promise

log = logging.getLogger("ostinato")

STOPPING = "the worker is stopping"
"""Why a run is interrupted by a worker that stops."""

_BRIEF = 0.3  # seconds in which a step may end before it is cut off, by who is in a hurry
_LOOK = 0.05  # seconds between two looks whether a call is over that must end

Executions = Callable[[], Iterable[Execution]]
"""What a worker drives, as it stands when this is called."""


async def wind_down(
    tasks: set[asyncio.Future[None]], executions: Executions, grace_s: float, *, is_hurried: bool
) -> None:
    """Wait for everything to end, cancel what does not, leave behind what will not."""
    if is_hurried:
        late = await _cut_off(tasks, executions, grace_s)
    else:
        late = await ended(tasks, grace_s)
    if late:
        log.warning("%d tasks did not end in the grace period", len(late))
        for execution in executions():
            execution.lifecycle.shut(Shutdown(STOPPING))
        for task in late:
            task.cancel()
        if left := await ended(late, LAST_WAIT):
            log.error("%d tasks ignore their cancellation and are left behind", len(left))


async def _cut_off(
    tasks: set[asyncio.Future[None]], executions: Executions, grace_s: float
) -> set[asyncio.Future[None]]:
    """Cut each run off that has no call under way that must end; wait for the others."""
    now = asyncio.get_running_loop().time
    ends, cut = now() + grace_s, set[asyncio.Task[None]]()
    late = await ended(tasks, _BRIEF)
    while late and now() < ends:
        driven = list(executions())
        held = [each for each in driven if calls_that_must_end(each)]
        for each in driven:
            task = each.lifecycle.task
            if task is not None and each not in held and task not in cut:
                each.lifecycle.shut(Shutdown(STOPPING))
                task.cancel()
                cut.add(task)
        late = await ended(late, _LOOK if held else _BRIEF)
        if not held:
            break
    return late


def calls_that_must_end(execution: Execution) -> Sequence[Promise]:
    """Return the calls under way in a run of which nobody would know whether they happened."""
    steps = [each for each in execution.open.pending.values() if each.effect is Effect.ONCE]
    return [each for each in steps if next_attempt_at(each) is None]


async def ended(tasks: set[asyncio.Future[None]], seconds: float) -> set[asyncio.Future[None]]:
    """Wait so long for all to end; return those that have not."""
    if not tasks:
        return set()
    return (await asyncio.wait(tasks, timeout=seconds))[1]
