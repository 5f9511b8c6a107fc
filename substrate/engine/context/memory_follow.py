"""`ctx.memory(…).changed`: waits for what is new in a namespace, and holds nothing meanwhile.

No change is missed. The run is entered as a follower in one transaction with the look that has
found nothing; whoever changes the namespace after that marks it as due in the commit of the change;
and a tick of any worker wakes what is due. The wake-up tells nothing: the wait looks again. So a
wake-up too many does no harm, one wake-up is enough for however much has come, and who is killed
between two of these steps leaves the next one to somebody else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Wait
from substrate.values.codec import decode, encode
from substrate.values.memory import Space
from substrate.values.records import JsonText, Promise, PromiseState


async def await_change(
    execution: Execution,
    recorded: Promise | None,
    new_promise: Promise,
    *,
    space: Space,
    since: int,
    ms: int | None,
) -> Promise:
    """Return the promise, resolved with how far the namespace has come, or with `since` again."""
    waiting = recorded or new_promise
    # From the moment that the wait was first recorded, so a restart does not begin it anew.
    due_at = None if ms is None else waiting.created_at + ms

    async def look() -> int | None:
        n = await follow(execution, space, since)
        if n > since:
            return n
        return since if due_at is not None and due_at <= execution.now_ms else None

    n, _ = await wait_beside(execution, waiting, look, lambda: due_at)
    return await execution.recorder.write(resolved(execution, waiting, {"n": n}))


async def follow(execution: Execution, space: Space, after: int) -> int:
    """Return how far a namespace has come; the run is woken when it goes beyond `after`."""
    memory, run_id = execution.services.store.memory, execution.fence.run_id
    retry = execution.access.retry_until_reachable
    return await retry(lambda: memory.follow(space, run_id, after))


async def wait_beside(
    execution: Execution,
    waiting: Promise,
    look: Callable[[], Awaitable[Any]],
    due: Callable[[], int | None],
) -> tuple[Any, Promise]:
    """Look until that finds something, each time the run is woken, and when it is due.

    The row of the wait is written once it is clear that there is something to wait for. Returns
    what was found, and that row.
    """
    wakeups = execution.wakeups
    while True:
        # Alarm and version first, then the look: what comes in between ends the wait.
        alarm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        seen = wakeups.wake_version
        wakeups.alarms.add(alarm)
        try:
            if (found := await look()) is not None:
                return found, waiting
            if not waiting.seq:
                waiting = await execution.recorder.write(waiting)
                if waiting.is_settled:
                    return None, waiting
            due_at = due()
            async with wakeups.waiting(Wait(seen, due_at)):
                if due_at is None:
                    await alarm
                else:
                    await wakeups.sleep_until(due_at, unless=alarm)
        finally:
            wakeups.alarms.discard(alarm)


def resolved(execution: Execution, promise: Promise, value: Any) -> Promise:
    """Return a promise with its value."""
    return replace(
        promise,
        state=PromiseState.RESOLVED,
        value=JsonText(encode(value)),
        settled_at=execution.now_ms,
    )


def number_of(promise: Promise) -> int:
    """Return the number that a wait has recorded."""
    return int(decode(promise.value or JsonText('{"n":0}'))["n"])
