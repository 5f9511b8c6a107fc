"""Walks along links: what a thing has to do with others, how far away, and by which links.

A level at a time: all links of what was reached last are read at once, and what was reached before
is not reached again. So a circle ends, and what is read grows with what is reached, not with the
number of ways to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from substrate.memory.canonical import folded
from substrate.memory.shown import links_json
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.memory import LinkRow, Space

DEEPEST = 8
"""How far a walk goes at most."""

_MOST_LINKS = 10_000  # of one level


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
    reached: dict[str, dict[str, Any]] = {start: {}}
    last = [start]
    for depth in range(1, asked.depth + 1):
        found: dict[str, dict[str, Any]] = {}
        for there, name, row in await _next(memory, asked, last, as_of):
            if there not in reached and there not in found:
                link = links_json([row])[0]
                found[there] = {"name": name, "distance": depth, "link": link}
        for there in sorted(found):
            if len(reached) <= asked.limit:
                reached[there] = found[there]
        last = [there for there in sorted(found) if there in reached]
        if not last or goal in reached:
            break
    del reached[start]
    return list(reached.values()) if goal is None else path_to(goal, start, reached)


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


async def _next(
    memory: Memories, asked: Walk, last: Sequence[str], as_of: int
) -> list[tuple[str, str, LinkRow]]:
    """Return the links of what was reached last: whither each leads, in a fixed order."""
    where = {} if asked.rel is None else {"rel": asked.rel}
    found: list[tuple[str, str, LinkRow]] = []
    for direction, end in (("out", "a_key"), ("in", "b_key")):
        if asked.direction in (direction, "both"):
            look = Look(
                asked.space,
                LinkRow.table,
                where,
                {end: last},
                as_of=as_of,
                at=asked.at,
                limit=_MOST_LINKS,
            )
            for row in await memory.rows(look):
                if isinstance(row, LinkRow):
                    is_out = direction == "out"
                    name = row.b if is_out else row.a
                    found.append((row.b_key if is_out else row.a_key, name, row))
    return found
