"""What people look at: a namespace as it is or was, and why something is remembered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from substrate.memory.disputes import facts_as_decided
from substrate.memory.moments import number_of
from substrate.memory.recall import shown
from substrate.memory.shown import links_json, notes_json
from substrate.store.memory import Memories
from substrate.store.memory_rows import TABLES, Look
from substrate.values.codec import encode
from substrate.values.memory import (
    FactRow,
    LinkRow,
    MotionRow,
    NoteRow,
    PolicyRow,
    Row,
    SaidRow,
    Space,
    memory_id,
)

_ALL = 100_000
_TABLES = tuple(table.name for table in TABLES)


@dataclass(frozen=True, slots=True)
class Bounds:
    """As of what: a number of the namespace, or a moment in ms; None: as it is now."""

    n: int | None = None
    known_at: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a namespace holds, as a journal keeps it."""

    notes: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]]
    links: Sequence[Mapping[str, Any]]
    #: What was said: who, and what.
    said: Sequence[Mapping[str, Any]]
    #: What was declared and what is voted on, in a line each.
    agreed: Sequence[Mapping[str, Any]]


async def known(memory: Memories, space: Space, bounds: Bounds, now: int) -> Known:
    """Return what a namespace holds: of facts and links what is true now, or was then."""
    counter = await memory.counter(space)
    n = await number_of(memory, counter, bounds.n, bounds.known_at)
    look = Look(space, "", {}, as_of=n, limit=_ALL)
    at = max(now, counter.last_at) if bounds.known_at is None else bounds.known_at

    async def found(table: str, at: int | None = None) -> Any:
        return await memory.rows(replace(look, table=table, at=at))

    said = await found(SaidRow.table)
    return Known(
        notes_json(await found(NoteRow.table)),
        await facts_as_decided(memory, replace(look, table=FactRow.table, at=at), counter),
        links_json(await found(LinkRow.table, at)),
        [
            {"id": memory_id(space, row.stamp.n), "speaker": row.speaker, "text": row.body}
            for row in said
        ],
        [
            {"id": memory_id(space, row.stamp.n), "text": shown(row)}
            for table in (PolicyRow.table, MotionRow.table)
            for row in await found(table)
        ],
    )


@dataclass(frozen=True, slots=True)
class Provenance:
    """One row of something that is remembered, from when it counted to when it did not."""

    id: str
    #: What it says.
    says: str
    trust: str
    #: The promise that said so, and the one that wrote the row.
    source: str
    writer: str
    recorded_at: int
    #: Since when and until when it was true; None where that is not said.
    valid_from: int | None
    valid_to: int | None
    #: When it was gone, and which promise was the cause; None while it stands.
    gone_at: int | None
    gone_by: str | None


async def why(memory: Memories, space: Space, n: int) -> Sequence[Provenance]:
    """Return all rows that say what the row of a number says, in the order of their numbers."""
    for table in _TABLES:
        for row in await memory.rows(Look(space, table, {"n": n})):
            same = Look(space, table, {"doc": row.stamp.doc}, limit=_ALL)
            return [provenance_of(each) for each in await memory.rows(same)]
    return []


def provenance_of(row: Row) -> Provenance:
    """Return a row as people look at it."""
    stamp = row.stamp
    begin, end = None, None
    if isinstance(row, FactRow | LinkRow):
        begin, end = row.valid_from, row.valid_to
    return Provenance(
        memory_id(stamp.space, stamp.n),
        shown(row),
        stamp.trust.value,
        stamp.source,
        stamp.writer,
        stamp.recorded_at,
        begin,
        end,
        stamp.gone_at,
        stamp.gone_by,
    )


def markdown(space: Space, found: Known) -> str:
    """Return a namespace as a page of Markdown."""
    lines = [f"# {space.ns}", ""]
    if found.facts:
        lines += ["## Facts", ""]
        lines += [f"- {_fact(fact)}" for fact in found.facts]
        lines.append("")
    if found.links:
        lines += ["## Links", ""]
        lines += [f"- {each['a']} → {each['rel']} → {each['b']}" for each in found.links]
        lines.append("")
    if found.agreed:
        lines += ["## Agreed", ""]
        lines += [f"- {one_line(each['text'])} (`{each['id']}`)" for each in found.agreed]
        lines.append("")
    for note in found.notes:
        # Quoted, so that no text is a heading or a line of this page's own.
        quoted = [f"> {line}".rstrip() for line in note["text"].split("\n")]
        lines += [f"## {one_line(note['name'])}", "", *quoted, ""]
    if found.said:
        lines += ["## Said", ""]
        lines += [f"- **{each['speaker']}**: {one_line(each['text'])}" for each in found.said]
        lines.append("")
    return "\n".join(lines)


def _fact(fact: Mapping[str, Any]) -> str:
    sources = len(fact["sources"])
    more = f", {sources} sources" if sources > 1 else ""
    if decision := fact.get("decision"):
        more += f", decided by `{decision}`"
    elif fact.get("dispute"):
        more += ", disputed, not decided"
    value = fact["object"]
    text = one_line(value if isinstance(value, str) else encode(value))
    said = f"{one_line(fact['subject'])} {fact['predicate']}: {text}"
    return f"{said} (`{fact['id']}`, {fact['trust']}{more})"


def one_line(text: str) -> str:
    """Return a text in one line, so that no part of it looks like a line of somebody else."""
    return " ".join(text.splitlines())
