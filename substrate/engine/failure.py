"""Exceptions to records and back: what a rejected promise keeps, and what its reader gets.

A recorded error comes back as itself only where its class makes the same of its args again; in
every other case its reader gets a `StepFailed` that tells what it was, live and on every replay.

An exception is user code as long as one looks at it: its text, its args, any attribute. What it
raises then is data, too, `SystemExit` and `KeyboardInterrupt` included: a worker has other runs.
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
from substrate.values.records import JsonText, Promise, PromiseState
from substrate.values.secret import hidden, hidden_in

_TRACEBACK_LIMIT = 4000
_MEMBERS_TOLD = 5
_MEMBER_LIMIT = 500
_MESSAGE_LIMIT = 100_000  # characters of a message whose record would be too long for a value
_ALL_MEMBERS = 100
_DEPTH = 10
UNKNOWN = OutcomeUnknown.__name__

T = TypeVar("T")
E_co = TypeVar("E_co", bound=BaseException, covariant=True)


@dataclass(frozen=True, slots=True)
class Raised(Generic[E_co]):
    """An exception in the place of a value."""

    error: E_co


def failure_of(error: BaseException) -> Failure:
    """Return the record of an exception.

    A recorded error's details are its args, as a list where these make it anew, else under
    ``args``. Those of a group are its members.
    """
    details = _or(partial(_details, error), lambda _: None)
    trace = hidden(_or(partial(_trace, error), lambda _: _frames(error)))[-_TRACEBACK_LIMIT:]
    return Failure(_name(error), hidden(_message(error)), details, trace)


def unknown_outcome(reason: str, trace: str | None = None) -> Failure:
    """Return the record of an effect of which nobody knows whether it happened."""
    message = f"{reason}; it may have happened, and is not made again. Look first."
    return Failure(UNKNOWN, message, traceback=trace)


def encode_failure(failure: Failure) -> JsonText:
    """Return the failure as JSON; details that are not JSON are left out, and secrets hidden."""
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
    # A row keeps a few records of many, and each says which attempt it was.
    attempts = 1 + max([len(failed), *(each.get("n", 0) for each in failed)])
    if failure.type == UNKNOWN:
        return OutcomeUnknown(promise.name, failure, attempts)
    return _registered(failure) or StepFailed(promise.name, failure, attempts)


def error_of_run(promise: Promise) -> RunFailed:
    """Return the exception for a run that has come to no result, from the promise of its outcome.

    A run that the kit has declared dead has details; a `RunDead` that its function let pass, from a
    child, has none.
    """
    failure = decode_failure(promise)
    if failure.type == RunDead.__name__ and failure.details is not None:
        return RunDead(promise.id, failure)
    kinds = {PromiseState.CANCELLED: RunCancelled, PromiseState.EXPIRED: RunTimedOut}
    return kinds.get(promise.state, RunFailed)(promise.id, failure)


def _registered(failure: Failure) -> Exception | None:
    """Rebuild a recorded error; None where its class makes nothing of what was recorded."""
    return _made(failure.type, failure.details) if isinstance(failure.details, list) else None


def _comes_back(error: Exception) -> bool:
    """Whether an exception's class makes the same exception of the args that are recorded."""
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
"""What others than its class have put on an exception."""


def _made(name: str, args: Sequence[object]) -> Exception | None:
    registered = recorded_class(name)
    if registered is None:
        return None
    return _or(partial(registered, *args), lambda _: None)


def _message(error: BaseException, depth: int = 0) -> str:
    """Return what an exception says; of a group, also what its first members say."""

    def tell() -> str:
        text = str.__str__(str(error))  # which may give a subclass, with methods of its own
        return f"{text}: {_members_told(error, depth)}" if _is_group(error, depth) else text

    return _or(tell, lambda broken: f"(no message: its __str__ raises {_name(broken)})")


def _members_told(group: Any, depth: int) -> str:
    first = group.exceptions[:_MEMBERS_TOLD]
    members = [f"{_name(one)}: {_message(one, depth + 1)}"[:_MEMBER_LIMIT] for one in first]
    left = len(group.exceptions) - len(first)
    return f"{'; '.join(members)}{f'; and {left} more' if left else ''}"


def _is_group(error: BaseException, depth: int) -> bool:
    return isinstance(error, BaseExceptionGroup) and depth < _DEPTH


def _members(group: Any, depth: int = 0) -> list[object]:
    """Return what a group holds, as its record lists it: type and message, and their members."""
    records: list[object] = []
    for error in group.exceptions[:_ALL_MEMBERS]:
        record: dict[str, object] = {"type": _name(error), "message": _message(error)}
        if _or(partial(_is_group, error, depth), lambda _: False):
            record["members"] = _or(partial(_members, error, depth + 1), lambda _: [])
        records.append(record)
    return records


def _details(error: BaseException) -> object:
    cls = type(error)
    if isinstance(error, Exception) and recorded_class(_name(error)) is cls:
        args = hidden_in(list(error.args))
        comes_back = args == list(error.args) and _comes_back(error)
        return args if comes_back else {"args": args}
    if isinstance(error, BaseExceptionGroup):
        return _members(error)
    return getattr(error, "details", None)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _frames(error: BaseException) -> str:
    """Return where an exception was raised, without asking it anything."""
    trace = BaseException.__dict__["__traceback__"].__get__(error)
    return "".join(traceback.format_tb(trace)) + _name(error)


def _name(error: BaseException) -> str:
    """Return the name of its class, which a metaclass may hide."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def _or(ask: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
    """Return what an exception says when it is asked; `otherwise` where that raises."""
    try:
        return ask()
    except BaseException as broken:  # noqa: BLE001 - it is user code, and no part of this process
        return otherwise(broken)
