"""The wait of a step for its next attempt: it ends when that is due, or when a person asks for it.

A provider may say "in three days" and work again in an hour, because somebody has paid. A signal
with the step's own name asks for the attempt at once. The commit that takes the signal also cuts
the recorded wait short, so a crash right after it does not wait again.
"""

import asyncio
from dataclasses import replace
from typing import Any

from substrate.engine.run.attempts import cut_short
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Wait
from substrate.values.records import Promise

_MANY = 100  # signals taken at once, at most


async def wait_for_retry(execution: Execution, row: Promise, due_at: int) -> Promise:
    """Wait until `due_at`, or until a signal ends the wait and changes the row; return the row."""
    while due_at > execution.now_ms:
        # Alarm and version first, then the inbox: a signal that comes in between ends the wait.
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
