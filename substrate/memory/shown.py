"""What is kept, as who reads it gets it: values of Python, and their JSON in journals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from substrate.memory.spans import holds, joined
from substrate.values.clock import from_ms
from substrate.values.codec import decode
from substrate.values.ids import root_of
from substrate.values.memory import (
    FactRow,
    LinkRow,
    NoteRow,
    Trust,
    memory_id,
)

T = TypeVar("T", FactRow, LinkRow)


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read."""

    #: The id of this version.
    id: str
    #: Its name.
    name: str
    #: Write over this one, and nobody's work is lost.
    version: int
    #: Its text.
    text: str
    #: When this version was written.
    recorded_at: datetime
    #: The promise that wrote it.
    source: str
    #: Whose word it is.
    trust: Trust


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as it was read: what all its sources say together, of times that meet."""

    #: The id of the row that was said first of those that stand.
    id: str
    #: Of whom or what.
    subject: str
    #: What is said.
    predicate: str
    #: The value.
    object: Any
    #: How sure the surest source is, from 0 to 1.
    confidence: float
    #: Since when it is true.
    valid_from: datetime
    #: Until when; None: it still is.
    valid_to: datetime | None
    #: When the oldest of its rows that stand was written.
    recorded_at: datetime
    #: The promises that said so, of each run the first.
    sources: tuple[str, ...]
    #: Whose word it is: that of its first source.
    trust: Trust
    #: `decided` for where others say something else, `open` while nobody has decided, `overruled`;
    #: None where nobody disagrees, or no policy was declared.
    dispute: str | None = None
    #: The id of the decision.
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it was read."""

    #: The id of the row that was said first of those that stand.
    id: str
    #: From where.
    a: str
    #: How.
    rel: str
    #: Whereto.
    b: str
    #: How sure the surest source is, from 0 to 1.
    confidence: float
    #: Since when it is true.
    valid_from: datetime
    #: Until when; None: it still is.
    valid_to: datetime | None
    #: When the oldest of its rows that stand was written.
    recorded_at: datetime
    #: The promises that said so, of each run the first.
    sources: tuple[str, ...]
    #: Whose word it is: that of its first source.
    trust: Trust


@dataclass(frozen=True, slots=True)
class Hit:
    """What a question has found, and why."""

    #: The id of its row.
    id: str
    #: `note`, `fact` or `said`.
    kind: str
    #: What it says; of a long text, the part around the first word that was found.
    text: str
    #: How much the words that were found tell, by BM25. With an embedder from 0 to 1: a part by
    #: words and one by vectors, each beside the best.
    score: float
    #: Those words, as the index has them.
    words: tuple[str, ...]
    #: When it was written.
    recorded_at: datetime
    #: The promise that said so.
    source: str
    #: Whose word it is.
    trust: Trust
    #: How near the question is to the nearest stretch of it, up to 1; None: not by vectors.
    likeness: float | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """What a walk has reached."""

    #: Its name, as the link has it.
    name: str
    #: How many links away it is.
    distance: int
    #: The link by which it was reached first.
    link: Link


Shown = Note | Fact | Link | Hit


def notes_json(rows: Sequence[NoteRow]) -> list[dict[str, Any]]:
    """Return notes as a journal keeps them; deleted ones are left out."""
    return [
        {
            "id": memory_id(row.stamp.space, row.stamp.n),
            "name": row.name,
            "version": row.version,
            "text": row.body,
            "recorded_at": row.stamp.recorded_at,
            "source": row.stamp.source,
            "trust": row.stamp.trust.value,
        }
        for row in rows
        if row.body is not None
    ]


def facts_json(
    rows: Sequence[FactRow], marks: Mapping[int, Mapping[str, str]] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return facts as a journal keeps them: the rows of each together, with what marks its doc."""
    return [
        {
            "subject": first.subject,
            "predicate": first.predicate,
            "object": decode(first.object),
            **_claimed(some),
            **marks.get(first.stamp.doc, {}),
        }
        for some in _by_doc(rows)
        for first in some[:1]
    ]


def links_json(rows: Sequence[LinkRow]) -> list[dict[str, Any]]:
    """Return links as a journal keeps them: the rows of each together."""
    return [
        {"a": first.a, "rel": first.rel, "b": first.b, **_claimed(some)}
        for some in _by_doc(rows)
        for first in some[:1]
    ]


def note_of(record: Mapping[str, Any]) -> Note:
    """Return a note as it was recorded."""
    return Note(**_read(record))


def fact_of(record: Mapping[str, Any]) -> Fact:
    """Return a fact as it was recorded."""
    return Fact(**_read(record))


def link_of(record: Mapping[str, Any]) -> Link:
    """Return a link as it was recorded."""
    return Link(**_read(record))


def hit_of(record: Mapping[str, Any]) -> Hit:
    """Return a hit as it was recorded."""
    return Hit(**_read(record) | {"words": tuple(record["words"])})


def reached_of(record: Mapping[str, Any]) -> Reached:
    """Return what a walk has reached, as it was recorded."""
    return Reached(record["name"], record["distance"], link_of(record["link"]))


def _by_doc(rows: Sequence[T]) -> list[list[T]]:
    """Return the rows that say the same, of times that meet: what lies between is not said."""
    docs: dict[int, list[T]] = {}
    for row in rows:
        docs.setdefault(row.stamp.doc, []).append(row)
    found: list[list[T]] = []
    for same in docs.values():
        spans = joined((row.valid_from, row.valid_to) for row in same)
        found += [
            [row for row in same if holds(span, (row.valid_from, row.valid_to))] for span in spans
        ]
    return sorted(found, key=lambda rows: rows[0].stamp.n)


def _claimed(rows: Sequence[FactRow | LinkRow]) -> dict[str, Any]:
    first = rows[0]
    ends = [row.valid_to for row in rows]
    sources = {root_of(row.stamp.source): row.stamp.source for row in reversed(rows)}
    return {
        "id": memory_id(first.stamp.space, first.stamp.n),
        "confidence": max(row.confidence for row in rows),
        "valid_from": min(row.valid_from for row in rows),
        "valid_to": None if None in ends else max(end for end in ends if end is not None),
        "recorded_at": min(row.stamp.recorded_at for row in rows),
        "sources": sorted(sources.values()),
        "trust": first.stamp.trust.value,
    }


def _read(record: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(record)
    for name in ("recorded_at", "valid_from", "valid_to"):
        if found.get(name) is not None:
            found[name] = from_ms(found[name])
    if "sources" in found:
        found["sources"] = tuple(found["sources"])
    return found | {"trust": Trust(found["trust"])}
