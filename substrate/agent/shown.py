"""What people are shown of a gate: one line, and the digest that a decision is made for. Pure."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from substrate.values.codec import encode
from substrate.values.secret import hidden

SUMMARY_LIMIT = 200
"""How many characters of a question people read on one line."""

VALUE_LIMIT = 80
"""How many characters of one argument people read; what is cut says how long it is."""


def digest_of(what: str, shown: Mapping[str, Any]) -> str:
    """Return the digest of exactly what is shown: a tool with its arguments, or a question."""
    return sha256(encode({"what": what, "shown": dict(shown)}).encode()).hexdigest()


def call_words(tool: str, arguments: Mapping[str, Any]) -> str:
    """Return a call on one line: ``refund(order='A-17', cents=4900)``.

    Each argument is cut by itself: a long one, which a model may give, hides no other.
    """
    inside = ", ".join(f"{name}={_value(value)}" for name, value in arguments.items())
    return f"{tool}({inside})"


def _value(value: Any) -> str:
    try:
        text = hidden(repr(value))
    except ValueError:  # an int of more digits than Python writes
        text = f"a number of {value.bit_length()} bits"
    line = " ".join(text.split())
    if len(line) <= VALUE_LIMIT:
        return line
    return f"{line[:VALUE_LIMIT]}… ({len(line)} characters)"


def shortened(text: str) -> str:
    """Return text as one line of a length that people read, without the secrets that are known."""
    line = " ".join(hidden(text).split())
    return line if len(line) <= SUMMARY_LIMIT else f"{line[: SUMMARY_LIMIT - 1]}…"
