"""What cannot be read of a row: it was not written by the kit, and says so by its id and column.

The kit writes each column as `values.codec` and the engine have it, so nothing is looked at before
it is used. Where the use of a row fails, or before it hangs on what a row without an outcome says,
this tells whether the row is to blame: then a person has to put it right, and no code of the run's.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from substrate.values.codec import decode
from substrate.values.errors import Failure, Paused
from substrate.values.records import JsonText, Kind, Promise, ReceivedSignal

UNREADABLE = "RowUnreadable"
"""The type of the failure with which a run is paused one of whose rows cannot be read."""

_COLUMNS = ("input", "value", "error", "usage", "attempts", "undo")


def unreadable(promise: Promise) -> Failure | None:
    """Return which column of a promise's row cannot be read, and why; None where all can."""
    for column in _COLUMNS:
        text = getattr(promise, column)
        if text is not None and (why := _fault(promise.kind, column, text)):
            return _failure(promise, column, why)
    return None


def misplaced(promise: Promise, run_id: str) -> Failure | None:
    """Return what is wrong with a row that stands in another run's journal; None where none is.

    Its run would not find it, and do it again each time.
    """
    if promise.run_id == run_id:
        return None
    return Failure(
        UNREADABLE,
        f"the row {promise.id!r} of promises has the run_id {promise.run_id!r}, so its own run "
        "does not find it; put it right in the database, then resume the run",
        {"key": promise.key, "row": promise.id, "column": "run_id"},
    )


def unreadable_among(promises: Iterable[Promise]) -> Failure | None:
    """Return what cannot be read of the first of these rows that cannot be read whole."""
    return next(filter(None, map(unreadable, promises)), None)


def legible(promise: Promise) -> Promise:
    """Return the promise as it can be looked at: without what cannot be read of its row."""
    # Each look tells of one column: as many looks as there are broken ones.
    while failure := unreadable(promise):
        left_out: dict[str, Any] = {failure.details["column"]: None}
        promise = replace(promise, **left_out)
    return promise


def is_readable(text: JsonText) -> bool:
    """Whether a column's text is JSON of ours."""
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


def _failure(promise: Promise, column: str, why: str) -> Failure:
    return Failure(
        UNREADABLE,
        f"the row {promise.id!r} of promises cannot be read: its {column} {why}, as the kit writes "
        "none; put it right in the database, then resume the run",
        {"key": promise.key, "row": promise.id, "column": column},
    )


def _fault(kind: Kind, column: str, text: str) -> str | None:
    try:
        value = decode(text)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return f"is no JSON of ours ({error})"
    return None if _has_form(kind, column, value) else "has another form"


def _has_form(kind: Kind, column: str, value: Any) -> bool:
    match column:
        case "error":
            return isinstance(value, dict) and _are_texts(value.get("type"), value.get("message"))
        case "attempts":
            return isinstance(value, list) and all(isinstance(each, dict) for each in value)
        case "undo":
            # Its arguments are looked at when it is called, by its own types.
            is_whole = isinstance(value, dict) and isinstance(value.get("arguments"), dict)
            return is_whole and _are_texts(value.get("name"))
        case "input" if kind in (Kind.RUN, Kind.TIMER, Kind.SIGNAL):
            return isinstance(value, dict)
    return True


def _are_texts(*values: object) -> bool:
    return all(isinstance(each, str) for each in values)
