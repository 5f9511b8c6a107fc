"""As of what a read is made: a number of its namespace, which is the clock of it.

- A moment is the last number that was taken by then. So a read as of a moment and one as of that
  number find the same, and what is recorded of both is the number.
- A number in the middle of a write is that of its end: a write is known whole, or not at all.
"""

from substrate.store.memory import Memories
from substrate.store.memory_rows import TABLES, Look
from substrate.values.memory import Counter, Row, Space

_AT_ONCE = 16  # numbers that are looked at together; few writes have as many


async def number_of(
    memory: Memories, counter: Counter, n: int | None = None, known_at: int | None = None
) -> int:
    """Return as of which number that is; none given, or one to come: as of the last."""
    if known_at is not None:
        is_past = known_at < counter.last_at
        return await memory.number_at(counter.space, known_at) if is_past else counter.last_n
    if n is None or n >= counter.last_n:
        return counter.last_n
    return await _whole(memory, counter.space, n)


async def _whole(memory: Memories, space: Space, n: int) -> int:
    """Return the last number of the write that a number is of."""
    for table in TABLES:
        for row in await memory.rows(Look(space, table.name, {"n": n})):
            return await _end(memory, table.name, row)
    return n  # it was taken to close, and its write has no other one


async def _end(memory: Memories, table: str, row: Row) -> int:
    n, writer = _own_end(row), row.stamp.writer
    while True:
        among = {"n": range(n + 1, n + 1 + _AT_ONCE)}
        rows = await memory.rows(Look(row.stamp.space, table, {}, among))
        for each in rows:
            if (each.stamp.n, each.stamp.writer) != (n + 1, writer):
                return n
            n = _own_end(each)
        if not rows:
            return n


def _own_end(row: Row) -> int:
    """Return a row's number, or the next one where its own write has taken that to close it."""
    stamp = row.stamp
    is_closed = (stamp.gone_n, stamp.gone_by) == (stamp.n + 1, stamp.writer)
    return stamp.n + is_closed
