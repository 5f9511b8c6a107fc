"""Finds rows that the kit cannot have written, and names their id and column in the failure.

The kit writes each column in the form of `values.codec`, so rows are normally used without a check.
The check is made when the use of a row has failed, and before a row without an outcome decides what
is called next. A failure from here means that a person has to repair the row in the database; the
code of the run is not at fault.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from substrate.store.blobs import digest_in
from substrate.values.codec import decode
from substrate.values.errors import Failure, Forgotten, Paused
from substrate.values.records import OWN_KEY, JsonText, Kind, Promise, ReceivedSignal

UNREADABLE = "RowUnreadable"
"""The failure type of a run that is paused because one of its rows cannot be read."""

FORGOTTEN = "Forgotten"
"""The failure type of what is shown without its contents, since these were forgotten for good."""

_FORGOTTEN = "was forgotten for good"
_LOST = "is in a blob that is gone or damaged"

_COLUMNS = ("input", "value", "error", "usage", "attempts", "undo", "granted")


def unreadable(promise: Promise) -> Failure | None:
    """Return the failure for the first unreadable column of a row; None if there is none."""
    for column in _COLUMNS:
        text = getattr(promise, column)
        if text is not None and (why := _fault(promise.kind, column, text)):
            return _failure(promise, column, why)
    return None


def misplaced(promise: Promise, run_id: str) -> Failure | None:
    """Return the failure for a row whose `run_id` or `key` is not that of its id; None if all are.

    Its run would not find such a row in its journal, or would take it for another call's.
    """
    if promise.run_id == run_id and promise.id == _id_of(run_id, promise.key):
        return None
    column = "key" if promise.run_id == run_id else "run_id"
    found = getattr(promise, column)
    return Failure(
        UNREADABLE,
        f"the row {promise.id!r} of promises has the {column} {found!r}, so its own run does not "
        "find it; put it right in the database, then resume the run",
        {"key": promise.key, "row": promise.id, "column": column},
    )


def _id_of(run_id: str, key: str) -> str:
    return run_id if key == OWN_KEY else f"{run_id}#{key}"


def unreadable_among(promises: Iterable[Promise]) -> Failure | None:
    """Return the failure for the first unreadable row; None if all are readable."""
    return next(filter(None, map(unreadable, promises)), None)


def legible(promise: Promise) -> tuple[Promise, list[Failure]]:
    """Return the promise without its unreadable columns, so that it can be displayed, and these."""
    failures = []
    # `unreadable` names one column at a time, so it is asked again until there is none.
    while failure := unreadable(promise):
        failures.append(failure)
        left_out: dict[str, Any] = {failure.details["column"]: None}
        promise = replace(promise, **left_out)
    return promise, failures


def is_readable(text: JsonText) -> bool:
    """Whether a text is JSON of `values.codec`."""
    return _fault(Kind.STEP, "", text) is None


def value_of(received: ReceivedSignal, run_id: str, name: str) -> Any:
    """Return the value of a signal. Raises `Paused` for one that cannot be read."""
    try:
        return decode(received.value)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        row = f"{run_id}, {name}, {received.dedup}"
        message = (
            f"the row ({row}) of signals cannot be read: its value is no JSON of ours ({error}); "
            "put it right in the database, or delete it, then resume the run"
        )
        details = {"row": row, "column": "value"}
        raise Paused(Failure(UNREADABLE, message, details)) from None


def misformed(promise: Promise, column: str) -> Failure:
    """Return the failure for a column that is JSON of another form than the kit writes there."""
    return _failure(promise, column, "has another form")


def _failure(promise: Promise, column: str, why: str) -> Failure:
    if why == _FORGOTTEN:
        message = f"the {column} of {promise.id!r} {why}"
        details = {"key": promise.key, "row": promise.id, "column": column}
        return Failure(FORGOTTEN, message, details)
    remedy = "restore the row of `blobs`" if why == _LOST else "put it right"
    return Failure(
        UNREADABLE,
        f"the row {promise.id!r} of promises cannot be read: its {column} {why}, as the kit writes "
        f"none; {remedy} in the database, then resume the run",
        {"key": promise.key, "row": promise.id, "column": column},
    )


def _fault(kind: Kind, column: str, text: str) -> str | None:
    if digest_in(JsonText(text)):
        return _LOST
    try:
        value = decode(text)
    except Forgotten:
        return _FORGOTTEN
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return f"is no JSON of ours ({error})"
    return None if _has_form(kind, column, value) else "has another form"


def _has_form(kind: Kind, column: str, value: Any) -> bool:
    match column:
        case "error":
            if not isinstance(value, dict):
                return False
            trace = value.get("traceback") or ""  # not every error has one
            return _are_texts(value.get("type"), value.get("message"), trace)
        case "attempts":
            return isinstance(value, list) and all(isinstance(each, dict) for each in value)
        case "undo":
            # Its arguments are looked at when it is called, by its own types.
            return isinstance(value, dict) and _is_undo(value)
        case "granted":
            return isinstance(value, dict)
        case "input" if kind in (Kind.RUN, Kind.TIMER, Kind.SIGNAL, Kind.GATE):
            return isinstance(value, dict)
    return True


def _is_undo(record: dict[str, Any]) -> bool:
    numbers = (record.get("version"), record.get("timeout"))
    is_called = isinstance(record.get("arguments"), dict) and _are_texts(record.get("name"))
    return is_called and all(isinstance(each, int | float) for each in numbers)


def _are_texts(*values: object) -> bool:
    return all(isinstance(each, str) for each in values)
