"""Waiting: for a moment, or for a value from outside.

Both record first until when they wait, so that after a crash they wait for the same moment.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from substrate.engine.execution import Execution
from substrate.engine.failure import Raised
from substrate.values.clock import Clock
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse, SignalExpired
from substrate.values.records import Json, Promise, PromiseState

_LONGEST = 60.0  # seconds; so often a wait looks at the clock, which may have been set meanwhile


async def await_timer(
    execution: Execution, recorded: Promise | None, blank: Promise, due: Callable[[], int]
) -> Promise:
    """Return the settled timer. `due` is asked only when nothing was recorded yet."""
    timer = recorded
    if timer is None:
        timer = await execution.write(replace(blank, input=_until(due())))
    while (left := _seconds_left(execution, timer) or 0) > 0:
        await execution.means.clock.sleep(min(left, _LONGEST))
    return await execution.write(
        replace(
            timer,
            state=PromiseState.RESOLVED,
            value=Json("null"),
            settled_at=execution.now_ms,
        )
    )


async def await_signal(
    execution: Execution, recorded: Promise | None, blank: Promise, seconds: float | None
) -> Promise:
    """Return the promise, resolved with a signal or expired. A signal that is there wins."""
    waiting = recorded
    if waiting is None:
        due = None if seconds is None else execution.now_ms + round(seconds * 1000)
        waiting = replace(blank, input=_until(due))
        if taken := await execution.take_signal(waiting):
            return taken
        waiting = await execution.write(waiting)
    while not waiting.is_settled:
        woken = execution.next_wake
        if taken := await execution.take_signal(waiting):
            return taken
        left = _seconds_left(execution, waiting)
        if left is not None and left <= 0:
            expired = replace(waiting, state=PromiseState.EXPIRED, settled_at=execution.now_ms)
            return await execution.write(expired)
        await _wait(woken, execution.means.clock, left)
    return waiting


def read_signal(type: Any, seconds: float | None, promise: Promise) -> Any:
    """Return the value as the type asked for, or why there is none."""
    if promise.state is PromiseState.EXPIRED:
        waited = "" if seconds is None else f" in {seconds:g} s"
        return Raised(
            SignalExpired(f"no signal {promise.name!r} came to {promise.run_id!r}{waited}")
        )
    value = decode(promise.value or Json("null"))
    if type is Any:
        return value
    try:
        return TypeAdapter(type).validate_python(value)
    except ValidationError as error:
        return Raised(Misuse(f"signal {promise.name!r} is not a {type}: {error}"))


async def _wait(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when the event is set, or this long has passed."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if seconds is not None:
        waits.append(asyncio.ensure_future(clock.sleep(min(seconds, _LONGEST))))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _until(due_at: int | None) -> Json:
    return Json(encode({"due_at": due_at}))


def _seconds_left(execution: Execution, waiting: Promise) -> float | None:
    """Return how long is left until the recorded moment; None when there is none."""
    due_at: int | None = decode(waiting.input or Json("{}")).get("due_at")
    return None if due_at is None else (due_at - execution.now_ms) / 1000
