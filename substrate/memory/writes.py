"""What can be written, by name: what each write has to know first, and what it decides.

A write is asked for as JSON, and that is what its promise records: so what is decided follows from
what is recorded, with the secrets hidden that are hidden there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from substrate.memory import facts, history, links, notes
from substrate.memory.canonical import folded
from substrate.memory.outcome import Changed, Outcome, Request
from substrate.store.ledger import Key, Ledger, Wanted
from substrate.values.memory import FactRow, LinkRow, NoteRow, SaidRow, Space

Ask = Mapping[str, Any]


def _note(ask: Ask) -> Sequence[Key]:
    return [(ask["name"],)]


def _renamed(ask: Ask) -> Sequence[Key]:
    return [(ask["name"],), (ask["to"],)]


def _fact(ask: Ask) -> Sequence[Key]:
    return [(folded(ask["subject"]), ask["predicate"])]


def _link(ask: Ask) -> Sequence[Key]:
    return [(folded(ask["a"]), ask["rel"], folded(ask["b"]))]


def _take_back(ledger: Ledger, space: Space, ask: Ask, by: Request) -> Outcome:
    """Undo a write that has changed these rows; nothing where somebody has done so since."""
    kind, undo = _UNDOS[ask["table"]]
    rows = {n: ledger.row(kind, space, n) for n in (*ask["added"], *ask["closed"])}
    written = [row for n in ask["added"] if (row := rows[n])]
    closed = [row for n in ask["closed"] if (row := rows[n])]
    is_undone = bool(written or closed) and undo(ledger, written, closed, by)
    return Changed({"is_undone": is_undone}, ask["table"])


_UNDOS: Mapping[str, tuple[type[Any], Callable[..., bool]]] = {
    NoteRow.table: (NoteRow, notes.take_back),
    FactRow.table: (FactRow, facts.take_back),
    LinkRow.table: (LinkRow, links.take_back),
    SaidRow.table: (SaidRow, history.take_back),
}

WRITES: Mapping[str, tuple[str, Callable[[Ask], Sequence[Key]], Callable[..., Outcome]]] = {
    "write_note": (NoteRow.table, _note, notes.write),
    "append_note": (NoteRow.table, _note, notes.append),
    "edit_note": (NoteRow.table, _note, notes.substitute),
    "insert_note": (NoteRow.table, _note, notes.insert),
    "delete_note": (NoteRow.table, _note, notes.delete),
    "rename_note": (NoteRow.table, _renamed, notes.rename),
    "remember": (FactRow.table, _fact, facts.remember),
    "retract": (FactRow.table, _fact, facts.retract),
    "link": (LinkRow.table, _link, links.link),
    "unlink": (LinkRow.table, _link, links.unlink),
    "say": (SaidRow.table, lambda ask: [], history.say),
}

TAKE_BACK = "take_back"


def wanted_by(space: Space, name: str, ask: Ask) -> Wanted:
    """Return what a write has to know."""
    if name == TAKE_BACK:
        keys = [tuple(key) for key in ask["keys"]]
        numbers = [*ask["added"], *ask["closed"]]
        return Wanted(space, {ask["table"]: keys} if keys else {}, {ask["table"]: numbers})
    table, keys_of, _ = WRITES[name]
    keys = list(keys_of(ask))
    return Wanted(space, {table: keys} if keys else {}, {})


def decided(ledger: Ledger, space: Space, name: str, ask: Ask, by: Request) -> Outcome:
    """Decide a write, and change the ledger."""
    if name == TAKE_BACK:
        return _take_back(ledger, space, ask, by)
    return WRITES[name][2](ledger, space, ask, by)
