"""The attempts at a step: the records in its row's `attempts` column, and how to read them.

A failed attempt is one record: its number, its error's type and message, when it failed, and how
long the step waited afterwards. If that is the last record, the step *rests*: no call is under way.

While a call with an intent is under way, the last record says when the call began, how long it may
last, and whether it runs in a thread. When `reconcile` has closed the idempotency keys of calls
that did not happen, the first record counts the closed keys: later calls use another key.

A step may fail a thousand times, and each time its row is written. So the row keeps only the first
few records and the last few. The last record also says when the whole series of failures began,
and how much of the retry policy the series has used. When a person resumes a paused run, a new
series begins: the record of the last attempt before the pause is marked as given up.
"""

from dataclasses import dataclass, replace
from typing import Any

from substrate.engine.failure import failure_of
from substrate.values.codec import decode, encode
from substrate.values.errors import Failure
from substrate.values.records import JsonText, Promise
from substrate.values.retry import NOTHING_SPENT, Spent

Attempt = dict[str, Any]

FIRST_KEPT, LAST_KEPT = 3, 9
"""How many records of a row are kept: of the first attempts, and of the last."""

_WAITED = "waited_ms"
_BEGAN = "began_at"
_TIMEOUT = "timeout_ms"
_IN_THREAD = "in_thread"
_IN_DOUBT = "in_doubt"
_RETURNED = "returned"
_CLOSED = "closed_keys"
_NUMBER = "n"
_SERIES = "series"
_GAVE_UP = "gave_up"


@dataclass(frozen=True, slots=True)
class Series:
    """Attempts that failed one after the other."""

    #: How many attempts failed.
    count: int = 0
    #: When the first of them failed, in ms.
    since: int | None = None
    #: How much of the retry policy they have used.
    spent: Spent = NOTHING_SPENT


def series_of(failed: list[Attempt]) -> Series:
    """Return the series of attempts that failed since the step was last given up."""
    if not failed or _GAVE_UP in failed[-1]:
        return Series()
    last = failed[-1]
    kept = last.get(_SERIES, {})
    ends = [i for i, each in enumerate(failed) if _GAVE_UP in each]
    first = failed[ends[-1] + 1 if ends else 0]
    spent = Spent(kept.get("paid", 0), kept.get("patience_ms", 0) / 1000)
    return Series(last.get(_NUMBER, len(failed)), kept.get("since", first["at"]), spent)


def failed_attempt(error: Exception, now_ms: int, delay_s: float, series: Series) -> Attempt:
    """Return the record of a failed attempt that another attempt follows.

    `series` already includes this attempt.
    """
    record = _record(error, now_ms, series.count) | {_WAITED: round(delay_s * 1000)}
    if series.spent == NOTHING_SPENT:
        return record
    kept = {"paid": series.spent.paid, "patience_ms": round(series.spent.waited_s * 1000)}
    return record | {_SERIES: kept | {"since": series.since}}


def given_up(error: BaseException, now_ms: int, series: Series) -> Attempt:
    """Return the record of the last attempt before the run is paused for a person."""
    return _record(error, now_ms, series.count + 1) | {_GAVE_UP: True}


def with_attempt(failed: list[Attempt], record: Attempt) -> list[Attempt]:
    """Return the records with this one added, without those that a row has no room for."""
    # Only the newest record says how the series stands; an older one would contradict it.
    before = [{k: v for k, v in each.items() if k != _SERIES} for each in failed]
    kept = [*before, record]
    if len(kept) > FIRST_KEPT + LAST_KEPT:
        kept = kept[:FIRST_KEPT] + kept[-LAST_KEPT:]
    return kept


def encode_failed(failed: list[Attempt], closed: int = 0) -> JsonText | None:
    """Return the `attempts` column while no call is under way: closed keys, then failures."""
    records = [*_head(closed), *failed]
    return JsonText(encode(records)) if records else None


