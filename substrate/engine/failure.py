"""Exceptions to records and back: what a rejected promise keeps, and what its reader gets.

A recorded error comes back as itself only where its class makes the same of its args again; in
every other case its reader gets a `StepFailed` that tells what it was, live and on every replay.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

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
    cls: Callable[..., BaseException] = type(error)
    details: object
    message = hidden(_message(error))
    if isinstance(error, Exception) and recorded_class(cls.__name__) is cls:
        args = hidden_in(list(error.args))
        comes_back = args == list(error.args) and _comes_back(error)
        details = args if comes_back else {"args": args}
    elif isinstance(error, BaseExceptionGroup):
        details = _members(error)
    else:
        details = _details(error)
    trace = hidden("".join(traceback.format_exception(error)))[-_TRACEBACK_LIMIT:]
    return Failure(cls.__name__, message, details, trace)


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
    try:
        made = registered(*args)
    except Exception:  # noqa: BLE001 - an exception's own __init__ is user code
        return None
    return made


def _message(error: BaseException, depth: int = 0) -> str:
    """Return what an exception says; of a group, also what its first members say."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - an exception's own __str__ is user code too
        return f"(no message: its __str__ raises {type(broken).__name__})"
    if not isinstance(error, BaseExceptionGroup) or depth >= _DEPTH:
        return text
    first = error.exceptions[:_MEMBERS_TOLD]
    members = [f"{type(one).__name__}: {_message(one, depth + 1)}"[:_MEMBER_LIMIT] for one in first]
    left = len(error.exceptions) - len(first)
    return f"{text}: {'; '.join(members)}{f'; and {left} more' if left else ''}"


def _members(group: BaseExceptionGroup[BaseException], depth: int = 0) -> list[object]:
    """Return what a group holds, as its record lists it: type and message, and their members."""
    records: list[object] = []
    for error in group.exceptions[:_ALL_MEMBERS]:
        record: dict[str, object] = {"type": type(error).__name__, "message": _message(error)}
        if isinstance(error, BaseExceptionGroup) and depth < _DEPTH:
            record["members"] = _members(error, depth + 1)
        records.append(record)
    return records


def _details(error: BaseException) -> object:
    try:
        return getattr(error, "details", None)
    except Exception:  # noqa: BLE001 - a property of an exception is user code too
        return None
