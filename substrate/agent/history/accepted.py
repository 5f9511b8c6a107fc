"""What people let stand where the code asks for something else than was recorded. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from substrate.agent.history.rows import value_of
from substrate.values.ids import Key
from substrate.values.records import ACCEPTED_SCOPE, Kind, Promise


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One decision of a person: what is recorded stands, though the code asks for another call."""

    #: The kind of the call that the code asked for.
    kind: str
    #: Its name.
    name: str
    #: What it was given.
    input: Any
    #: Who decided, where that is known.
    by: str | None
    #: When, in ms.
    at: int


def accepted_in(journal: Iterable[Promise]) -> Mapping[Key, list[Acceptance]]:
    """Return what people let stand, by the key at which it was recorded."""
    found: dict[Key, list[Acceptance]] = {}
    for row in journal:
        if row.kind is Kind.RUN and row.key.startswith(ACCEPTED_SCOPE) and row.value is not None:
            record = value_of(row)
            asked = record["asked"]
            accepted = Acceptance(
                asked["kind"], asked["name"], asked["input"], record["by"], row.created_at
            )
            found.setdefault(Key(row.name), []).append(accepted)
    return found
