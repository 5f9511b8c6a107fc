"""Links in Postgres, as a walk follows them."""

from collections.abc import Sequence

from substrate.store.memory_rows import space_of
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import in_index_order
from substrate.store.term_rows import in_space
from substrate.store.way_rows import Ways

_IN_SPACE = in_space("%(name)s")
_KNOWN = "n <= %(as_of)s AND (gone_n IS NULL OR gone_n > %(as_of)s)"
_TRUE = "AND valid_from <= %(at)s AND (valid_to IS NULL OR valid_to > %(at)s)"


async def read_ways(db: Cursor, ways: Ways) -> Sequence[tuple[str, int]]:
    """Return whither links lead, each with the number of the first one that does."""
    here, there = ways.ends
    # Key by key, in the order of the index that begins with where one is.
    statement = f"""
SELECT there COLLATE "C", min(n)
  FROM pg_catalog.unnest(%(keys)s::text[]) AS given (key)
 CROSS JOIN LATERAL (
    SELECT {there} AS there, n
      FROM links
     WHERE {_IN_SPACE} AND {here} = key AND {_KNOWN}
       {"" if ways.rel is None else "AND rel = %(rel)s"} {"" if ways.at is None else _TRUE}
     ORDER BY rel, {there}, links.n
    OFFSET 0) AS found
 GROUP BY 1
 ORDER BY 1
 LIMIT %(limit)s
"""
    asked = space_of(ways.space) | {"keys": list(ways.keys), "rel": ways.rel}
    asked |= {"as_of": ways.as_of, "at": ways.at, "limit": ways.limit}
    async with in_index_order(db, ways.space.tenant):
        found = await (await db.execute(statement, asked)).fetchall()
    return [(key, n) for key, n in found]
