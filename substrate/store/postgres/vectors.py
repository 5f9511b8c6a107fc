"""Vectors in Postgres: each function runs inside one transaction that its caller opened."""

from collections.abc import Sequence

import orjson

from substrate.store.memory_rows import space_of
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import of_tenant
from substrate.store.term_rows import in_space
from substrate.store.vector_rows import KnownEmbedder, Vector, embedder_parameters
from substrate.values.memory import Space

_IN_SPACE = in_space("%(name)s")

_SELECT_EMBEDDER = f"""
SELECT model, dimension, last_n, built
  FROM embedders
 WHERE {_IN_SPACE}
"""


async def read_embedder(db: Cursor, space: Space) -> KnownEmbedder | None:
    """Return whose vectors a namespace has, or None."""
    async with of_tenant(db, space.tenant):
        row = await (await db.execute(_SELECT_EMBEDDER, space_of(space))).fetchone()
    return KnownEmbedder(space, *row) if row else None


_SELECT_VECTORS = f"""
SELECT n, start, source_table, vector
  FROM vectors
 WHERE {_IN_SPACE} AND n > %(after)s
 ORDER BY n, start
"""


async def read_vectors(db: Cursor, space: Space, after: int) -> Sequence[Vector]:
    """Return the vectors of rows behind this number."""
    async with of_tenant(db, space.tenant):
        cursor = await db.execute(_SELECT_VECTORS, space_of(space) | {"after": after})
        found = await cursor.fetchall()
    return [Vector(n, start, table, bytes(vector)) for n, start, table, vector in found]


_DELETE_VECTORS = f"DELETE FROM vectors WHERE {_IN_SPACE}"

_BEGIN = """
INSERT INTO embedders AS known (tenant, ns, branch, part, model, dimension, last_n, built)
VALUES (%(tenant)s, %(ns)s, %(branch)s, %(part)s, %(model)s, %(dimension)s, %(last_n)s, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET model = excluded.model, dimension = excluded.dimension, last_n = excluded.last_n,
       built = known.built + 1::bigint
"""


async def begin_vectors(db: Cursor, known: KnownEmbedder) -> None:
    """Delete the vectors of a namespace; from now on it has those of this embedder."""
    async with of_tenant(db, known.space.tenant):
        await db.execute(_BEGIN, embedder_parameters(known))  # first: it locks out who adds
        await db.execute(_DELETE_VECTORS, space_of(known.space))


_REACH = """
INSERT INTO embedders AS known (tenant, ns, branch, part, model, dimension, last_n, built)
VALUES (%(tenant)s, %(ns)s, %(branch)s, %(part)s, %(model)s, %(dimension)s, %(last_n)s, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET last_n = greatest(known.last_n, excluded.last_n)
 WHERE known.model = excluded.model AND known.dimension = excluded.dimension
RETURNING last_n
"""

_INSERT_VECTORS = """
INSERT INTO vectors (tenant, ns, branch, n, start, part, source_table, vector)
SELECT %(tenant)s, %(ns)s, %(branch)s, n, start, %(part)s::integer, source_table,
       pg_catalog.decode(vector, 'hex')
  FROM json_to_recordset(%(given)s::json) AS given (
       n bigint, start bigint, source_table text, vector text)
    ON CONFLICT (tenant, ns, branch, n, start, part) DO NOTHING
"""


async def add_vectors(db: Cursor, known: KnownEmbedder, vectors: Sequence[Vector]) -> bool:
    """Write vectors, and how far they go; False where those of another embedder stand."""
    given = [each._asdict() | {"vector": each.vector.hex()} for each in vectors]
    asked = space_of(known.space) | {"given": orjson.dumps(given).decode()}
    async with of_tenant(db, known.space.tenant):
        found = await db.execute(_REACH, embedder_parameters(known))
        if not await found.fetchall():
            return False
        await db.execute(_INSERT_VECTORS, asked)
    return True
