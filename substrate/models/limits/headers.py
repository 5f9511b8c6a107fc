"""How long a provider asks to wait, in whichever of its many ways it says so. Pure.

==================================  ==============================================  ==============
where                               form                                            who
==================================  ==============================================  ==============
``retry-after-ms``                  milliseconds                                    OpenAI family
``retry-after``                     seconds, or an HTTP date (RFC 9110, 10.2.3)     everyone
``error.details[].retryDelay``      ``45.83s`` (google.rpc.RetryInfo)               Gemini
the message                         ``try again in 6m0s``, ``retry in 58.9s``       OpenAI, Groq
``x-ratelimit-reset-…``             ``2m59.56s``, ``840ms`` (a Go duration)         OpenAI, Groq
``anthropic-ratelimit-…-reset``     ``2026-11-20T11:36:07Z`` (RFC 3339)             Anthropic
==================================  ==============================================  ==============

Some gateways write a moment where a number of seconds belongs: so many seconds, or milliseconds,
since 1970.

Invariants: a wait is a number of seconds, 0 for a moment that has passed, or None where none was
asked for; what cannot be read counts as nothing. `LONGEST_WAIT_S` stands for anything longer. A
time of day is measured by the server's own clock, its ``date`` header: ours may be wrong.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

LONGEST_WAIT_S = 31 * 86400.0
"""A wait so long, or longer, is not believed: a month, for which quotas are given, in seconds."""

_EPOCH_S, _EPOCH_MS = 1e9, 1e12
"""From here on a number is a moment: seconds, or milliseconds, since 1970."""

_UNITS = r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?|\.\d+)s)?(?:(\d+(?:\.\d+)?|\.\d+)ms)?"
_DURATION = re.compile(_UNITS)
_IN_PROSE = re.compile(rf"(?:try again|retry) in ({_UNITS})", re.IGNORECASE)
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")


@dataclass(frozen=True, slots=True)
class RemainingLimit:
    """What is left of one limit."""

    #: ``requests``, ``tokens``, ``input-tokens``, ….
    resource: str
    remaining: int
    #: The whole; None where the headers do not say.
    limit: int | None
    #: In how many seconds it is whole again.
    resets_in_s: float


def retry_after(headers: Mapping[str, str], body: object, now: datetime) -> float | None:
    """Return the wait that an error asks for, in seconds, or None where it asks for none.

    Of two waits the longer one counts. The times at which limits are renewed count only where there
    is no other wait, and only those of limits that are used up.
    """
    asked = [
        _seconds(headers, now),
        *(go_duration(each) for each in retry_delays(body)),
        _in_message(body),
    ]
    waits = [each for each in asked if each is not None]
    if not waits:  # a limit that is not used up was not the cause
        waits = [each.resets_in_s for each in allowances(headers, now) if each.remaining <= 0]
    return _bounded(max(waits)) if waits else None


def allowances(headers: Mapping[str, str], now: datetime) -> list[RemainingLimit]:
    """Return what the headers say is left; a limit of which a part is missing is left out."""
    found = []
    for resource in sorted(_resources(headers)):
        parts = {part: _limit_header(headers, resource, part) for part in _PARTS}
        remaining, limit = _number(parts["remaining"]), _number(parts["limit"])
        resets_in = _reset(parts["reset"], headers, now)
        if remaining is not None and resets_in is not None:
            whole = None if limit is None else int(limit)
            found.append(RemainingLimit(resource, int(remaining), whole, _bounded(resets_in)))
    return found


def go_duration(text: str | None) -> float | None:
    """Return the seconds of a duration as Go or protobuf writes it.

    >>> go_duration("1h2m3.5s"), go_duration("840ms"), go_duration("soon")
    (3723.5, 0.84, None)
    """
    match = _DURATION.fullmatch(text or "")
    return _seconds_of(match.groups()) if match else None


def retry_delays(body: object) -> Iterator[str]:
    """Yield the delays of the ``google.rpc.RetryInfo`` in an error's details."""
    for detail in details_of(body):
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            yield delay


def details_of(body: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in an error's list of details, the form of the google.rpc errors."""
    error = body.get("error", body) if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


_PARTS = ("remaining", "limit", "reset")


def _seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read ``retry-after-ms``, which is the more exact one, or ``retry-after``."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after")
    seconds = _number(asked)
    if seconds is None and (until := _http_date(asked)):
        return (until - _server_time(headers, now)).total_seconds()
    return None if seconds is None else _from_now(seconds, headers, now)


def _in_message(body: object) -> float | None:
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else error
    found = _IN_PROSE.search(message) if isinstance(message, str) else None
    return _seconds_of(found.groups()[1:]) if found else None


def _resources(headers: Mapping[str, str]) -> set[str]:
    """Return the names of the limits that headers have: ``requests``, ``tokens`` and the like."""
    names: set[str] = set()
    for name in (each.lower() for each in headers):
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                names.update(rest.replace(part, "").strip("-") for part in _PARTS if part in rest)
    return names - {""}


def _limit_header(headers: Mapping[str, str], resource: str, part: str) -> str | None:
    """Return ``x-ratelimit-remaining-tokens`` or ``anthropic-ratelimit-tokens-remaining``."""
    return headers.get(f"x-ratelimit-{part}-{resource}") or headers.get(
        f"anthropic-ratelimit-{resource}-{part}"
    )


def _reset(text: str | None, headers: Mapping[str, str], now: datetime) -> float | None:
    if (seconds := go_duration(text)) is not None:
        return seconds
    if (number := _number(text)) is not None:  # some gateways write plain seconds
        return _from_now(number, headers, now)
    when = _rfc3339(text)
    return (when - _server_time(headers, now)).total_seconds() if when else None


def _from_now(number: float, headers: Mapping[str, str], now: datetime) -> float:
    """Return a number of seconds; of one that is a moment, those until then."""
    if number < _EPOCH_S:
        return number
    return number / (1000 if number >= _EPOCH_MS else 1) - _server_time(headers, now).timestamp()


def _server_time(headers: Mapping[str, str], now: datetime) -> datetime:
    return _http_date(headers.get("date")) or now


def _seconds_of(groups: Iterable[str | None]) -> float | None:
    """Return hours, minutes, seconds and milliseconds together; None where there are none."""
    values = list(groups)
    if not any(values):
        return None
    sizes = (3600.0, 60.0, 1.0, 0.001)
    return sum(float(value or 0) * size for value, size in zip(values, sizes, strict=True))


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def _http_date(text: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _rfc3339(text: str | None) -> datetime | None:
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
