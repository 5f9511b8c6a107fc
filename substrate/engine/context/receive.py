"""Timers and waits for signals: `ctx.sleep`, `ctx.receive`, `ctx.poll` and `ctx.hear`.

- The moment until which a timer or a wait lasts is recorded first, so that after a crash it ends at
  the same moment.
- A signal whose value is not of the expected type is refused. It counts as taken, its problem is
  recorded in the `attempts` of the wait, and the wait goes on.
- Of a value that fits, the converted value is recorded, so that a replay converts nothing anew. If
  decoding that record would not give an equal value, the signal is refused too.
- The row of a wait holds the JSON Schema of its type, so that whoever answers can see it: see
  `expected`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from inspect import isroutine
from typing import Any

from pydantic import PydanticUserError, ValidationError

from substrate.engine.context.yes_no import answered
from substrate.engine.failure import Raised, failure_of
from substrate.engine.function.annotation import Annotation, gist_of, shown
from substrate.engine.function.place import described
from substrate.engine.run.execution import Execution
from substrate.engine.run.open_wait import Accepted, OpenWait, Refusal
from substrate.engine.run.receiver import receiver_of
from substrate.engine.run.unreadable import value_of
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse, NotEncodable, Paused, SignalExpired
from substrate.values.records import JsonText, Promise, PromiseState, ReceivedSignal

POLL = JsonText('{"waits":false}')
"""The input of a poll's row, by which it differs from the row of a wait."""

_LONGEST_SCHEMA = 4000
"""In characters. A longer schema is not recorded: rows stay small, and no words describe it."""


async def await_timer(
    execution: Execution, recorded: Promise | None, new_promise: Promise, due: Callable[[], int]
) -> Promise:
    """Return the settled timer. `due` is asked only when nothing was recorded yet."""
    # The moment is recorded before the wait begins: a restart waits for the rest of the sleep, and
    # does not begin it anew.
    timer = recorded or await execution.recorder.write(replace(new_promise, input=_until(due())))
    due_at = _due_at(timer) or 0
    await execution.wakeups.wait_until(due_at)
    return await execution.recorder.write(
        replace(
            timer,
            state=PromiseState.RESOLVED,
            value=JsonText("null"),
            settled_at=max(execution.now_ms, due_at),  # the clock may have been set back
        )
    )


async def await_signal(
    execution: Execution,
    recorded: Promise | None,
    new_promise: Promise,
    type_: Any,
    seconds: float | None,
) -> Promise:
    """Return the promise, resolved with a signal, or expired if none came in time.

    A signal that is already in the inbox wins over a deadline that has passed.
    """
    waiting = recorded
    # Not written here: the receiver writes it after it has found no signal, so that a signal that
    # came before the wait costs one write and not two.
    if waiting is None:
        due = None if seconds is None else execution.now_ms + round(seconds * 1000)
        waiting = replace(
            new_promise, input=_until(due, _wants(type_, waiting_for=new_promise.name))
        )
    validate = partial(_validated, type_, waiting.run_id, waiting.name)
    waiter = OpenWait(waiting, validate, _due_at(waiting))
    return await receiver_of(execution, waiting.name).settle(waiter)


async def poll_signals(execution: Execution, new_promise: Promise) -> Promise:
    """Return the promise, resolved with the values in the inbox that no open wait takes."""
    return await receiver_of(execution, new_promise.name).settle(OpenWait(new_promise))


async def hear_signals(execution: Execution, new_promise: Promise) -> Promise:
    """Return the promise, resolved with the values that have come; write no row if none has.

    `Execution.has_heard` becomes true if there were any: the end of the run needs to know.
    """
    heard = await receiver_of(execution, new_promise.name).settle(
        OpenWait(new_promise, is_silent=True)
    )
    execution.has_heard = execution.has_heard or heard.seq > 0
    return heard


