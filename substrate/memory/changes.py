"""What has come into a namespace, and what has gone, from one of its numbers to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from substrate.memory.recall import shown
from substrate.store.memory import Memories
from substrate.store.memory_rows import TABLES, Look
from substrate.values.clock import from_ms
from substrate.values.memory import Row, Space, Trust, memory_id

KINDS: Mapping[str, str] = {
    "notes": "note",
    "facts": "fact",
    "links": "link",
    "history": "said",
    "policies": "policy",
    "decisions": "decision",
    "motions": "motion",
    "ballots": "ballot",
}
"""What the rows of each table are, in a word."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a namespace: something counts from now on, or counts no more."""

    #: Its number.
    n: int
    #: The id of the row that came or went.
    id: str
    #: `note`, `fact`, `link`, `said`, `policy`, `decision`, `motion` or `ballot`.
    kind: str
    #: Whether it counts no more.
    is_gone: bool
    #: What it says; of a long text a part.
    text: str
    #: When.
    at: datetime
    #: The promise that did it.
    source: str
    #: Whose word it is.
    trust: Trust


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new in a namespace."""

    #: Up to which number: what comes after that is new the next time.
    n: int
    #: In their order.
    changes: tuple[Change, ...]


async def changes(
    memory: Memories, space: Space, since: int, as_of: int, limit: int
) -> list[dict[str, Any]]:
    """Return what has changed from a number to another, in order, as a journal keeps it.

    Where there is more than the limit, the first ones. What one number has closed comes whole, so
    that nothing is left out before the next one.
    """
    while True:
        found = await _first(memory, space, since, as_of, limit + 1)
        if len(found) <= limit:
            return [each for _, each in found]
        # Whatever has a number before this one is there, of each table.
        cut = found[limit][0]
        if some := [each for n, each in found if n < cut]:
            some[-1]["has_more"] = True
            return some
        limit *= 2


async def _first(
    memory: Memories, space: Space, since: int, as_of: int, limit: int
) -> list[tuple[int, dict[str, Any]]]:
    """Return the first changes of each table, in order: what has gone before what has come."""
    found: list[tuple[int, dict[str, Any]]] = []
    for table in TABLES:
        gone = Look(space, table.name, {}, as_of=as_of, gone_after=since, limit=limit)
        come = Look(space, table.name, {}, as_of=as_of, after=since, limit=limit)
        found += [_change(row, is_gone=True) for row in await memory.rows(gone)]
        found += [_change(row, is_gone=False) for row in await memory.rows(come)]
    return sorted(found, key=lambda each: (each[0], not each[1]["is_gone"]))


def _change(row: Row, *, is_gone: bool) -> tuple[int, dict[str, Any]]:
    stamp = row.stamp
    n = (stamp.gone_n or 0) if is_gone else stamp.n
    return n, {
        "n": n,
        "id": memory_id(stamp.space, stamp.n),
        "kind": KINDS[row.table],
        "is_gone": is_gone,
        "text": shown(row),
        "at": stamp.gone_at if is_gone else stamp.recorded_at,
        "source": stamp.gone_by if is_gone else stamp.writer,
        "trust": stamp.trust.value,
    }


def changes_of(value: Mapping[str, Any]) -> Changes:
    """Return changes as they were recorded."""
    found, upto = [], value["n"]
    for record in value["found"]:
        read = dict(record)
        upto = read["n"] if read.pop("has_more", False) else upto
        read |= {"at": from_ms(read["at"]), "trust": Trust(read["trust"])}
        found.append(Change(**read))
    return Changes(upto, tuple(found))
