"""The attempts at a step, as its row keeps them, and what they tell of a row without an outcome.

Each failed attempt is a record: its number, its error's type and message, when it failed, and for
how long the step waited then. A row whose last record is such a one *rests*: nothing is under way.
While an attempt of a step with an intent is under way, the last record says when that began, how
long it may last, and whether it is made in a thread. Where `reconcile` has closed the keys of calls
that did not happen, the first record counts them: the calls since then have another key.

A step may be tried a thousand times, and its row is written each time, so it keeps the first few
records and the last few. The last record says of the whole series since when it fails, and
what it has used up. A person who resumes a paused run begins a new series; the record at
which the old one was given up says so.
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

    #: How many there are.
    count: int = 0
    #: When the first of them failed, in ms.
    since: int | None = None
    #: What they have used up of the retry policy.
    spent: Spent = NOTHING_SPENT


def series_of(failed: list[Attempt]) -> Series:
    """Return what the attempts have come to that failed since the step was last given up."""
    if not failed or _GAVE_UP in failed[-1]:
        return Series()
    last = failed[-1]
    kept = last.get(_SERIES, {})
    ends = [i for i, each in enumerate(failed) if _GAVE_UP in each]
    first = failed[ends[-1] + 1 if ends else 0]
    spent = Spent(kept.get("paid", 0), kept.get("patience_ms", 0) / 1000)
    return Series(last.get(_NUMBER, len(failed)), kept.get("since", first["at"]), spent)


def failed_attempt(error: Exception, now_ms: int, delay_s: float, series: Series) -> Attempt:
    """Return the record of an attempt that failed and is followed by another.

    `series` is what it has come to with this attempt.
    """
    record = _record(error, now_ms, series.count) | {_WAITED: round(delay_s * 1000)}
    if series.spent == NOTHING_SPENT:
        return record
    kept = {"paid": series.spent.paid, "patience_ms": round(series.spent.waited_s * 1000)}
    return record | {_SERIES: kept | {"since": series.since}}


def given_up(error: Exception, now_ms: int, series: Series) -> Attempt:
    """Return the record of an attempt after which a person has to decide."""
    return _record(error, now_ms, series.count + 1) | {_GAVE_UP: True}


def with_attempt(failed: list[Attempt], record: Attempt) -> list[Attempt]:
    """Return the records that a row keeps, once there is another."""
    before = [{k: v for k, v in each.items() if k != _SERIES} for each in failed]
    kept = [*before, record]
    if len(kept) > FIRST_KEPT + LAST_KEPT:
        kept = kept[:FIRST_KEPT] + kept[-LAST_KEPT:]
    return kept


def encode_failed(failed: list[Attempt], closed: int = 0) -> JsonText | None:
    """Return what a row keeps of the attempts that failed, and of the keys that were closed."""
    records = [*_head(closed), *failed]
    return JsonText(encode(records)) if records else None


@dataclass(frozen=True, slots=True)
class Waiting:
    """No attempt is under way: the step waits for its next one."""

    #: When that is due, in ms.
    until: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An attempt that has no outcome: under way, or cut off somewhere."""

    #: When it began, in ms.
    began_at: int
    #: How long it may last, in ms; None where an older version wrote the row.
    timeout: int | None = None
    #: Whether it is made in a thread, where nothing can stop it.
    is_in_thread: bool = False
    #: What it came to here, where it was cut off or its result could not be kept.
    failure: Failure | None = None
    #: Whether it has come to its end, and only its result is lost.
    has_returned: bool = False

    def over_at(self, longest: float, lease: float) -> int:
        """Return when it must be over, in ms; both in seconds, `longest` if it does not say."""
        timeout = round(longest * 1000) if self.timeout is None else self.timeout
        return self.began_at + timeout + round(lease * 1000)


def encode_running(failed: list[Attempt], closed: int, now: UnderWay) -> JsonText:
    """Return what a row keeps while the attempt after these is under way."""
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
    """Return the record of an attempt that failed here and may be under way somewhere."""
    return _record(error, now_ms) | {_IN_DOUBT: True}


def lost_result(error: BaseException, now_ms: int) -> Attempt:
    """Return the record of an attempt that came to its end, and whose result cannot be kept."""
    return _record(error, now_ms) | {_IN_DOUBT: True, _RETURNED: True}


def last_record(promise: Promise) -> Waiting | UnderWay:
    """Return how a row without an outcome stands, from its last records."""
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
    return UnderWay(promise.created_at)  # nothing is said of it: it began when the row was written


def next_attempt_at(promise: Promise) -> int | None:
    """Return until when a row waits for its next attempt; None when one is under way."""
    last = last_record(promise)
    return last.until if isinstance(last, Waiting) else None


def failed_in(promise: Promise) -> list[Attempt]:
    """Return the attempts that have failed."""
    return [record for record in _records(promise) if "type" in record]


def cut_short(promise: Promise, now_ms: int) -> JsonText | None:
    """Return the attempts of a row that rests, as if its wait had been to end at this moment."""
    *before, last = _records(promise)
    return encode_failed([*before, last | {_WAITED: max(now_ms - int(last["at"]), 0)}])


def _record(error: BaseException, now_ms: int, number: int | None = None) -> Attempt:
    failure = failure_of(error)
    numbered = {} if number is None else {_NUMBER: number}
    return {"type": failure.type, "message": failure.message[:1000], "at": now_ms, **numbered}


def _records(promise: Promise) -> list[Attempt]:
    return decode(promise.attempts) if promise.attempts else []
