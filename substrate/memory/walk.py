"""Walks along links: what a thing has to do with others, how far away, and by which links.

A level at a time: of all links of what was reached last, it is read whither they lead, and what was
reached before is not reached again. So a circle ends, and what is read grows with what is reached,
not with the number of ways to it. The links themselves are read at the end, of each thing one.

A way from one thing to another is looked for from both, always on where fewer things were reached
last. Where too many are near to both, that is told: no way was found, and there may be one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from substrate.memory.canonical import folded
from substrate.memory.shown import links_json
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.store.way_rows import Ways
from substrate.values.errors import MemoryRefused
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


_BACK = {"out": "in", "in": "out", "both": "both"}


async def walk(memory: Memories, asked: Walk, as_of: int) -> list[dict[str, Any]]:
    """Return what is reached, the nearest first, each with the link by which it is."""
    start = folded(asked.start)
    reached: dict[str, _Step] = {start: _Step(0, 0)}
    last = [start]
    for depth in range(1, asked.depth + 1):
        found = await _next(memory, asked, last, len(reached), as_of)
        last = []
        for there in sorted(found.keys() - reached.keys()):
            if len(reached) <= asked.limit:
                reached[there] = _Step(found[there], depth)
                last.append(there)
        if not last:
            break
    return list((await _shown(memory, asked.space, reached)).values())


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


@dataclass(slots=True)
class _Side:
    """What was reached from one end of a way."""

    direction: str
    #: By which link each thing was reached; the end itself by none: 0.
    reached: dict[str, int]
    #: Those reached last.
    last: list[str]
    #: Whether the next ones are more than may be reached.
    is_too_wide: bool = False


async def path(memory: Memories, asked: Walk, to: str, as_of: int) -> list[dict[str, Any]]:
    """Return the steps of a shortest way, first to last; none where there is no way.

    Raises `MemoryRefused` where more things are near to both ends than may be reached from each.
    """
    start, goal = folded(asked.start), folded(to)
    ahead = _Side(asked.direction, {start: 0}, [start])
    behind = _Side(_BACK[asked.direction], {goal: 0}, [goal])
    depth = 0 if start == goal else asked.depth
    while depth:
        sides = [each for each in (ahead, behind) if not each.is_too_wide]
        if not sides:
            raise _too_wide(asked, to)
        side = min(sides, key=lambda each: len(each.last))
        other = behind if side is ahead else ahead
        way = replace(asked, direction=side.direction)
        found = await _next(memory, way, side.last, len(side.reached), as_of)
        new = sorted(found.keys() - side.reached.keys())
        if met := [there for there in new if there in other.reached]:
            side.reached[met[0]] = found[met[0]]
            first = await _links(memory, asked.space, ahead.reached, met[0])
            then = await _links(memory, asked.space, behind.reached, met[0])
            return _steps(start, [*first[::-1], *then])
        if not new:
            break
        if len(side.reached) + len(new) > asked.limit:
            # Some may be missing, so none of them counts: the other end has to come all the way.
            side.is_too_wide = True
            continue
        side.last, depth = new, depth - 1
        side.reached |= {there: found[there] for there in new}
    return []


def _too_wide(asked: Walk, to: str) -> MemoryRefused:
    return MemoryRefused(
        f"whether a way of {asked.depth} links leads from {asked.start!r} to {to!r} in "
        f"{asked.space.ns!r} is not known: more than {asked.limit} things are near to each of "
        "them; ask for fewer links (depth=), one kind of them (rel=), or one direction"
    )


async def _links(
    memory: Memories, space: Space, reached: Mapping[str, int], here: str
) -> list[LinkRow]:
    """Return the links by which a thing was reached, the last one first."""
    links: list[LinkRow] = []
    while n := reached[here]:
        (row,) = await memory.rows(Look(space, LinkRow.table, {"n": n}))
        assert isinstance(row, LinkRow)
        links.append(row)
        here = row.a_key if row.b_key == here else row.b_key
    return links


def _steps(here: str, links: Sequence[LinkRow]) -> list[dict[str, Any]]:
    """Return links that follow on each other from here, as a journal keeps them."""
    steps = []
    for distance, row in enumerate(links, 1):
        here, name = (row.b_key, row.b) if row.a_key == here else (row.a_key, row.a)
        steps.append({"name": name, "distance": distance, "link": links_json([row])[0]})
    return steps
