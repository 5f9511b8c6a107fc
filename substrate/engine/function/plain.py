"""Plain types, which JSON has itself: their values are checked without pydantic."""

from enum import Enum
from typing import Any

from substrate.values.codec import decode, encode
from substrate.values.errors import NotEncodable

PLAIN = (Any, None, type(None), bool, int, float, str, bytes, list, dict)
"""Annotations of plain types. The codec encodes their values."""


def is_plain(plain: type, value: object) -> bool:
    """Whether a value is of a plain type. An int counts as a float, and a tuple as a list."""
    if isinstance(value, plain) or (plain is float and isinstance(value, int)):
        return True
    return plain is list and isinstance(value, tuple)


def may_be_plain(plain: type, value: object) -> bool:
    """Whether a value is of a plain type, or reads back from JSON as one: a UUID does as text."""
    if is_plain(plain, value):
        return True
    try:
        return is_plain(plain, decode(encode(value)))
    except NotEncodable:
        return True  # encoding it will raise, with a better message


def changes_in(value: object, path: str) -> str | None:
    """Return which enum member would read back as its value; None if none would.

    A member that is itself a str or an int does not count: it is equal to what is read back.
    """
    left, seen = [value], set()
    while left:
        each = left.pop()
        if isinstance(each, Enum):
            if not isinstance(each, (str, int)):
                kind = type(each)
                back = f"{kind.__name__} and would come back as {type(each.value).__name__}"
                return f"{path} {'is' if each is value else 'holds'} {back}"
        elif isinstance(each, (dict, list, tuple)) and id(each) not in seen:
            seen.add(id(each))
            left.extend(each.values() if isinstance(each, dict) else each)
    return None
