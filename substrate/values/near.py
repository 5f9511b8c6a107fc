"""The name that somebody may have meant who wrote another one. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches


def meant(given: str, known: Iterable[str]) -> str | None:
    """Return which of the known names is nearest to what was given; None where none is near.

    >>> meant("aproval", ["answer", "approval"])
    'approval'
    """
    names = list(known)
    lower = {name.lower(): name for name in names}
    found = get_close_matches(given.lower(), lower, n=1, cutoff=0.7)
    return lower[found[0]] if found else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'approval'?`` to follow what was given, or nothing."""
    found = meant(given, known)
    return "" if found is None else f"; did you mean {found!r}?"
