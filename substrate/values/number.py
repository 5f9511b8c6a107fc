"""Whole numbers and others that a caller gives: checked where they are given."""

import math
from decimal import Decimal

from substrate.values.errors import Misuse

MOST = 1_000_000
"""More runs or threads at once than that are a mistake, and no number of a database."""


def is_whole(value: object) -> bool:
    """Whether it is an integer; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_count(name: str, value: object, most: int | None = None) -> None:
    """Raise `Misuse` for what is no whole number from 1 on, to `most` where there is one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Misuse(f"{name}={value!r} is no whole number; give one that is 1 or more")
    if value < 1:
        raise Misuse(f"{name}={value!r} must be 1 or more; 1 is the least")
    if most is not None and value > most:
        raise Misuse(f"{name}={value!r:.60} must be at most {most:,}; give fewer")


def check_number(name: str, value: object, least: float, most: float = math.inf) -> None:
    """Raise `Misuse` for what is no finite number from `least` to `most`."""
    if not is_number(value):
        raise Misuse(f"{name}={value!r} is no number; give one such as 0.5 or 2")
    if not least <= value <= most:  # type: ignore[operator]
        bounds = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise Misuse(f"{name}={value!r} must be {bounds}; give a number within")


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def is_amount(value: object) -> bool:
    """Whether it is such a number, or a finite `Decimal`: of money, say."""
    return is_number(value) or (isinstance(value, Decimal) and _is_finite(value))


def _is_finite(value: float | Decimal) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, ValueError):  # an int past every float; a signalling NaN
        return False
