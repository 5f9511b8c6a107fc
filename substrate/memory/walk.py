"""Walks along links: what a thing has to do with others, how far away, and by which links.

A level at a time: of all links of what was reached last, it is read whither they lead, and what was
reached before is not reached again. So a circle ends, and what is read grows with what is reached,
not with the number of ways to it. The links themselves are read at the end, of each thing one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from substrate.memory.canonical import folded
from substrate.memory.shown import links_json
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.store.way_rows import Ways
from substrate.values.memory import LinkRow, Space

DEEPEST = 8
"""How far a walk goes at most."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk begins, and what it follows."""

    space: Space
    start: str
    depth: int
    #: `out`: from a to b; `in`: from b to a; `both`.
    direction: str
    #: Links of this kind only.
    rel: str | None
    #: When they have to be true, in ms; None: whenever.
    at: int | None
    #: How many things are reached at most.
    limit: int
    #: Where it ends.
    to: str | None = None


async def walk(memory: Memories, asked: Walk, as_of: int) -> list[dict[str, Any]]:
    """Return what is reached, the nearest first, each with the link by which it is."""
    start, goal = folded(asked.start), None if asked.to is None else folded(asked.to)
    reached: dict[str, _Step] = {start: _Step(0, 0)}
    last = [start]
    for depth in range(1, asked.depth + 1):
        found = await _next(memory, asked, last, len(reached), as_of)
        last = []
        for there in sorted(found.keys() - reached.keys()):
            if len(reached) <= asked.limit:
                reached[there] = _Step(found[there], depth)
                last.append(there)
        if not last or goal in reached:
            break
    steps = await _shown(memory, asked.space, reached)
    return list(steps.values()) if goal is None else path_to(goal, start, steps)


@dataclass(frozen=True, slots=True)
class _Step:
    """By which link a thing is reached, and how far away it is."""

    n: int
    distance: int


async def _next(
    memory: Memories, asked: Walk, last: Sequence[str], reached: int, as_of: int
) -> Mapping[str, int]:
    """Return whither the links of what was reached last lead, each with the first link there."""
    found: dict[str, int] = {}
    for direction in ("out", "in"):
        if asked.direction in (direction, "both"):
            # So many, since what was reached before may be among them.
            limit = asked.limit + reached
            is_out = direction == "out"
            ways = Ways(asked.space, last, is_out, asked.rel, as_of, asked.at, limit)
            for there, n in await memory.ways(ways):
                found.setdefault(there, n)
    return found


async def _shown(
    memory: Memories, space: Space, reached: Mapping[str, _Step]
) -> dict[str, dict[str, Any]]:
    """Return what was reached, as a journal keeps it; the start, with no link, is left out."""
    numbers = [step.n for step in reached.values() if step.n]
    look = Look(space, LinkRow.table, {}, {"n": numbers}, limit=len(numbers) or 1)
    rows = {row.stamp.n: row for row in await memory.rows(look) if isinstance(row, LinkRow)}
    shown = {}
    for there, step in reached.items():
        if row := rows.get(step.n):
            name = row.b if row.b_key == there else row.a
            link = links_json([row])[0]
            shown[there] = {"name": name, "distance": step.distance, "link": link}
    return shown


def path_to(goal: str, start: str, reached: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of a shortest way, first to last; none where there is no way."""
    steps: list[dict[str, Any]] = []
    here = goal
    while here != start:
        if here not in reached:
            return []
        steps.append(reached[here])
        a, b = (folded(reached[here]["link"][end]) for end in ("a", "b"))
        here = a if b == here else b
    return steps[::-1]
