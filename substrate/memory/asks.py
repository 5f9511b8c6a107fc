"""What is asked of memory, as JSON: checked where it is asked, before anything is recorded.

What one asks for is what its promise records, so it holds no object of Python: moments are
milliseconds, and what was left to a default is null.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from substrate.memory.canonical import as_predicate, folded
from substrate.memory.notes import LONGEST
from substrate.memory.recall import KINDS
from substrate.values.clock import to_ms
from substrate.values.codec import encode
from substrate.values.errors import Misuse
from substrate.values.memory import Policy, Trust
from substrate.values.number import is_number, is_whole

LONGEST_NAME = 200
"""Characters of a note's name, a subject, a predicate."""

LAST = 9_007_199_254_740_991
"""The last number there is: a database and JSON both hold it exactly."""

LONGEST_VALUE = 16 * 1024
"""Bytes of JSON that the value of a fact may be."""

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The first and the last moment that Python and both stores have."""

Ask = Mapping[str, Any]


def note(name: object, trust: Trust, **more: Any) -> Ask:
    """Return what is asked of a note."""
    return {"name": note_name(name), "trust": trust.value, **more}


def note_name(value: object, what: str = "name") -> str:
    """Return the name of a note, which is one line, or raise `Misuse`."""
    found = check_name(value, what)
    if any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in found):
        raise Misuse(f"{what}={found!r:.220} has a line break or a control; write it in one line")
    return found


def text(value: object, name: str = "text", longest: int = LONGEST) -> str:
    """Return a text that can be kept, or raise `Misuse`."""
    if not isinstance(value, str):
        raise Misuse(f"{name}={value!r:.200} is no text; give a str")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Misuse(
            f"{name} holds half of a character ({value!r:.60}), which no database keeps; decode "
            "it with errors='replace' where it comes in"
        ) from None
    if "\0" in value:
        raise Misuse(f"{name} holds a NUL ({value!r:.60}), which Postgres keeps in no text")
    if size > longest:
        raise Misuse(f"{name} has {size} bytes, and it ends at {longest}; give a part of it")
    return value


def check_name(value: object, what: str = "name") -> str:
    """Return a name of a note, a subject or an end of a link, or raise `Misuse`."""
    found = text(value, what)
    if not folded(found) or len(found) > LONGEST_NAME or found != found.strip():
        raise Misuse(
            f"{what}={found!r:.220} is none; give 1 to {LONGEST_NAME} characters, without blanks "
            "around them"
        )
    return unicodedata.normalize("NFC", found)  # how an accent is encoded is nobody's intent


def check_predicate(value: object, what: str = "predicate") -> str:
    """Return the name of a predicate or a relation in its canonical form, or raise `Misuse`."""
    return as_predicate(check_name(value, what))


def fact(subject: object, predicate: object) -> dict[str, Any]:
    """Return of what a fact speaks."""
    return {
        "subject": check_name(subject, "subject"),
        "predicate": check_predicate(predicate),
    }


def link(a: object, rel: object, b: object) -> dict[str, Any]:
    """Return what a link connects."""
    return {
        "a": check_name(a, "a"),
        "rel": check_predicate(rel, "rel"),
        "b": check_name(b, "b"),
    }


def claim(confidence: object, valid_from: object, valid_to: object, trust: Trust) -> Ask:
    """Return how sure somebody is of it, and when it was true."""
    if not is_number(confidence) or not 0 <= confidence <= 1:  # type: ignore[operator]
        raise Misuse(f"confidence={confidence!r} is none; give a number from 0 to 1")
    begin, end = moment(valid_from, "valid_from"), moment(valid_to, "valid_to")
    if begin is not None and end is not None and end <= begin:
        raise Misuse(
            f"valid_to={valid_to} is not behind valid_from={valid_from}; what is true has a "
            "beginning before its end"
        )
    return {
        "confidence": float(confidence),  # type: ignore[arg-type]
        "valid_from": begin,
        "valid_to": end,
        "trust": trust.value,
    }


def check_object(value: Any) -> Any:
    """Return the value of a fact; raise `Misuse`, or `NotEncodable` for what is no JSON."""
    is_float = isinstance(value, float) and not math.isfinite(value)
    if is_float or (isinstance(value, Decimal) and not value.is_finite()):
        raise Misuse(f"object={value!r} is no number that can be compared; leave the fact out")
    if (size := len(encode(value).encode())) > LONGEST_VALUE:
        raise Misuse(
            f"object has {size} bytes of JSON, and the value of a fact ends at {LONGEST_VALUE}; "
            "keep a note, and in the fact its name"
        )
    return value


def moment(value: object, name: str) -> int | None:
    """Return a moment in ms; None where none is given."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise Misuse(f"{name}={value!r} is no moment; give an aware datetime")
    if not FIRST_MS <= (ms := to_ms(value)) <= LAST_MS:
        raise Misuse(f"{name}={value} is none in UTC; give one from the year 1 to 9999 there")
    return ms


def policy(value: object) -> str:
    """Return a policy, or raise `Misuse`."""
    if not isinstance(value, str) or value not in set(Policy):
        raise Misuse(f"policy={value!r} is none; use {' or '.join(map(repr, map(str, Policy)))}")
    return Policy(value).value


def kinds(given: Sequence[str]) -> list[str]:
    """Return what is looked for, or raise `Misuse`."""
    if isinstance(given, str) or not given or not set(given) <= KINDS.keys():
        raise Misuse(f"kinds={given!r:.200} are none; give some of {', '.join(map(repr, KINDS))}")
    return list(given)


def version(value: object, name: str = "over") -> int:
    """Return a number from 0 on, such as a version of a note, or raise `Misuse`."""
    if not isinstance(value, int) or not is_whole(value) or not 0 <= value <= LAST:
        raise Misuse(f"{name}={value!r:.60} is none; give a whole number from 0 on")
    return value
