"""Exceptions to records and back: what a rejected promise keeps, and what its reader gets."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from substrate.values.codec import decode, encode
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
from substrate.values.records import Json, Promise, PromiseState

_TRACEBACK_LIMIT = 4000
UNKNOWN = OutcomeUnknown.__name__

T = TypeVar("T")
E_co = TypeVar("E_co", bound=BaseException, covariant=True)


@dataclass(frozen=True, slots=True)
class Raised(Generic[E_co]):
    """An exception in the place of a value."""

    error: E_co


async def outcome_of(work: Awaitable[T]) -> T | Raised[BaseException]:
    """Await user code; return its value, or whatever it raised, `SystemExit` included.

    Let through is only what is meant for the task itself: a cancellation of it, Ctrl-C, its end.
    A CancelledError without anybody having cancelled the task meanwhile is a mere error.
    """
    before = cancellations()
    try:
        return await work
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        if cancellations() > before:
            raise
        return Raised(error)
    except BaseException as error:  # noqa: BLE001 - here a failure of user code becomes data
        return Raised(error)


def cancellations() -> int:
    """Return how often this task was cancelled without that having been taken back."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def failure_of(error: BaseException) -> Failure:
    """Return the record of an exception. A recorded error's details are its args."""
    cls: Callable[..., BaseException] = type(error)
    details = list(error.args) if recorded_class(cls.__name__) is cls else _details(error)
    trace = "".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]
    return Failure(cls.__name__, _message(error), details, trace)


def unknown_outcome(reason: str) -> Failure:
    """Return the record of an effect of which nobody knows whether it happened."""
    return Failure(UNKNOWN, f"{reason}; it may have happened, and is not made again. Look first.")


def encode_failure(failure: Failure) -> Json:
    """Return the failure as JSON; details that are not JSON are left out."""
    try:
        return Json(encode(failure.to_json()))
    except NotEncodable:
        bare = Failure(failure.type, failure.message, traceback=failure.traceback)
        return Json(encode(bare.to_json()))


def decode_failure(promise: Promise) -> Failure:
    """Return the failure that a promise was rejected with."""
    if promise.error is None:
        return Failure(promise.state.value, f"{promise.id} was {promise.state}")
    return Failure.from_json(decode(promise.error))


def error_of(promise: Promise) -> Exception:
    """Return the exception for a rejected step: the same one live and on every replay."""
    failure = decode_failure(promise)
    records = decode(promise.attempts) if promise.attempts else []
    # A row keeps a few records of many, and each says which attempt it was.
    attempts = 1 + max([len(records), *(each.get("n", 0) for each in records)])
    if failure.type == UNKNOWN:
        return OutcomeUnknown(promise.name, failure, attempts)
    return _registered(failure) or StepFailed(promise.name, failure, attempts)


def error_of_run(promise: Promise) -> RunFailed:
    """Return the exception for a run that has come to no result, from the promise of its outcome.

    What buried a run says so in its details: an error that a function let pass does not.
    """
    failure = decode_failure(promise)
    if failure.type == RunDead.__name__ and failure.details is not None:
        return RunDead(promise.id, failure)
    kinds = {PromiseState.CANCELLED: RunCancelled, PromiseState.EXPIRED: RunTimedOut}
    return kinds.get(promise.state, RunFailed)(promise.id, failure)


def _registered(failure: Failure) -> Exception | None:
    """Rebuild a recorded error; None where its record doesn't hold what its class asks for."""
    registered = recorded_class(failure.type)
    if registered is None or not isinstance(failure.details, list):
        return None
    try:
        return registered(*failure.details)
    except TypeError:
        return None


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - an exception's own __str__ is user code too
        return f"(no message: its __str__ raises {type(broken).__name__})"


def _details(error: BaseException) -> object:
    try:
        return getattr(error, "details", None)
    except Exception:  # noqa: BLE001 - a property of an exception is user code too
        return None
