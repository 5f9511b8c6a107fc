"""Converts exceptions to the records of rejected promises, and records back to exceptions.

A replay raises the same exception as the live run did. A recorded error is raised as its own class
only if that class makes an equal exception from the recorded args. In every other case a
`StepFailed` is raised, which describes the original exception, in the live run and on each replay.

To read an exception's text, args or any attribute may run user code. Whatever that code raises is
caught here, `SystemExit` and `KeyboardInterrupt` included: a worker has other runs to drive.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from substrate.values.codec import decode, encode
from substrate.values.difference import Allow, difference
from substrate.values.errors import (
    Failure,
    NotEncodable,
    OutcomeUnknown,
    RunCancelled,
    RunDead,
    RunFailed,
    RunTimedOut,
    StepFailed,
    recorded_class,
)
from substrate.values.misfit import what_it_takes
from substrate.values.records import JsonText, Promise, PromiseState
from substrate.values.secret import hidden, hidden_in

_TRACEBACK_LIMIT = 4000  # characters, the last ones
_MEMBERS_SHOWN = 5  # members of a group whose text its message shows
_MEMBER_LIMIT = 500  # characters of each of them
_MESSAGE_LIMIT = 100_000  # characters of a message whose record would be too long for a value
_ALL_MEMBERS = 100  # members of a group that its details list
_DEPTH = 10  # groups within groups that are looked into
UNKNOWN = OutcomeUnknown.__name__

T = TypeVar("T")
E_co = TypeVar("E_co", bound=BaseException, covariant=True)


@dataclass(frozen=True, slots=True)
class Raised(Generic[E_co]):
    """An exception in the place of a value."""

    error: E_co


class Unreadable:
    """In the place of a value whose own code raises at a look. JSON cannot hold it."""


def tamed(error: BaseException) -> BaseException:
    """Return an exception that may be looked at: the same, or one of its name in its place."""
    try:
        # The engine reads these, the class in each `isinstance`.
        _ = error.__class__, error.__traceback__
    except BaseException as broken:  # noqa: BLE001 - see above
        stand_in: type[BaseException] = type(name_of_class(error), (RuntimeError,), {})
        why = f"(its own code raises {name_of_class(broken)} when it is looked at)"
        trace = BaseException.__dict__["__traceback__"].__get__(error)
        return stand_in(why).with_traceback(trace)
    return error


def tamed_value(value: Any) -> Any:
    """Return a value that may be looked at: the same, or an `Unreadable` in its place."""
    try:
        _ = value.__class__
    except BaseException:  # noqa: BLE001 - see above
        return Unreadable()
    return value


def failure_of(error: BaseException) -> Failure:
    """Return the record of an exception, with known secrets hidden.

    If its class is `recorded`, the details are its args: a list if the exception can be rebuilt
    from them, else a dict with ``args``. The details of a group are its members.
    """
    details = _or(partial(_details, error), lambda _: None)
    trace = hidden(_or(partial(_trace, error), lambda _: _frames(error)))[-_TRACEBACK_LIMIT:]
    takes = _or(partial(what_it_takes, error), lambda _: "")
    return Failure(name_of_class(error), hidden(_message(error)) + takes, details, trace)


def unknown_outcome(reason: str, trace: str | None = None) -> Failure:
    """Return the record of a call that may or may not have happened."""
    message = f"{reason}; it may have happened, and is not made again. Look first."
    return Failure(UNKNOWN, message, traceback=trace)


def encode_failure(failure: Failure) -> JsonText:
    """Return the failure as JSON, with secrets hidden, and without details that are not JSON."""
    try:
        return JsonText(encode(hidden_in(failure.to_json())))
    except NotEncodable:
        message = failure.message[:_MESSAGE_LIMIT]
        bare = Failure(failure.type, message, traceback=failure.traceback)
        return JsonText(encode(bare.to_json()))


def decode_failure(promise: Promise) -> Failure:
    """Return the failure that a promise was rejected with."""
    if promise.error is None:
        return Failure(promise.state.value, f"{promise.id} was {promise.state}")
    return Failure.from_json(decode(promise.error))


def error_of(promise: Promise) -> Exception:
    """Return the exception for a rejected step: the same one live and on every replay."""
    failure = decode_failure(promise)
    records = decode(promise.attempts) if promise.attempts else []
    failed = [each for each in records if "type" in each]
    # A row keeps only some of its records, so their number says less than their own numbers.
    attempts = 1 + max([len(failed), *(each.get("n", 0) for each in failed)])
    if failure.type == UNKNOWN:
        return OutcomeUnknown(promise.name, failure, attempts)
    return _registered(failure) or StepFailed(promise.name, failure, attempts)


def error_of_run(promise: Promise) -> RunFailed:
    """Return the exception for a run without a result, from the promise of its outcome.

    The failure of a run that the kit declared dead has details. A `RunDead` without details came
    from a child, and the run's function did not catch it: then this run failed.
    """
    failure = decode_failure(promise)
    if failure.type == RunDead.__name__ and failure.details is not None:
        return RunDead(promise.id, failure)
    kinds = {PromiseState.CANCELLED: RunCancelled, PromiseState.EXPIRED: RunTimedOut}
    return kinds.get(promise.state, RunFailed)(promise.id, failure)


def _registered(failure: Failure) -> Exception | None:
    """Rebuild a recorded error; None if its class does not accept the recorded args."""
    return _made(failure.type, failure.details) if isinstance(failure.details, list) else None


def _can_be_rebuilt(error: Exception) -> bool:
    """Whether an exception's class makes an equal exception from the recorded args."""
    try:
        recorded = decode(encode(list(error.args)))
    except NotEncodable:
        return False
    name = type(error).__name__
    same, back = _made(name, error.args), _made(name, recorded)
    if same is None or back is None or _message(same) != _message(error):
        return False
    kept = {name: value for name, value in vars(error).items() if name not in _ADDED}
    if difference(kept, vars(same), "its attributes"):
        return False
    return difference(error.args, back.args, "args", allow=Allow.OPEN) is None


