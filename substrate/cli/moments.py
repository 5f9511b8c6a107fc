"""Moments as people type them: ``7d`` ago, or a date, or a date and a time of day, here.

>>> Moment.read("--since", "36h").at(1_800_000_000_000)
1799870400000
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from substrate.cli.errors import UsageError

_AGO = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: so long before now, or a fixed one. In ms."""

    #: How long before now; None for a fixed one.
    ago: int | None = None
    #: The fixed one, since 1970 UTC.
    fixed: int = 0

    @classmethod
    def read(cls, option: str, text: str) -> "Moment":
        """Return what was typed for an option. Raises `UsageError`, with what may be."""
        if found := _AGO.fullmatch(text.strip()):
            return cls(ago=int(found[1]) * _SECONDS[found[2]] * 1000)
        try:
            when = datetime.fromisoformat(text.strip()).astimezone(UTC)
            return cls(fixed=round(when.timestamp() * 1000))
        except (ValueError, OverflowError, OSError):
            raise UsageError(
                f"{option} {text!r:.100} is no moment; write how long ago (30m, 12h, 7d, 2w), or a "
                "date: 2026-11-21, 2026-11-21T09:30, 2026-11-21T09:30+01:00"
            ) from None

    def at(self, now: int) -> int:
        """Return it as ms since 1970 UTC."""
        return self.fixed if self.ago is None else now - self.ago
