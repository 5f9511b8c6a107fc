"""Plain types: those that JSON has a form for, so that a value needs a look and no adapter."""

from enum import Enum
from typing import Any

from substrate.values.codec import decode, encode
from substrate.values.errors import NotEncodable

PLAIN = (Any, None, type(None), bool, int, float, str, bytes, list, dict)
"""What is JSON already, or nearly, and needs no adapter."""


def is_plain(plain: type, value: object) -> bool:
    """Whether a value is of a plain type; JSON has one kind of array, and of number nearly."""
    if isinstance(value, plain) or (plain is float and isinstance(value, int)):
        return True
    return plain is list and isinstance(value, tuple)


def may_be_plain(plain: type, value: object) -> bool:
    """Whether a value is of a plain type, or JSON makes one of it: a UUID is text."""
    if is_plain(plain, value):
        return True
    try:
        return is_plain(plain, decode(encode(value)))
    except NotEncodable:
        return True  # what it is will be told


def changes_in(value: object, path: str) -> str | None:
    """Say which enum member would come back as its value; None where none would.

    One that is text or a number is equal to that, and stands for it.
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
