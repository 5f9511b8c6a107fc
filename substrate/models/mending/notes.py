"""What is noted while a request is mended: which rule, and where. Pure values.

Whoever only sends the request notes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from substrate.models.mending.rules import Rule
from substrate.models.sendable import Fault, OnFault

Note = Callable[[Rule], None]
"""Gets a rule that was applied, by who knows the place."""

NoteAt = Callable[[Rule, str], None]
"""Gets a rule that was applied, and the place."""


@dataclass(frozen=True, slots=True)
class Mend:
    """One rule, and all places where it was applied, in the order of the request."""

    rule: Rule
    places: tuple[str, ...]


def ignore(rule: Rule) -> None:
    """Note nothing."""


def ignore_at(rule: Rule, place: str) -> None:
    """Note nothing."""


def at(note: NoteAt, place: str) -> Note:
    """Return what notes a rule at this place."""
    return ignore if note is ignore_at else lambda rule: note(rule, place)


def message(index: int) -> str:
    """Return how the place of a message reads: they count from 1."""
    return f"message {index + 1}"


def faults(note: Note) -> OnFault:
    """Return what notes why a text could not be sent."""
    return lambda fault: note(_RULES[fault])


_RULES = {Fault.HALF: Rule.HALF, Fault.NUL: Rule.NUL, Fault.NO_NUMBER: Rule.NO_NUMBER}


def gathered(noted: Iterable[tuple[Rule, str]]) -> list[Mend]:
    """Return what was noted, each rule once with its places, in the order of the table."""
    places: dict[Rule, dict[str, None]] = {}
    for rule, place in noted:
        places.setdefault(rule, {})[place] = None
    return [Mend(rule, tuple(places[rule])) for rule in Rule if rule in places]