_ADDED = ("__notes__", "others")
"""Attributes of an exception that its class did not set."""


def _made(name: str, args: Sequence[object]) -> Exception | None:
    registered = recorded_class(name)
    if registered is None:
        return None
    return _or(partial(registered, *args), lambda _: None)


def _message(error: BaseException, depth: int = 0) -> str:
    """Return the text of an exception; for a group, with the text of its first members."""

    def ask() -> str:
        text = str.__str__(str(error))  # `str()` may return a subclass with methods of its own
        return f"{text}: {_members_text(error, depth)}" if _is_group(error, depth) else text

    return _or(ask, lambda broken: f"(no message: its __str__ raises {name_of_class(broken)})")


def _members_text(group: Any, depth: int) -> str:
    first = group.exceptions[:_MEMBERS_SHOWN]
    members = [f"{name_of_class(one)}: {_message(one, depth + 1)}"[:_MEMBER_LIMIT] for one in first]
    left = len(group.exceptions) - len(first)
    return f"{'; '.join(members)}{f'; and {left} more' if left else ''}"


def _is_group(error: BaseException, depth: int) -> bool:
    return isinstance(error, BaseExceptionGroup) and depth < _DEPTH


def _members(group: Any, depth: int = 0) -> list[object]:
    """Return the members of a group for its record: type, message and their own members."""
    records: list[object] = []
    for error in group.exceptions[:_ALL_MEMBERS]:
        record: dict[str, object] = {"type": name_of_class(error), "message": _message(error)}
        if _or(partial(_is_group, error, depth), lambda _: False):
            record["members"] = _or(partial(_members, error, depth + 1), lambda _: [])
        records.append(record)
    return records


def _details(error: BaseException) -> object:
    cls = type(error)
    if isinstance(error, Exception) and recorded_class(name_of_class(error)) is cls:
        args = hidden_in(list(error.args))
        # With a secret hidden in its args, the rebuilt exception would not be equal.
        can_be_rebuilt = args == list(error.args) and _can_be_rebuilt(error)
        return args if can_be_rebuilt else {"args": args}
    if isinstance(error, BaseExceptionGroup):
        return _members(error)
    return getattr(error, "details", None)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _frames(error: BaseException) -> str:
    """Return the traceback of an exception without running any code of its class."""
    trace = BaseException.__dict__["__traceback__"].__get__(error)
    return "".join(traceback.format_tb(trace)) + name_of_class(error)


def name_of_class(error: BaseException) -> str:
    """Return the name of an exception's class, even if a metaclass overrides `__name__`."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def _or(ask: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
    """Return `ask()`, which runs user code; if that raises, `otherwise` of what it raised."""
    try:
        return ask()
    except BaseException as broken:  # noqa: BLE001 - user code must not end this process
        return otherwise(broken)
