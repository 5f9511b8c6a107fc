"""A step that waits for its next attempt: until that is due, or a person asks for it now.

A provider may have said "in three days", and be there in an hour, since somebody has paid. A signal
of the step's own name asks for the attempt at once. Taking it cuts the recorded wait short in the
same commit, so that a crash right after it waits no more either.
"""

import asyncio
from dataclasses import replace
from typing import Any

from substrate.engine.run.attempts import cut_short
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Wait
from substrate.values.records import Promise

_MANY = 100  # who asks more often than that asks again


async def rest(execution: Execution, row: Promise, due_at: int) -> Promise:
    """Return when that moment has come, or a signal has asked not to wait for it: the row then."""
    while due_at > execution.now_ms:
        # Alarm and version are taken before the look: a signal that comes between wakes the wait.
        alarm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        seen = execution.wakeups.wake_version
        execution.wakeups.alarms.add(alarm)
        try:
            if asked := await execution.access.inbox(row.name, after=0, limit=_MANY):
                hurried = replace(row, attempts=cut_short(row, execution.now_ms))
                return await execution.recorder.take(hurried, [each.dedup for each in asked])
            async with execution.wakeups.waiting(Wait(seen, due_at)):
                await execution.wakeups.sleep_until(due_at, unless=alarm)
        finally:
            execution.wakeups.alarms.discard(alarm)
    return row
