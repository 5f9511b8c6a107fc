"""Exporting a namespace: what happened in it, in the order of its numbers, as far as it had come.

It is read in stretches of numbers, so it takes no more room than one of these has. What is written
meanwhile has later numbers, so it is in no line.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

from substrate.memory.lines import End, Gone, Header, line_of
from substrate.store.memory import Memories
from substrate.store.memory_rows import TABLES, Look
from substrate.values.errors import MemoryRefused
from substrate.values.memory import Row, Space

STRETCH = 256
"""Numbers that are read at once. A text has 64 kB at most, so that is 16 MB at most."""

_ALL = 10_000_000
_NAMED = 5


async def exported(memory: Memories, space: Space) -> AsyncIterator[bytes]:
    """Yield a namespace line by line; raise `MemoryRefused` where there is none."""
    counter = await memory.counter(space)
    if not counter.last_n:
        raise await absent(memory, space)
    yield line_of(Header(space.ns, counter.last_n))
    lines = 2
    async for each in happened(memory, space, counter.last_n):
        yield line_of(each)
        lines += 1
    yield line_of(End(lines))


async def happened(memory: Memories, space: Space, last_n: int) -> AsyncIterator[Row | Gone]:
    """Yield what came and went in a namespace up to a number: of each number what went first."""
    for first in range(0, last_n, STRETCH):
        look = Look(space, "", {}, as_of=min(first + STRETCH, last_n), limit=_ALL)
        found: list[Row | Gone] = []
        for table in TABLES:
            look = replace(look, table=table.name, after=first, gone_after=None)
            found += await memory.rows(look)
            look = replace(look, after=None, gone_after=first)
            found += map(_gone, await memory.rows(look))
        for each in sorted(found, key=_place):
            yield each


def _gone(row: Row) -> Gone:
    stamp = row.stamp
    return Gone(row.table, stamp.n, stamp.gone_n or 0, stamp.gone_at or 0, stamp.gone_by or "")


def _place(each: Row | Gone) -> tuple[int, bool, int]:
    if isinstance(each, Gone):
        return each.n, False, each.row_n
    return each.stamp.n, True, 0


async def absent(memory: Memories, space: Space) -> MemoryRefused:
    """Return that there is no such namespace, and which there are."""
    there = await memory.counters(limit=1000, tenant=space.tenant)
    names = [each.space.ns for each in there if each.last_n and not each.space.branch]
    told = ", ".join(names[:_NAMED]) + (", and others" if len(names) > _NAMED else "")
    return MemoryRefused(
        f"nothing is remembered in {space.ns!r}; "
        + (f"there is {told}: `memory list` has them all" if names else "nor anywhere else")
    )
