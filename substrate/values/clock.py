"""Time as an argument.

Times are aware UTC datetimes in Python and integer milliseconds where they are stored.
Nothing else in the kit reads a clock, so a test owns time by passing another `Clock`.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What tells the time and waits for it."""

    def now_ms(self) -> int:
        """Return the wall time in milliseconds since 1970 UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds; at once when not positive."""
        ...


class OffsetClock:
    """The machine's clock, corrected by an offset to the database's."""

    __slots__ = ("offset_ms",)

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        """Return the corrected wall time in milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(seconds, 0))


def to_ms(when: datetime) -> int:
    """Return milliseconds since 1970 UTC; a naive datetime raises `ValueError`."""
    if when.tzinfo is None:
        raise ValueError(f"{when!r} has no time zone; use datetime.now(UTC)")
    return (when - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the aware UTC datetime of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def seconds_of(duration: timedelta | float) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
