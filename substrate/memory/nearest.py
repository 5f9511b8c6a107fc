"""Which texts are near to a question: all vectors of a namespace are looked through, by numpy.

- A vector follows from its text alone. It is made when somebody looks for the first time, later
  than the text was written, and kept. Whether the text counts, its row says: so what is undone,
  corrected or was known earlier needs no vector of its own.
- A namespace has the vectors of one embedder. To look by another one is refused: numbers of two
  embedders say nothing about each other.
- What a process has read of them it keeps, and reads what came since.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from substrate.memory.embedder import Embedder, EmbedderFailed, stretches
from substrate.memory.text_index import text_of
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.values.errors import MemoryRefused
from substrate.values.memory import FactRow, NoteRow, SaidRow, Space

TABLES = (NoteRow.table, FactRow.table, SaidRow.table)
MOST_AT_ONCE = 256
"""For so many texts one look makes the vectors that are missing."""

_PAGE = 200  # rows of a table that are read at a time
_BATCH = 64  # texts that an embedder is given at a time


class Near(NamedTuple):
    """How near a text is to a question."""

    table: str
    n: int
    #: The stretch of it that is nearest: where it begins.
    start: int
    #: The cosine: 1 is the same direction.
    likeness: float


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The vectors of a namespace, as a process keeps them."""

    built: int
    last: int
    places: Sequence[tuple[str, int, int]]
    rows: Any


Looking = Callable[[int], Awaitable[Sequence[Near]]]
"""Returns so many of the texts that are nearest, of each its nearest stretch."""


async def nearest(
    memory: Memories, space: Space, embedder: Embedder, question: str, upto: int
) -> Looking:
    """Return what looks for the texts that are near to a question, when all have their vectors."""
    known = await memory.vectors.embedder(space)
    check_same(space, known, embedder)
    known = await fill(memory, space, embedder, upto, MOST_AT_ONCE)
    (asked,) = await _embedded(embedder, [question])
    matrix = await _matrix(memory, known)
    # In a thread: of a hundred thousand texts it takes some 20 ms.
    return lambda limit: asyncio.to_thread(_look_through, matrix, asked, limit)


def check_same(space: Space, known: KnownEmbedder | None, embedder: Embedder) -> None:
    """Raise `MemoryRefused` where a namespace has the vectors of another embedder."""
    if known and (known.model, known.dimension) != (embedder.name, embedder.dimension):
        raise MemoryRefused(
            f"{space.ns!r} has vectors of {known.model!r} with {known.dimension} numbers, and "
            f"{embedder.name!r} makes others, of {embedder.dimension}; make them anew with "
            f"{_command(space, embedder)}"
        )


async def fill(
    memory: Memories, space: Space, embedder: Embedder, upto: int, most: int | None = None
) -> KnownEmbedder:
    """Make the vectors that are missing, each batch in a commit; return how far they go.

    Where that are more than `most`, so many are made, and `MemoryRefused` says how to make the
    rest. A batch that a process did not come to commit is made again.
    """
    known = await memory.vectors.embedder(space)
    known = known or KnownEmbedder(space, embedder.name, embedder.dimension)
    made = 0
    while known.last_n < upto:
        if most is not None and made >= most:
            raise MemoryRefused(
                f"{space.ns!r} has more texts without vectors of {embedder.name!r} than are made "
                f"for one question ({most}); make them with {_command(space, embedder)}"
            )
        bound, texts = await _page(memory, space, known.last_n, upto)
        vectors = [
            Vector(n, start, table, _packed(vector))
            for first in range(0, len(texts), _BATCH)
            for (table, n, start, _), vector in zip(
                texts[first : first + _BATCH],
                await _embedded(embedder, [each[3] for each in texts[first : first + _BATCH]]),
                strict=True,
            )
        ]
        known = replace(known, last_n=bound)
        if not await memory.vectors.add(known, vectors):
            check_same(space, await memory.vectors.embedder(space), embedder)
        made += len({n for _, n, _, _ in texts})
    return await memory.vectors.embedder(space) or known


