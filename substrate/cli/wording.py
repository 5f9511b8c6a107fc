"""How figures and values are worded for people: durations, money, tokens, and values cut short.

Invariants: what is not known is said, never shown as 0; what a model or a tool said cannot move
the cursor, since control characters are shown as escapes.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from substrate.models.messages import PassedOver, Usage
from substrate.values.clock import from_ms
from substrate.values.records import Promise

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def duration(ms: int) -> str:
    """Return a duration: ``0.03 s``, ``12.3 s``, ``2 min 5 s``, ``3 h 4 min``, ``2 d 6 h``."""
    seconds = max(ms, 0) / 1000
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def age(ms: int) -> str:
    """Return how long ago something was, in one figure: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    seconds = max(ms, 0) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def took(promise: Promise) -> str:
    """Return how long a settled promise took, its retries included."""
    return duration((promise.settled_at or promise.created_at) - promise.created_at)


def moment(ms: int) -> str:
    """Return a moment in local time: ``2026-11-21 09:05:07``."""
    local: datetime = from_ms(ms).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")


def money(usd: Decimal | None) -> str:
    """Return an amount: ``$0``, ``$0.0031``, ``$1.25``, or that the price is not known."""
    if usd is None:
        return "unknown price"
    if usd == 0:
        return "$0"
    if usd < Decimal("0.0001"):
        return "<$0.0001"
    return f"${usd:.4f}" if usd < 1 else f"${usd:,.2f}"


def tokens(usage: Usage) -> str:
    """Return how many tokens went in and out."""
    return f"{usage.input_tokens + usage.output_tokens:,} tokens"


def passed_over(each: PassedOver) -> str:
    """Return who was to answer and did not, why, and what that took."""
    took = "" if each.usage is None else f" ({money(each.usage.cost_usd)})"
    return f"passed over {each.model}, {each.reason}{took}: {each.message}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 turn``, ``3 turns``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def claim(epoch: int) -> str:
    """Return the line between what one process did of a run and what the next did."""
    return f"— claim {epoch}: another process went on from here —"


def visible(text: str) -> str:
    """Return text whose control characters, save newline and tab, are shown as escapes."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def as_json(value: Any, indent: int | None = None) -> str:
    """Return a decoded value as JSON; what JSON has no form for, such as a date, as text."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def short(value: Any, limit: int = 60) -> str:
    """Return a value on one line of at most so many characters; text without quotes."""
    text = value if isinstance(value, str) else as_json(value)
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def gist(text: str, limit: int) -> str:
    """Return a message on one line, cut in its middle: its end says what to do.

    >>> gist("the server said: busy busy busy busy; back off", 40)
    'the server said: busy bu…; back off'
    """
    line = " ".join(visible(text).split())
    fact, _, remedy = line.rpartition("; ")
    if len(line) <= limit or not fact or len(remedy) > limit // 2:
        return short(line, limit)
    return f"{fact[: limit - len(remedy) - 8]}…; {remedy}"


def call(name: str, arguments: Mapping[str, Any], limit: int = 60) -> str:
    """Return a call as Python would write it, cut short: ``search(query="owls", limit=3)``."""
    each = max(limit // max(len(arguments), 1), 12)
    given = (f"{key}={short(as_json(value), each)}" for key, value in arguments.items())
    return f"{visible(name)}({', '.join(given)})"
