"""What providers reported of their limits, in SQLite: for processes that had no report."""

from collections.abc import Sequence

import apsw

from substrate.values.records import JsonText

_UPSERT_LIMIT = """
INSERT INTO limits (name, tenant, told, told_at)
VALUES (:name, '', :told, :now)
    ON CONFLICT (name) DO UPDATE
   SET told = excluded.told, told_at = excluded.told_at
"""


def write_rate_limit(db: apsw.Connection, name: str, told: JsonText, now: int) -> None:
    """Keep what was told, in the place of what was told before."""
    db.execute(_UPSERT_LIMIT, {"name": name, "told": told, "now": now})


_SELECT_LIMITS = """
SELECT name, told, told_at
  FROM limits
 WHERE told_at >= ?
 ORDER BY name
"""


def read_rate_limits(db: apsw.Connection, since: int) -> Sequence[tuple[str, JsonText, int]]:
    """Return what was told since a moment, and when."""
    return [(row[0], JsonText(row[1]), row[2]) for row in db.execute(_SELECT_LIMITS, (since,))]
