"""Links in SQLite, as a walk follows them."""

from collections.abc import Sequence

import apsw
import orjson

from substrate.store.memory_rows import space_of
from substrate.store.term_rows import in_space
from substrate.store.way_rows import Ways

_IN_SPACE = in_space(":name")
_KNOWN = "+n <= :as_of AND (gone_n IS NULL OR gone_n > :as_of)"
_TRUE = "AND valid_from <= :at AND (valid_to IS NULL OR valid_to > :at)"


def read_ways(db: apsw.Connection, ways: Ways) -> Sequence[tuple[str, int]]:
    """Return whither links lead, each with the number of the first one that does."""
    here, there = ways.ends
    statement = f"""
SELECT {there}, min(n)
  FROM json_each(:keys) AS given
 CROSS JOIN links
 WHERE {_IN_SPACE} AND {here} = given.value AND {_KNOWN}
   {"" if ways.rel is None else "AND rel = :rel"} {"" if ways.at is None else _TRUE}
 GROUP BY {there}
 ORDER BY {there}
 LIMIT :limit
"""
    asked = space_of(ways.space) | {"keys": orjson.dumps(list(ways.keys)).decode()}
    asked |= {"rel": ways.rel, "as_of": ways.as_of, "at": ways.at, "limit": ways.limit}
    return [(str(key), int(n)) for key, n in db.execute(statement, asked)]
