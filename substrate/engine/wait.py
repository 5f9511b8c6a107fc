"""Waiting: for a moment, or for a value from outside.

Both record first until when they wait, so that after a crash they wait for the same moment.

A value that is not of the type that is waited for is refused: it counts as taken, what was wrong
with it is noted with the wait, and the wait goes on.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from substrate.engine.execution import Execution
from substrate.engine.failure import Raised
from substrate.engine.taker import Asker, Refusal, taker_of
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
    due_at = _due_at(timer) or 0
    await execution.wait_until(due_at)
    return await execution.write(
        replace(
            timer,
            state=PromiseState.RESOLVED,
            value=Json("null"),
            settled_at=max(execution.now_ms, due_at),  # the clock may have been set back
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
        waiting = replace(blank, input=_until(due))
    asker = Asker(waiting, partial(_refusal, type_), _due_at(waiting))
    return await taker_of(execution, waiting.name).settle(asker)


async def poll_signals(execution: Execution, blank: Promise) -> Promise:
    """Return the promise, resolved with the values that have come and no wait wants."""
    return await taker_of(execution, blank.name).settle(Asker(blank))


async def hear_signals(execution: Execution, blank: Promise) -> Promise:
    """Return the promise, resolved with the values that have come; where none has, no row is kept.

    That something was heard anew is noted with the execution, for the run's end.
    """
    heard = await taker_of(execution, blank.name).settle(Asker(blank, is_silent=True))
    execution.has_heard = execution.has_heard or heard.seq > 0
    return heard


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


def _refusal(type_: Any, received: Received) -> Refusal | None:
    """Return what is wrong with a value, as the wait's `attempts` keep it; None if it fits."""
    if type_ is Any:
        return None
    try:
        adapter_of(type_).validate_python(decode(received.value))
    except ValidationError as error:
        told = f"the value sent is not a {type_}: {error}"[:1000]
        return {"type": "Refused", "message": told, "dedup": received.dedup, "at": received.sent_at}
    return None


def _until(due_at: int | None) -> Json:
    return Json(encode({"due_at": due_at}))


def _due_at(waiting: Promise) -> int | None:
    """Return the recorded moment until which it waits; None when there is none."""
    due_at: int | None = decode(waiting.input or Json("{}")).get("due_at")
    return due_at
