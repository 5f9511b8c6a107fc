"""What a write of memory comes to: what it has changed, or why it could not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from substrate.store.ledger import Key
from substrate.values.ids import Key as PromiseKey
from substrate.values.ids import place_of
from substrate.values.memory import Stamp

RETRACTIONS = ("retract", "unlink")
"""The writes that say no more what somebody has said."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who writes, and when."""

    #: The promise that it settles.
    source: str
    #: When, in ms.
    now: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The write is decided. What it added and closed is what its undo takes back."""

    #: What the caller gets.
    value: Mapping[str, Any]
    table: str
    added: Sequence[int] = ()
    closed: Sequence[int] = ()
    #: Of what these rows speak.
    keys: Sequence[Key] = field(default_factory=tuple)

    @property
    def record(self) -> dict[str, Any]:
        """Return it as the promise keeps it."""
        touched = {
            "table": self.table,
            "added": list(self.added),
            "closed": list(self.closed),
            "keys": [list(key) for key in self.keys],
        }
        return {**self.value, "touched": touched}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands does not allow it: nothing is changed."""

    #: The name of the error.
    type: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


Outcome = Changed | Refusal


def is_retraction(stamp: Stamp) -> bool:
    """Whether a row is gone since somebody has taken back what it says, whoever said it."""
    key = (stamp.gone_by or "").partition("#")[2]
    return place_of(PromiseKey(key))[1][0] in RETRACTIONS
