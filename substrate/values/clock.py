"""Time as an argument.

Times are aware UTC datetimes in Python and integer milliseconds where they are stored.
Nothing else in the kit reads a clock, so a test owns time by passing another `Clock`.
"""

import asyncio
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from substrate.values.errors import Misuse

LONGEST = 1000 * 366 * 86_400.0
"""How many seconds a duration may be: a thousand years, which no calendar of ours runs out of."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What tells the time and waits for it."""

    def now_ms(self) -> int:
        """Return the wall time in milliseconds since 1970 UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds; at once when not positive."""
        ...


def wall_ms() -> int:
    """Return the host's time in milliseconds since 1970 UTC. Somebody may set it at any moment."""
    return time.time_ns() // 1_000_000


class OffsetClock:
    """A clock of the host's, the one on the wall unless told otherwise, corrected by an offset."""

    __slots__ = ("_host_ms", "offset_ms")

    def __init__(self, offset_ms: int = 0, host_ms: Callable[[], int] = wall_ms) -> None:
        self.offset_ms: int = offset_ms
        self._host_ms = host_ms

    def now_ms(self) -> int:
        """Return the corrected wall time in milliseconds since 1970 UTC."""
        return self._host_ms() + self.offset_ms

    def set(self, now_ms: int, asked: float) -> None:
        """Set it by the answer of another clock that was asked at this `uptime`.

        The answer was right half-way between then and now.
        """
        self.offset_ms += now_ms + round((uptime() - asked) * 500) - self.now_ms()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(seconds, 0))


def uptime() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the host sleeps.

    Leases do, too; ``time.monotonic()`` stands still meanwhile.
    """
    return time.monotonic() if _SLEEPLESS is None else time.clock_gettime(_SLEEPLESS)


def sleepless_clock(platform: str) -> str:
    """Return the name in `time` of the clock that goes on while a host of this platform sleeps.

    The same name stands for different clocks: CLOCK_MONOTONIC counts the sleep on macOS (Apple's
    ``clock_gettime(3)``), where ``time.monotonic()`` does not, and does not on Linux.
    """
    return "CLOCK_MONOTONIC" if platform == "darwin" else "CLOCK_BOOTTIME"


_SLEEPLESS: int | None = getattr(time, sleepless_clock(sys.platform), None)


def steady_clock() -> OffsetClock:
    """Return a clock that goes on evenly from the time it was set to, whoever sets the host's."""
    return OffsetClock(wall_ms() - _uptime_ms(), _uptime_ms)


def _uptime_ms() -> int:
    return int(uptime() * 1000)


def to_ms(when: datetime) -> int:
    """Return milliseconds since 1970 UTC. Raises `Misuse` for a datetime without a time zone."""
    if not isinstance(when, datetime):
        raise Misuse(f"{when!r} is no moment; write datetime.now(UTC) + timedelta(hours=1)")
    if when.tzinfo is None:
        raise Misuse(f"{when!r} has no time zone; use datetime.now(UTC)")
    return (when - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the aware UTC datetime of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def seconds_of(duration: timedelta | float, name: str = "") -> float:
    """Return a duration in seconds. `name` is what a message calls it by.

    Raises `Misuse` for what is no duration: text, NaN, infinity, more than a thousand years.
    """
    given: object = duration
    shown = f"{name}={given!r:.200}" if name else f"{given!r:.200}"
    if isinstance(given, timedelta):
        seconds = given.total_seconds()
    elif isinstance(given, (int, float)) and not isinstance(given, bool):
        seconds = float(given) if abs(given) <= LONGEST else math.inf
    else:
        raise Misuse(f"{shown} is no duration; give seconds or a timedelta")
    if not abs(seconds) <= LONGEST:  # also for NaN, which no comparison is true of
        raise Misuse(
            f"{shown} is no duration to wait for, being more than a thousand years; where "
            "there is to be no limit, leave it out"
        )
    return seconds


def time_limit(timeout: timedelta | float | None) -> float | None:
    """Return for how many seconds something may go on at most; None for no limit.

    Raises `Misuse` as `seconds_of` does, and where no time is left at all.
    """
    if timeout is None:
        return None
    seconds = seconds_of(timeout)
    if seconds <= 0:
        raise Misuse(
            f"timeout={timeout!r} leaves no time; give more than 0 seconds, or leave it out"
        )
    return seconds


class Duration:
    """A field of a dataclass that takes seconds or a timedelta, and gives a timedelta.

    Setting it raises `Misuse` as `seconds_of` does.
    """

    def __init__(self, default: timedelta) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: object | None, owner: type | None = None) -> timedelta:
        return self._default if instance is None else getattr(instance, self._name)

    def __set__(self, instance: object, value: timedelta | float) -> None:
        object.__setattr__(instance, self._name, _kept(self._name, value))


class OptionalDuration:
    """A `Duration` that may be None, and is unless given."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: object | None, owner: type | None = None) -> timedelta | None:
        return None if instance is None else getattr(instance, self._name)

    def __set__(self, instance: object, value: timedelta | float | None) -> None:
        kept = None if value is None else _kept(self._name, value)
        object.__setattr__(instance, self._name, kept)


def _kept(name: str, value: timedelta | float) -> timedelta:
    seconds = seconds_of(value, name.lstrip("_"))
    return value if isinstance(value, timedelta) else timedelta(seconds=seconds)