async def reindex(memory: Memories, space: Space, embedder: Embedder) -> int:
    """Delete the vectors of a namespace and make them anew; return how many texts it has.

    Where it is cut off, what was made stays, and the next look or reindex makes the rest.
    """
    await memory.vectors.begin(KnownEmbedder(space, embedder.name, embedder.dimension))
    counter = await memory.counter(space)
    await fill(memory, space, embedder, counter.last_n)
    return counter.docs


async def _page(
    memory: Memories, space: Space, since: int, upto: int
) -> tuple[int, Sequence[tuple[str, int, int, str]]]:
    """Return the next texts in order, cut into stretches, and up to which number these are all."""
    found, bound = [], upto
    for table in TABLES:
        look = Look(space, table, {}, as_of=upto, since=since, limit=_PAGE)
        rows = await memory.rows(look)
        if len(rows) == _PAGE:
            bound = min(bound, rows[-1].stamp.n)
        found += [row for row in rows if isinstance(row, NoteRow | FactRow | SaidRow)]
    texts: dict[tuple[str, int], str] = {}
    for row in found:
        if row.stamp.n <= bound and (text := text_of(row)):
            texts[row.table, row.stamp.n] = text
    return bound, [
        (table, n, start, stretch)
        for (table, n), text in texts.items()
        for start, stretch in stretches(text)
    ]


async def _embedded(embedder: Embedder, texts: Sequence[str]) -> Sequence[Any]:
    """Return the vectors of texts, each of length 1."""
    try:
        import numpy as np
    except ImportError as error:
        raise MemoryRefused(f"{error}: vectors are compared by numpy; pip install numpy") from None
    try:
        made = await embedder.embed(texts)
    except Exception as error:
        raise EmbedderFailed from error
    found = np.asarray(made, dtype=np.float32)
    if found.shape != (len(texts), embedder.dimension) or not np.isfinite(found).all():
        raise MemoryRefused(
            f"{embedder.name!r} made {found.shape} numbers of {len(texts)} texts, or some that are "
            f"none; it says that a vector has {embedder.dimension}"
        )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return list(found / np.where(lengths == 0, 1, lengths))


def _packed(vector: Any) -> bytes:
    packed: bytes = vector.astype("<f2").tobytes()
    return packed


async def _matrix(memory: Memories, known: KnownEmbedder) -> _Matrix:
    """Return all vectors of a namespace: those that are kept here, and what came since."""
    import numpy as np

    kept: _Matrix | None = memory.vectors.kept(known.space)
    if kept is None or kept.built != known.built:
        kept = _Matrix(known.built, 0, [], np.empty((0, known.dimension), np.float32))
    if kept.last < known.last_n:
        new = await memory.vectors.behind(known.space, kept.last)
        packed = np.frombuffer(b"".join(each.vector for each in new), "<f2")
        rows = packed.astype(np.float32).reshape(-1, known.dimension)
        places = [*kept.places, *((each.source_table, each.n, each.start) for each in new)]
        kept = _Matrix(known.built, known.last_n, places, np.concatenate([kept.rows, rows]))
        memory.vectors.keep(known.space, kept)
    return kept


def _look_through(matrix: _Matrix, asked: Any, limit: int) -> Sequence[Near]:
    import numpy as np

    if not matrix.places:
        return []
    likeness = np.round(matrix.rows @ asked, 6)
    # More than are wanted, since stretches of one text may stand beside each other.
    some = min(len(matrix.places), 4 * limit)
    least = np.partition(likeness, -some)[-some]
    found: dict[tuple[str, int], Near] = {}
    for at in map(int, np.flatnonzero(likeness >= least)):
        table, n, start = matrix.places[at]
        near = Near(table, n, start, float(likeness[at]))
        was = found.get((table, n))
        if was is None or near.likeness > was.likeness:
            found[table, n] = near
    order = sorted(found.values(), key=lambda near: (-near.likeness, -near.n))
    return order[:limit]


def _command(space: Space, embedder: Embedder) -> str:
    return f"`python -m agent memory reindex {space.ns} --embed {embedder.name}`"
