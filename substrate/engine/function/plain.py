"""Plain types: those that JSON has a form for, so that a value needs a look and no adapter."""

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
