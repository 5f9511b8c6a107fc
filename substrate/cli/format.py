"""How figures and values are worded for people: durations, money, tokens, and values cut short.

Invariants: what is not known is said, never shown as 0; what a model or a tool said cannot move
the cursor, turn a line round or hide in one, since characters that control or format text, and
invisible ones, are shown as escapes.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from unicodedata import category

from substrate.agent.history.rows import CheckRow
from substrate.models.messages import Confidence, PassedOver, Usage
from substrate.values.clock import from_ms
from substrate.values.records import Promise

_PLANES = range(0, 0x110000, 0x10000)
_SKINS = tuple("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_KEYCAPS = tuple("#*0123456789")
_MARKS = ("\u203c", "\u2049", "\u2139", "\u24c2", "\u3030", "\u303d")
_JOINERS = "\u200c\u200d"
_VARIANTS = "\ufe0e\ufe0f"
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but newline and tab
    "\u2028\u2029"  # separators of lines and paragraphs
    # What formats text (the category Cf): the order of its letters, above all.
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    # What has no look of its own (Default_Ignorable_Code_Point), and what chooses one.
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff"
    # Halves of characters, and what is no character.
    "\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(p + 0xFFFE)}{chr(p + 0xFFFF)}" for p in _PLANES)
    + "]"
)
_JOINED = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]"
)
"""Letters of scripts in which a joiner decides on the form of its neighbours."""


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
    try:
        local: datetime = from_ms(ms).astimezone()
    except (OverflowError, ValueError, OSError):  # a row that was written by hand
        return f"{ms} ms"
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


def confidence(sure: Confidence) -> str:
    """Return how sure a model is of its answer, and what is missing, on one line."""
    wanted = "" if sure.is_enough else f", and {sure.least:g} is wanted"
    missing = f"; missing: {sure.missing.strip()}" if sure.missing.strip() else ""
    return f"{sure.value:g} sure of it{wanted}{missing}"


def said_by(check: CheckRow) -> str:
    """Return what a check said of an answer, on one line."""
    if not check.is_judgement:
        return "its judge gave no judgement"
    return "passes" if check.problem is None else f"does not pass: {check.problem}"


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
    """Return text in which nothing is hidden, save newline and tab: it is shown as an escape.

    Joiners stay between letters that are joined, and what makes one emoji of several.
    """
    return _HIDDEN.sub(_escaped, text)


def visible_json(text: str) -> str:
    """Return JSON text that means the same, with what is hidden in it escaped as JSON does."""
    return _HIDDEN.sub(lambda found: _kept(found) or _json_escape(found[0]), text)


def _json_escape(sign: str) -> str:
    octets = sign.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{octets[i : i + 2].hex()}" for i in range(0, len(octets), 2))


def _escaped(found: re.Match[str]) -> str:
    if kept := _kept(found):
        return kept
    number = ord(found[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _kept(found: re.Match[str]) -> str | None:
    """Return a character that is needed where it stands, None for any other."""
    sign, text, at = found[0], found.string, found.start()
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if sign in _JOINERS and _JOINED.match(before) and _JOINED.match(after):
        return sign
    if sign in _VARIANTS and (_is_symbol(before) or (before in _KEYCAPS and after == "\u20e3")):
        return sign
    if sign == "\u200d" and before in ("\ufe0f", *_SKINS):
        before = text[at - 2 : at - 1] if at > 1 else ""
    return sign if sign == "\u200d" and _is_symbol(before) and _is_symbol(after) else None


def _is_symbol(sign: str) -> bool:
    return sign > "\x7f" and (category(sign) in ("So", "Sm") or sign in _MARKS)


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
