"""Vectors in SQLite: each function runs inside one transaction that its caller opened."""

from collections.abc import Sequence

import apsw

from substrate.store.memory_rows import space_of
from substrate.store.term_rows import in_space
from substrate.store.vector_rows import KnownEmbedder, Vector, embedder_parameters
from substrate.values.memory import Space

_IN_SPACE = in_space(":name")

_SELECT_EMBEDDER = f"""
SELECT model, dimension, last_n, built
  FROM embedders
 WHERE {_IN_SPACE}
"""


def read_embedder(db: apsw.Connection, space: Space) -> KnownEmbedder | None:
    """Return whose vectors a namespace has, or None."""
    row = db.execute(_SELECT_EMBEDDER, space_of(space)).fetchone()
    return KnownEmbedder(space, *row) if row else None


_SELECT_VECTORS = f"""
SELECT n, start, source_table, vector
  FROM vectors
 WHERE {_IN_SPACE} AND n > :after
 ORDER BY n, start
"""


def read_vectors(db: apsw.Connection, space: Space, after: int) -> Sequence[Vector]:
    """Return the vectors of rows behind this number."""
    found = db.execute(_SELECT_VECTORS, space_of(space) | {"after": after})
    return [Vector(*row) for row in found]


_DELETE_VECTORS = f"DELETE FROM vectors WHERE {_IN_SPACE}"

_BEGIN = """
INSERT INTO embedders (tenant, ns, branch, part, model, dimension, last_n, built)
VALUES (:tenant, :ns, :branch, :part, :model, :dimension, :last_n, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET model = excluded.model, dimension = excluded.dimension, last_n = excluded.last_n,
       built = built + 1
"""


def begin_vectors(db: apsw.Connection, known: KnownEmbedder) -> None:
    """Delete the vectors of a namespace; from now on it has those of this embedder."""
    db.execute(_DELETE_VECTORS, space_of(known.space))
    db.execute(_BEGIN, embedder_parameters(known))


_REACH = """
INSERT INTO embedders (tenant, ns, branch, part, model, dimension, last_n, built)
VALUES (:tenant, :ns, :branch, :part, :model, :dimension, :last_n, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET last_n = max(last_n, excluded.last_n)
 WHERE model = excluded.model AND dimension = excluded.dimension
RETURNING last_n
"""

_INSERT_VECTOR = """
INSERT INTO vectors (tenant, ns, branch, n, start, part, source_table, vector)
VALUES (:tenant, :ns, :branch, :n, :start, :part, :source_table, :vector)
    ON CONFLICT (tenant, ns, branch, n, start, part) DO NOTHING
"""


def add_vectors(db: apsw.Connection, known: KnownEmbedder, vectors: Sequence[Vector]) -> bool:
    """Write vectors, and how far they go; False where those of another embedder stand."""
    if not db.execute(_REACH, embedder_parameters(known)).fetchall():
        return False
    space = space_of(known.space)
    db.executemany(_INSERT_VECTOR, [space | each._asdict() for each in vectors])
    return True
