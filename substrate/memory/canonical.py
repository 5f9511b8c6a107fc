"""The canonical form of what is said: two that say the same have the same one.

It decides what is one fact and what are two, so it forgives only how something is written: case,
width and accents' encoding, blanks, how a number or a moment is spelled. It never forgives meaning.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from substrate.values.codec import encode

_BLANKS = re.compile(r"\s+")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[t ]\d\d:\d\d.*")


def folded(text: str) -> str:
    """Return a text as names are compared: without case, width and needless blanks."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


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
        return int(value) if value == value // 1 else float(value)
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


def _canonical_text(text: str) -> str:
    short = folded(text)
    if _MOMENT.fullmatch(short):
        try:
            moment = datetime.fromisoformat(short.upper())
        except ValueError:
            return short
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat()
    return short
