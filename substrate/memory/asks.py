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

MOST_VOTERS = 1000

_LONGEST_TIME = 100 * 366 * 24 * 3600 * 1000  # ms

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


def policy(value: object) -> str | None:
    """Return what one write does to other values, or raise `Misuse`."""
    if value is None or value in ("one", "many"):
        return None if value is None else str(Policy(value))
    raise Misuse(
        f"policy={value!r:.60} is none of a fact; use 'one' or 'many', or declare the predicate: "
        "memory.declare('lives in', 'latest')"
    )


def declared(
    predicate: object, policy: object, voters: object, need: object, instead_of: object
) -> Ask:
    """Return what is declared of a predicate, or raise `Misuse`."""
    if not isinstance(policy, str) or policy not in set(Policy):
        raise Misuse(
            f"policy={policy!r:.60} is none; use {' or '.join(map(repr, map(str, Policy)))}"
        )
    if policy != Policy.VOTE:
        if voters or need is not None:
            raise Misuse(f"policy={policy!r} asks no voters; leave voters= and need= out")
        voting: Ask = {"voters": [], "need": 0}
    else:
        voting = _voting(voters, need)
    if instead_of is not None and instead_of not in set(Policy):
        raise Misuse(f"instead_of={instead_of!r:.60} is no policy; name the one that stands")
    return {
        "predicate": check_predicate(predicate),
        "policy": str(Policy(policy)),
        "instead_of": None if instead_of is None else str(instead_of),
        **voting,
    }


def _voting(voters: object, need: object) -> Ask:
    """Return who votes, and how many of them are needed: more than half, if not told otherwise."""
    if isinstance(voters, str) or not isinstance(voters, Sequence) or not voters:
        raise Misuse(f"voters={voters!r:.200} are none; give a list of names")
    names = [check_name(each, "voter") for each in voters]
    if len(set(names)) < len(names) or len(names) > MOST_VOTERS:
        raise Misuse(f"voters={names!r:.200}: give each once, {MOST_VOTERS} at most")
    most = len(names) // 2 + 1 if need is None else need
    if not isinstance(most, int) or not is_whole(most) or not 1 <= most <= len(names):
        raise Misuse(f"need={need!r:.60}: give a number from 1 to {len(names)}, of the voters")
    return {"voters": names, "need": int(most)}


def motion(topic: object, value: Any, voters: object, need: object, ms: int | None) -> Ask:
    """Return what is proposed, or raise `Misuse`."""
    if ms is not None and not 0 < ms <= _LONGEST_TIME:
        raise Misuse(f"timeout of {ms} ms: give a time from 1 ms to 100 years")
    return {
        "topic": check_name(topic, "topic"),
        "object": check_object(value),
        **_voting(voters, need),
        "timeout_ms": ms,
    }


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
