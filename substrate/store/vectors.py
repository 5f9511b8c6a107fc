"""What the engine and people ask of the store about vectors: `Memories.vectors`.

A vector follows from a text alone, and whether that text counts its row says. So vectors are
written later than their texts, in commits of their own: what is lost with a process is made again.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from substrate.store.backend import Backend
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.values.memory import Space

_MOST_KEPT = 4


class Vectors:
    """The vectors of a store."""

    def __init__(self, backend: Backend) -> None:
        self._db = backend.db
        self._sql = backend.sql.vectors
        self._kept: OrderedDict[Space, Any] = OrderedDict()

    async def embedder(self, space: Space) -> KnownEmbedder | None:
        """Return whose vectors a namespace has, and how far they go."""
        return await self._db.read(self._sql.read_embedder, space)

    async def behind(self, space: Space, n: int) -> Sequence[Vector]:
        """Return the vectors of rows behind this number, in order."""
        return await self._db.scan(self._sql.read_vectors, space, n)

    async def begin(self, known: KnownEmbedder) -> None:
        """Delete what vectors a namespace has: from now on it has those of this embedder."""
        await self._db.write(self._sql.begin_vectors, known)

    async def add(self, known: KnownEmbedder, vectors: Sequence[Vector]) -> bool:
        """Write vectors, and how far they go now; False where those of another embedder stand.

        What is there already stays.
        """
        return await self._db.write(self._sql.add_vectors, known, vectors)

    def keep(self, space: Space, value: Any) -> None:
        """Keep something of a namespace in this process, beside that of a few others."""
        self._kept[space] = value
        self._kept.move_to_end(space)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def kept(self, space: Space) -> Any:
        """Return what was kept of a namespace, or None."""
        return self._kept.get(space)
