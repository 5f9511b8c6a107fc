"""Waiting: for a moment, or for a value from outside.

Both record first until when they wait, so that after a crash they wait for the same moment.

A value that is not of the type that is waited for is refused: it counts as taken, what was wrong
with it is noted with the wait, and the wait goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from substrate.engine.execution import Execution
from substrate.engine.failure import Raised
from substrate.engine.parking import Wait
from substrate.engine.waiting import LONGEST_LOOK
from substrate.values.clock import Clock
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse, SignalExpired
from substrate.values.records import Json, Promise, PromiseState, Received

POLL = Json('{"waits":false}')
"""What tells the record of a look into the inbox from that of a wait."""


async def await_timer(
    execution: Execution, recorded: Promise | None, blank: Promise, due: Callable[[], int]
) -> Promise:
    """Return the settled timer. `due` is asked only when nothing was recorded yet."""
    timer = recorded or await execution.write(replace(blank, input=_until(due())))
    await execution.wait_until(_due_at(timer) or 0)
    return await execution.write(
        replace(
            timer,
            state=PromiseState.RESOLVED,
            value=Json("null"),
            settled_at=execution.now_ms,
        )
    )


async def await_signal(
    execution: Execution,
    recorded: Promise | None,
    blank: Promise,
    type_: Any,
    seconds: float | None,
) -> Promise:
    """Return the promise, resolved with a signal or expired. A signal that is there wins."""
    waiting = recorded
    if waiting is None:
        due = None if seconds is None else execution.now_ms + round(seconds * 1000)
        waiting = await _take(execution, replace(blank, input=_until(due)), type_)
        if not waiting.is_settled:
            waiting = await execution.write(waiting)
    due_at = _due_at(waiting)
    while not waiting.is_settled:
        woken, seen = execution.next_wake, execution.wake_version
        waiting = await _take(execution, waiting, type_)
        if waiting.is_settled:
            break
        if due_at is not None and due_at <= execution.now_ms:
            expired = replace(waiting, state=PromiseState.EXPIRED, settled_at=execution.now_ms)
            return await execution.write(expired)
        async with execution.waiting(Wait(seen, due_at)):
            left = None if due_at is None else (due_at - execution.now_ms) / 1000
            await wait_for(woken, execution.means.clock, left)
    return waiting


async def poll_signals(execution: Execution, blank: Promise) -> Promise:
    """Return the promise, resolved with the values that have come and nobody has taken."""
    while True:
        found = await execution.inbox(blank.name)
        values = Json(encode([decode(received.value) for received in found]))
        polled = _resolved(execution, blank, values)
        stands = await execution.take(polled, [received.dedup for received in found])
        if stands.is_settled:  # else another wait has taken one of them meanwhile
            return stands


def read_signal(type: Any, seconds: float | None, promise: Promise) -> Any:
    """Return the value as the type asked for, or why there is none."""
    if promise.state is not PromiseState.RESOLVED:
        waited = "" if seconds is None else f" in {seconds:g} s"
        return Raised(
            SignalExpired(f"no signal {promise.name!r} came to {promise.run_id!r}{waited}")
        )
    value = decode(promise.value or Json("null"))
    try:
        return value if type is Any else adapter_of(type).validate_python(value)
    except ValidationError as error:
        return Raised(Misuse(f"signal {promise.name!r} is not a {type}: {error}"))


@lru_cache(maxsize=256)
def adapter_of(type: Any) -> TypeAdapter[Any]:
    """Return what checks values of a type, or raise `Misuse` for one that pydantic cannot read."""
    try:
        return TypeAdapter(type)
    except PydanticUserError as error:
        raise Misuse(
            f"a signal cannot be a {type!r}: {error}; use a type that pydantic knows"
        ) from None


async def _take(execution: Execution, waiting: Promise, type_: Any) -> Promise:
    """Settle the wait with the oldest signal that fits, refusing those that do not."""
    for received in await execution.inbox(waiting.name):
        if refusal := _refusal(received, type_):
            waiting = replace(waiting, attempts=_with(waiting.attempts, refusal))
            stands = await execution.take(waiting, [received.dedup])
        else:
            resolved = _resolved(execution, waiting, received.value)
            stands = await execution.take(resolved, [received.dedup])
        if stands.is_settled:
            return stands
    return waiting


def _refusal(received: Received, type_: Any) -> dict[str, Any] | None:
    """Return what is wrong with a value, as the wait's `attempts` keep it; None if it fits."""
    if type_ is Any:
        return None
    try:
        adapter_of(type_).validate_python(decode(received.value))
    except ValidationError as error:
        told = f"the value sent is not a {type_}: {error}"[:1000]
        return {"type": "Refused", "message": told, "dedup": received.dedup, "at": received.sent_at}
    return None


def _with(attempts: Json | None, refusal: dict[str, Any]) -> Json:
    before: Sequence[Any] = decode(attempts) if attempts else []
    return Json(encode([*before, refusal]))


def _resolved(execution: Execution, promise: Promise, value: Json) -> Promise:
    now = execution.now_ms
    return replace(promise, state=PromiseState.RESOLVED, value=value, settled_at=now)


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when the event is set, or this long has passed."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if seconds is not None:
        waits.append(asyncio.ensure_future(clock.sleep(min(seconds, LONGEST_LOOK))))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _until(due_at: int | None) -> Json:
    return Json(encode({"due_at": due_at}))


def _due_at(waiting: Promise) -> int | None:
    """Return the recorded moment until which it waits; None when there is none."""
    due_at: int | None = decode(waiting.input or Json("{}")).get("due_at")
    return due_at
