"""What people are shown of a gate: one line, and the digest that a decision is made for. Pure."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from substrate.values.codec import encode
from substrate.values.secret import hidden

SUMMARY_LIMIT = 200
"""How many characters of a call people read on one line."""


def digest_of(what: str, shown: Mapping[str, Any]) -> str:
    """Return the digest of exactly what is shown: a tool with its arguments, or a question."""
    return sha256(encode({"what": what, "shown": dict(shown)}).encode()).hexdigest()


def call_words(tool: str, arguments: Mapping[str, Any]) -> str:
    """Return a call on one line: ``refund(order='A-17', cents=4900)``."""
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return shortened(f"{tool}({inside})")


def shortened(text: str) -> str:
    """Return text as one line of a length that people read, without the secrets that are known."""
    line = " ".join(hidden(text).split())
    return line if len(line) <= SUMMARY_LIMIT else f"{line[: SUMMARY_LIMIT - 1]}…"