@dataclass(frozen=True, slots=True)
class Waiting:
    """No attempt is under way: the step waits for its next one."""

    #: When the next attempt is due, in ms.
    until: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An attempt without an outcome: it is running, or was cut off."""

    #: When it began, in ms.
    began_at: int
    #: How long it may last, in ms; None where an older version wrote the row.
    timeout: int | None = None
    #: Whether it runs in a thread, where nothing can stop it.
    is_in_thread: bool = False
    #: Its error in this process, if it was cut off or its result could not be recorded.
    failure: Failure | None = None
    #: Whether the call returned, and only its result is lost.
    has_returned: bool = False

    def over_at(self, longest: float, lease: float) -> int:
        """Return when the attempt must have ended, in ms.

        `longest` and `lease` are in seconds; `longest` counts if the record has no timeout.
        """
        timeout = round(longest * 1000) if self.timeout is None else self.timeout
        return self.began_at + timeout + round(lease * 1000)


def encode_running(failed: list[Attempt], closed: int, now: UnderWay) -> JsonText:
    """Return the `attempts` column while the attempt `now` is under way, after these failures."""
    record: Attempt = {_BEGAN: now.began_at, _TIMEOUT: now.timeout}
    if now.is_in_thread:
        record[_IN_THREAD] = True
    return JsonText(encode([*_head(closed), *failed, record]))


def closed_keys(promise: Promise) -> int:
    """Return how many of the step's idempotency keys `reconcile` has closed."""
    records = _records(promise)
    return int(records[0].get(_CLOSED, 0)) if records else 0


def _head(closed: int) -> list[Attempt]:
    return [{_CLOSED: closed}] if closed else []


def timed_out_attempt(error: BaseException, now_ms: int) -> Attempt:
    """Return the record of an attempt that timed out here, and may still be running."""
    return _record(error, now_ms) | {_IN_DOUBT: True}


def lost_result(error: BaseException, now_ms: int) -> Attempt:
    """Return the record of an attempt that returned a result which cannot be recorded."""
    return _record(error, now_ms) | {_IN_DOUBT: True, _RETURNED: True}


def last_record(promise: Promise) -> Waiting | UnderWay:
    """Return the state of an unsettled step, from its last records."""
    match _records(promise):
        case [*_, {"waited_ms": waited, "at": at}]:
            return Waiting(int(at) + int(waited))
        case [*before, {"began_at": began_at} as now]:
            attempt = UnderWay(int(began_at), now.get(_TIMEOUT), now.get(_IN_THREAD, False))
            match before:
                case [*_, {"in_doubt": True, "type": type_, "message": message} as failed]:
                    failure = Failure(type_, message)
                    has_returned = bool(failed.get(_RETURNED, False))
                    return replace(attempt, failure=failure, has_returned=has_returned)
            return attempt
    return UnderWay(promise.created_at)  # no record: it began when the row was written


def next_attempt_at(promise: Promise) -> int | None:
    """Return when the next attempt is due, in ms; None while an attempt is under way."""
    last = last_record(promise)
    return last.until if isinstance(last, Waiting) else None


def failed_in(promise: Promise) -> list[Attempt]:
    """Return the attempts that have failed."""
    return [record for record in _records(promise) if "type" in record]


def cut_short(promise: Promise, now_ms: int) -> JsonText | None:
    """Return the `attempts` column of a resting step, with its wait cut to end at `now_ms`."""
    *before, last = _records(promise)
    return encode_failed([*before, last | {_WAITED: max(now_ms - int(last["at"]), 0)}])


def _record(error: BaseException, now_ms: int, number: int | None = None) -> Attempt:
    failure = failure_of(error)
    numbered = {} if number is None else {_NUMBER: number}
    return {"type": failure.type, "message": failure.message[:1000], "at": now_ms, **numbered}


def _records(promise: Promise) -> list[Attempt]:
    return decode(promise.attempts) if promise.attempts else []