def read_signal(type: Any, seconds: float | None, promise: Promise) -> Any:
    """Return the value as the type asked for, or `SignalExpired` if none came.

    Raises `Paused` if the type has changed since, and no longer accepts the recorded value.
    """
    if promise.state is not PromiseState.RESOLVED:
        waited = "" if seconds is None else f" in {seconds:g} s"
        return Raised(
            SignalExpired(f"no signal {promise.name!r} came to {promise.run_id!r}{waited}")
        )
    value = decode(JsonText("null") if promise.value is None else promise.value)
    if type is Any:
        return value
    try:
        return annotation_of(type, promise.name).load(value)
    except Misuse as error:
        raise Paused(failure_of(error)) from None


def annotation_of(type: Any, name: str) -> Annotation:
    """Return the type of a signal, or raise `Misuse` for one that pydantic cannot read."""
    try:
        return _annotation_of(type, name)
    except TypeError:  # it has no hash, as a list, or as what stands beside a type in `Annotated`
        return _annotation_of.__wrapped__(type, name)


@lru_cache(maxsize=256)
def _annotation_of(hint: Any, name: str) -> Annotation:
    problem = "it is no type"
    try:
        if not isroutine(hint):  # of a function pydantic would take its arguments
            return Annotation(f"ctx.receive({name!r})", "value", answered(hint))
    except PydanticUserError as error:
        if isinstance(hint, type):
            problem = gist_of(error)
    raise Misuse(
        f"a signal cannot be {described(hint)}: {problem}; give ctx.receive({name!r}, …) a type "
        "that pydantic knows, such as bool or a class of yours, and timeout= by its name"
    )


def _validated(type_: Any, run_id: str, name: str, received: ReceivedSignal) -> Accepted | Refusal:
    """Return the value that a wait records, or its refusal, which goes into `attempts`."""
    value = value_of(received, run_id, name)
    if type_ is Any:
        return Accepted(received.value)
    annotation = annotation_of(type_, name)
    try:
        made = annotation.make(value)
        # pydantic converts the integer 2**53 + 1 to the float 2**53 without an error: another
        # amount than was sent.
        if rounded := _rounded(value, made, "value"):
            raise NotEncodable(rounded)
        return Accepted(
            JsonText(encode(annotation.dump(made))), annotation.is_exact(received.value, value)
        )
    except (ValidationError, NotEncodable) as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - a type's own validators are user code
        why = f"reading it raises {type(error).__name__}: {error}"
    message = f"the value sent is not a {shown(type_)}: {why}"[:1000]
    return {
        "type": "Refused",
        "message": message,
        "dedup": received.dedup,
        "at": received.sent_at,
    }


def _rounded(sent: Any, made: Any, path: str) -> str | None:
    """Return which integer in a value changed when it became a float; None if none did."""
    if type(sent) is int and type(made) is float:
        return None if sent == made else f"{path} is an integer that no float holds"
    if isinstance(sent, list) and isinstance(made, list | tuple) and len(sent) == len(made):
        pairs = [(f"{path}[{i}]", *both) for i, both in enumerate(zip(sent, made, strict=True))]
    elif isinstance(sent, dict):
        inside = made.get if isinstance(made, dict) else partial(getattr, made)
        pairs = [(f"{path}.{name}", each, inside(name, None)) for name, each in sent.items()]
    else:
        return None
    return next(filter(None, (_rounded(one, other, at) for at, one, other in pairs)), None)


def _wants(type_: Any, *, waiting_for: str) -> dict[str, Any] | None:
    """Return the schema of the expected type; None if it is empty or too long."""
    if type_ is Any:
        return None
    schema = annotation_of(type_, waiting_for).schema
    return schema if schema and len(encode(schema)) <= _LONGEST_SCHEMA else None


def _until(due_at: int | None, wants: dict[str, Any] | None = None) -> JsonText:
    return JsonText(encode({"due_at": due_at, **({"wants": wants} if wants else {})}))


def _due_at(waiting: Promise) -> int | None:
    """Return the recorded moment at which a timer or a wait ends; None if it has no end."""
    due_at: int | None = decode(waiting.input or JsonText("{}")).get("due_at")
    return due_at
