"""What a run undoes before it ends: the decision, and the tries that follow it. Pure.

An undo's row, and the decision to undo, are steps in the table, and no steps of the function's.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from substrate.agent.history.rows import value_of
from substrate.engine.worker.unwind import RunEnd
from substrate.values.records import UNWIND_KEY, Promise


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run comes to, and what is undone before that."""

    #: How the run ends, and why.
    end: RunEnd
    #: The keys of what is undone, in the order in which it is.
    keys: Sequence[str]


def is_decision(row: Promise) -> bool:
    """Whether this is the decision to undo what the run did."""
    return row.key == UNWIND_KEY


def decision_of(row: Promise) -> Decision:
    """Return what the row of a decision says."""
    record = value_of(row)
    return Decision(RunEnd.from_json(record), record["keys"])


def undos_in(rows: Iterable[Promise]) -> Sequence[str]:
    """Return the keys of what is to be undone, in the order in which it is."""
    decisions = (row for row in rows if is_decision(row) and row.value)
    return [key for row in decisions for key in value_of(row)["keys"]]


def undone_by(row: Promise, undos: Collection[str]) -> str | None:
    """Return the key of what a try to undo makes up for; None for any other row."""
    scope, _, number = row.key.rpartition("/")
    key = scope.removeprefix(f"{UNWIND_KEY}/")
    return key if number.isdigit() and key != scope and key in undos else None
