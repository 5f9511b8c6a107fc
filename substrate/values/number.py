"""Whole numbers and others that a caller gives: checked where they are given."""

import math

from substrate.values.errors import Misuse


def is_whole(value: object) -> bool:
    """Whether it is an integer; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_count(name: str, value: object) -> None:
    """Raise `Misuse` for what is no whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Misuse(f"{name}={value!r} is no whole number; give one that is 1 or more")
    if value < 1:
        raise Misuse(f"{name}={value!r} must be 1 or more")


def check_number(name: str, value: object, least: float, most: float = math.inf) -> None:
    """Raise `Misuse` for what is no finite number from `least` to `most`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise Misuse(f"{name}={value!r} is no number; give one such as 0.5 or 2")
    if not least <= value <= most:  # type: ignore[operator]
        bounds = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise Misuse(f"{name}={value!r} must be {bounds}")
