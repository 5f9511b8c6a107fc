"""The attempts at a step, as its row keeps them, and what they tell of a row without an outcome.

Each failed attempt is a record: its error's type and message, when it failed, and for how long the
step waited then. A row whose last record is such a one *rests*: nothing is under way. While a
later attempt is under way, the last record says when that began; the first began when the row was
created.
"""

from typing import Any

from substrate.engine.failure import failure_of
from substrate.values.codec import decode, encode
from substrate.values.errors import Failure
from substrate.values.records import Json, Promise

Attempt = dict[str, Any]

_WAITED = "waited_ms"
_BEGAN = "began_at"
_IN_DOUBT = "in_doubt"


def failed_attempt(error: Exception, now_ms: int, delay_s: float) -> Attempt:
    """Return the record of an attempt that failed and is followed by another."""
    failure = failure_of(error)
    record = {"type": failure.type, "message": failure.message[:1000]}
    return record | {"at": now_ms, _WAITED: round(delay_s * 1000)}


def resting(failed: list[Attempt]) -> Json | None:
    """Return what a row keeps of the attempts that failed."""
    return Json(encode(failed)) if failed else None


def calling(failed: list[Attempt], now_ms: int) -> Json:
    """Return what a row keeps while the attempt after these is under way, since that moment."""
    return Json(encode([*failed, {_BEGAN: now_ms}]))


def failed_last(promise: Promise) -> Failure | None:
    """Return what the attempt in question came to here; None where nobody has seen it return.

    That is one which was cut off: it has failed, and may be under way somewhere.
    """
    records = _records(promise)
    if len(records) < 2 or _BEGAN not in records[-1] or _IN_DOUBT not in records[-2]:
        return None
    return Failure(records[-2]["type"], records[-2]["message"])


def doubtful_attempt(error: Exception, now_ms: int) -> Attempt:
    """Return the record of an attempt that failed here and may be under way somewhere."""
    failure = failure_of(error)
    record = {"type": failure.type, "message": failure.message[:1000]}
    return record | {"at": now_ms, _IN_DOUBT: True}


def failed_in(promise: Promise) -> list[Attempt]:
    """Return the attempts that have failed."""
    return [record for record in _records(promise) if _BEGAN not in record]


def rests_until(promise: Promise) -> int | None:
    """Return until when a row waits for its next attempt; None when one is under way."""
    records = _records(promise)
    if not records or _WAITED not in records[-1]:
        return None
    last = records[-1]
    return int(last["at"]) + int(last[_WAITED])


def began_at(promise: Promise) -> int:
    """Return when the attempt that is under way began."""
    records = _records(promise)
    return int(records[-1][_BEGAN]) if records and _BEGAN in records[-1] else promise.created_at


def _records(promise: Promise) -> list[Attempt]:
    return decode(promise.attempts) if promise.attempts else []
