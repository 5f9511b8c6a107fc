"""The day on which a task is begun, in words for a model. Pure.

A model knows no date but that of its training, so "until Friday" means nothing to it. The zone is
the asker's: a worker's own would be another on each machine.

>>> from datetime import UTC, datetime
>>> day(datetime(2026, 11, 28, 23, 30, tzinfo=UTC), "Europe/Vienna").text
'Today is Sunday, 2026-11-29, in the time zone Europe/Vienna.'
"""

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from substrate.models.messages import Json, Text
from substrate.values.near import did_you_mean

DEFAULT_ZONE = "UTC"

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORDS = re.compile(r"Today is [A-Z][a-z]+, \d{4}-\d\d-\d\d, in the time zone \S+\.")


def day(now: datetime, zone: str | None = None) -> Text:
    """Return a moment in words: its day of the week and its date, in a zone."""
    there = now.astimezone(zone_of(zone or DEFAULT_ZONE))
    name = _DAYS[there.weekday()]
    return Text(f"Today is {name}, {there:%Y-%m-%d}, in the time zone {zone or DEFAULT_ZONE}.")


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name. Raises `ValueError` where this machine has none."""
    if name == DEFAULT_ZONE:  # needs no list of zones, which small images lack
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        cure = did_you_mean(str(name), available_timezones()) or (
            "; write one as Europe/Vienna or UTC, and install the package tzdata where the machine "
            "has no list of them"
        )
        raise ValueError(f"{name!r} is no time zone that this machine knows{cure}") from None


def is_day(part: Json) -> bool:
    """Whether the record of a message's part is the words of `day`, and nothing else."""
    text = part.get("text") if isinstance(part, dict) else None
    return isinstance(text, str) and _WORDS.fullmatch(text) is not None
