"""The canonical form of what is said: two that say the same have the same one.

It decides what is one fact and what are two, so it forgives only how something is written, and
rather keeps two of one than makes one of two:

- case, blanks, width and how an accent is encoded make no difference. Of a unit behind a number, in
  what holds a digit and in what holds a slash, case does: ``5 mW`` is no ``5 MW``, ``aB3`` no
  ``ab3``.
- Of a number with a unit the unit may be spelled out, and changed by a power of ten: ``5.0 km`` is
  ``5.0 kilometers``, and ``5000 m`` is ``5.000 km``. It is not ``5 km``: that says less.
- A day is the same with the name of its month, in English: ``29 November 2026``. What might be
  another day to somebody, ``11/12/2026``, stays as it is.
- A moment is the same in all time zones; without one it is no moment.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from substrate.memory.units import CASED, quantity
from substrate.values.codec import encode

_BLANKS = re.compile(r"\s+")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r" ?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2}(?::[0-9]{2})?)"
)
_WIDTHS = ("<wide>", "<narrow>", "<noBreak>")
# A letter's case may tell here: of a unit, of a code, of a path.
_EXACT = re.compile(r"(?<=[0-9] )(?P<unit>[^\W\d_]{1,4})(?![^\W_])|\S*[0-9/\\]\S*")
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        1,
    )
    for name in names.split()
}
_DAY_FIRST = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th|\.)? ([a-z]+)\.?,? ([0-9]{4})")
_MONTH_FIRST = re.compile(r"([a-z]+)\.? ([0-9]{1,2})(?:st|nd|rd|th)?,? ([0-9]{4})")


def folded(text: str) -> str:
    """Return a name as names are compared: without case, width and needless blanks."""
    return unicodedata.normalize("NFC", _tidy(text).casefold())


def as_predicate(text: str) -> str:
    """Return the name of a predicate or a relation: ``Lives in`` is ``lives_in``."""
    return folded(text).replace(" ", "_")


def object_key(value: Any) -> str:
    """Return a hash of a value's canonical form."""
    return sha256(encode(_canonical(value)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float | Decimal):
        return _canonical_number(value)
    if isinstance(value, str):
        return _canonical_text(value)
    if isinstance(value, datetime):
        return _canonical_text(value.isoformat())
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_canonical(each) for each in value]
    return value


def _canonical_number(value: float | Decimal) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    # One with more zeros than a float can have is left as it is: 1E+1000000 would be a long number.
    if not value.is_finite() or value.adjusted() > 308:
        return value
    if value == value.to_integral_value():
        return int(value)
    # A decimal that no float is keeps all of its digits.
    return float(value) if Decimal(repr(float(value))) == value else value


def _canonical_text(text: str) -> str:
    tidy = _tidy(text)
    return _moment(tidy) or quantity(tidy) or _day(tidy.lower()) or _without_case(tidy)


def _tidy(text: str) -> str:
    """Return a text in one encoding and width, with single blanks.

    Not by NFKC, which makes ``10²`` the same as ``102``.
    """
    if not text.isascii():
        text = "".join(map(_of_one_width, text))
        text = unicodedata.normalize("NFC", text)
    return _BLANKS.sub(" ", text).strip()


def _of_one_width(char: str) -> str:
    kind, _, code = unicodedata.decomposition(char).partition(" ")
    return chr(int(code, 16)) if kind in _WIDTHS and " " not in code else char


def _without_case(text: str) -> str:
    """Return a text in small letters, but for what case may tell.

    Not by `casefold`, which makes ``Maße`` the same as ``Masse``.
    """
    kept, end = [], 0
    for exact in _EXACT.finditer(text):
        if exact["unit"] is None or exact["unit"].lower() in CASED:
            kept += [text[end : exact.start()].lower(), exact.group()]
            end = exact.end()
    return unicodedata.normalize("NFC", "".join([*kept, text[end:].lower()]))


def _moment(text: str) -> str | None:
    if not _MOMENT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper().replace(" ", "T", 1).replace(" ", ""))
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # the 30th of February, or before the year 1 in UTC
        return None


def _day(text: str) -> str | None:
    if found := _DAY_FIRST.fullmatch(text):
        day, month, year = found.groups()
    elif found := _MONTH_FIRST.fullmatch(text):
        month, day, year = found.groups()
    else:
        return None
    try:
        return date(int(year), _MONTHS[month], int(day)).isoformat()
    except (KeyError, ValueError):
        return None
