"""What a reader gets where sources disagree: the value that was decided for, or all, marked.

Only of predicates for which a policy was declared. What was decided counts where its value is true
at the moment that is asked for: of another time it says nothing. A namespace in which nothing was
declared costs no look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from substrate.memory.decisions import contested, decision_json
from substrate.memory.shown import Fact, fact_of, facts_json
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.clock import from_ms
from substrate.values.memory import Counter, DecisionRow, FactRow, Policy, PolicyRow

_MANY = 100_000


@dataclass(frozen=True, slots=True)
class Decision:
    """For which of several values somebody, or a rule, has decided."""

    #: The id of its row.
    id: str
    #: The value.
    value: Any
    #: By what rule.
    policy: Policy
    #: The person or judge; empty where a rule decided.
    by: str
    #: Why, if they said so.
    reason: str
    #: Over which rows: those that stood at this number of the namespace.
    over: int
    #: The promise that has written it.
    source: str
    #: When.
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Dispute:
    """What sources say of a subject that cannot be true at once, and what was decided of it."""

    #: Of whom or what.
    subject: str
    #: What is said.
    predicate: str
    #: How it is decided.
    policy: Policy
    #: As of which number of the namespace: who decides names it.
    n: int
    #: All that is said, in the order in which it was.
    facts: tuple[Fact, ...]
    #: What was decided; None while it is open.
    decision: Decision | None


Marks = Mapping[int, Mapping[str, str]]
"""By the `doc` of a fact: whether it was decided for, was overruled, or is open; by which row."""


async def facts_as_decided(
    memory: Memories, look: Look, counter: Counter, *, keeps_all: bool = False
) -> list[dict[str, Any]]:
    """Return facts as a journal keeps them, without those that were overruled."""
    rows = [row for row in await memory.rows(look) if isinstance(row, FactRow)]
    marks = await marks_of(memory, look, rows, counter)
    left = [row for row in rows if keeps_all or not _is_overruled(marks, row)]
    return facts_json(left, marks)


async def without_overruled(
    memory: Memories, look: Look, rows: Sequence[FactRow], counter: Counter
) -> Sequence[FactRow]:
    """Return rows that were found by something else than their subject, but the overruled ones."""
    if not counter.declared or not rows:
        return rows
    beside = replace(look, where={}, among=_among(rows), limit=_MANY)
    whole = [row for row in await memory.rows(beside) if isinstance(row, FactRow)]
    marks = await marks_of(memory, look, whole, counter)
    return [row for row in rows if not _is_overruled(marks, row)]


async def marks_of(
    memory: Memories, look: Look, rows: Sequence[FactRow], counter: Counter
) -> Marks:
    """Return which facts were decided for, overruled, or are open, of all of their subjects."""
    if not counter.declared or not rows:
        return {}
    deciding = await _policies(memory, look)
    said: dict[tuple[str, ...], list[FactRow]] = {}
    for row in rows:
        if row.predicate in deciding:
            said.setdefault(row.key, []).append(row)
    disputed = {key: found for key, some in said.items() if (found := contested(some))}
    if not disputed:
        return {}
    decided = await _decisions(memory, look, [row for some in disputed.values() for row in some])
    marks: dict[int, dict[str, str]] = {}
    for key, some in disputed.items():
        marks |= _marked(some, decided.get(key))
    return marks


async def dispute_of(memory: Memories, look: Look, counter: Counter) -> Sequence[Mapping[str, Any]]:
    """Return the dispute about one subject and predicate, if there is one, as a journal has it."""
    facts = await facts_as_decided(memory, look, counter, keeps_all=True)
    disputed = [fact for fact in facts if "dispute" in fact]
    if not disputed:
        return []
    deciding = await _policies(memory, look)
    row = next(iter((await _decisions(memory, look, [])).values()), None)
    return [
        {
            "id": disputed[0]["id"],
            "subject": disputed[0]["subject"],
            "predicate": disputed[0]["predicate"],
            "policy": deciding[disputed[0]["predicate"]],
            "facts": disputed,
            "decision": decision_json(row) if row and disputed[0].get("decision") else None,
        }
    ]


def dispute_from(value: Mapping[str, Any]) -> Dispute | None:
    """Return a dispute as it was recorded."""
    for found in value["found"]:
        return Dispute(
            found["subject"],
            found["predicate"],
            Policy(found["policy"]),
            value["n"],
            tuple(map(fact_of, found["facts"])),
            decision_of(found["decision"]),
        )
    return None


def decision_of(record: Mapping[str, Any] | None) -> Decision | None:
    """Return a decision as it was recorded."""
    if record is None:
        return None
    read = {"policy": Policy(record["policy"]), "decided_at": from_ms(record["decided_at"])}
    return Decision(**{**record, **read})


async def _policies(memory: Memories, look: Look) -> Mapping[str, str]:
    """Return how each predicate is decided, as it was declared then."""
    asked = Look(look.space, PolicyRow.table, {}, as_of=look.as_of, limit=_MANY)
    rows = await memory.rows(asked)
    return {
        row.predicate: row.policy
        for row in rows
        if isinstance(row, PolicyRow) and Policy(row.policy).decides
    }


async def _decisions(
    memory: Memories, look: Look, rows: Sequence[FactRow]
) -> Mapping[tuple[str, ...], DecisionRow]:
    """Return what was decided then of the subjects of these rows; of the one asked for, of none."""
    where, among = (look.where, {}) if not rows else ({}, _among(rows))
    asked = Look(look.space, DecisionRow.table, where, among, as_of=look.as_of, limit=_MANY)
    found = await memory.rows(asked)
    return {row.key: row for row in found if isinstance(row, DecisionRow)}


def _among(rows: Sequence[FactRow]) -> Mapping[str, Sequence[str]]:
    return {
        "subject_key": sorted({row.subject_key for row in rows}),
        "predicate": sorted({row.predicate for row in rows}),
    }


def _marked(rows: Sequence[FactRow], decision: DecisionRow | None) -> dict[int, dict[str, str]]:
    """Return how each value of one subject and predicate stands."""
    own = [row for row in rows if decision and row.object_key == decision.object_key]
    if decision is None or not own:
        return {row.stamp.doc: {"dispute": "open"} for row in rows}
    space, n = decision.stamp.space, decision.stamp.n
    return {
        row.stamp.doc: {
            "dispute": "decided" if row.object_key == decision.object_key else "overruled",
            "decision": f"{space.ns}#{n}",
        }
        for row in rows
    }


def _is_overruled(marks: Marks, row: FactRow) -> bool:
    return marks.get(row.stamp.doc, {}).get("dispute") == "overruled"
