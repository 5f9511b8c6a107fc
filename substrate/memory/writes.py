"""What can be written, by name: what each write has to know first, and what it decides.

A write is asked for as JSON, and that is what its promise records: so what is decided follows from
what is recorded, with the secrets hidden that are hidden there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory import decisions, facts, history, links, motions, notes
from substrate.memory.canonical import folded
from substrate.memory.outcome import Changed, Outcome, Request
from substrate.store.ledger import Key, Ledger, Wanted
from substrate.values.memory import (
    BallotRow,
    DecisionRow,
    FactRow,
    LinkRow,
    MotionRow,
    NoteRow,
    PolicyRow,
    SaidRow,
    Space,
)

Ask = Mapping[str, Any]


Keys = Mapping[str, Sequence[Key]]


def _note(ask: Ask) -> Keys:
    return {NoteRow.table: [(ask["name"],)]}


def _renamed(ask: Ask) -> Keys:
    return {NoteRow.table: [(ask["name"],), (ask["to"],)]}


def _fact(ask: Ask) -> Keys:
    return _facts([(folded(ask["subject"]), ask["predicate"])])


def _facts(keys: Sequence[Key]) -> Keys:
    """Return what has to be known of facts: what is said, and what was declared and decided."""
    predicates = [(predicate,) for predicate in sorted({key[1] for key in keys})]
    return {FactRow.table: keys, PolicyRow.table: predicates, DecisionRow.table: keys}


def _link(ask: Ask) -> Keys:
    return {LinkRow.table: [(folded(ask["a"]), ask["rel"], folded(ask["b"]))]}


def _said(ask: Ask) -> Keys:
    return {}


def _policy(ask: Ask) -> Keys:
    return {PolicyRow.table: [(ask["predicate"],)]}


def _motion(ask: Ask) -> Keys:
    return _motions([(folded(ask["topic"]),)])


def _motions(keys: Sequence[Key]) -> Keys:
    return {MotionRow.table: keys, BallotRow.table: keys}


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
    PolicyRow.table: (PolicyRow, decisions.take_back_policy),
    DecisionRow.table: (DecisionRow, decisions.take_back_decision),
    MotionRow.table: (MotionRow, motions.take_back_motion),
    BallotRow.table: (BallotRow, motions.take_back_ballot),
}

_KNOWN_WITH: Mapping[str, Callable[[Sequence[Key]], Keys]] = {
    FactRow.table: _facts,
    DecisionRow.table: _facts,
    MotionRow.table: _motions,
    BallotRow.table: _motions,
}
"""What has to be known beside the rows of a table that are taken back."""

WRITES: Mapping[str, tuple[Callable[[Ask], Keys], Callable[..., Outcome]]] = {
    "write_note": (_note, notes.write),
    "append_note": (_note, notes.append),
    "edit_note": (_note, notes.substitute),
    "insert_note": (_note, notes.insert),
    "delete_note": (_note, notes.delete),
    "rename_note": (_renamed, notes.rename),
    "remember": (_fact, facts.remember),
    "retract": (_fact, facts.retract),
    "link": (_link, links.link),
    "unlink": (_link, links.unlink),
    "say": (_said, history.say),
    "declare": (_policy, decisions.declare),
    "decide": (_fact, decisions.decide),
    "propose": (_motion, motions.propose),
    "vote": (_motion, motions.vote),
    "outcome": (_motion, motions.outcome),
}

TAKE_BACK = "take_back"


def wanted_by(space: Space, name: str, ask: Ask) -> Wanted:
    """Return what a write has to know."""
    if name != TAKE_BACK:
        disputes_of = ask["predicate"] if name == "declare" else None
        return Wanted(space, WRITES[name][0](ask), {}, disputes_of)
    table = ask["table"]
    keys = [tuple(key) for key in ask["keys"]]
    known = {table: keys} if table not in _KNOWN_WITH else _KNOWN_WITH[table](keys)
    disputes_of = keys[0][0] if keys and table == PolicyRow.table else None
    numbers = {table: [*ask["added"], *ask["closed"]]}
    if table == FactRow.table:
        numbers[DecisionRow.table] = ask["closed"]
    return Wanted(space, known if keys else {}, numbers, disputes_of)


def decided(ledger: Ledger, space: Space, name: str, ask: Ask, by: Request) -> Outcome:
    """Decide a write, and change the ledger."""
    if name != TAKE_BACK:
        outcome = WRITES[name][1](ledger, space, ask, by)
        keys = outcome.keys if isinstance(outcome, Changed) else ()
        table = outcome.table if isinstance(outcome, Changed) else ""
    else:
        outcome = _take_back(ledger, space, ask, by)
        keys, table = [tuple(key) for key in ask["keys"]], ask["table"]
    if table == FactRow.table:
        if name == TAKE_BACK:
            decisions.bring_back(ledger, space, ask["closed"], by)
        reopened = [n for key in keys if (n := decisions.renew(ledger, space, key, by))]
        if reopened and isinstance(outcome, Changed):
            outcome = replace(outcome, closed=[*outcome.closed, *reopened])
    if table == PolicyRow.table and name == TAKE_BACK:
        decisions.renew_all(ledger, space, [key[0] for key in keys], by)
    return outcome
