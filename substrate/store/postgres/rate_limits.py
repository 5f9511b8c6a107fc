"""What providers reported of their limits, in Postgres: for processes that had no report."""

from collections.abc import Sequence

from substrate.store.postgres.session import Cursor
from substrate.values.records import JsonText

_UPSERT_LIMIT = """
INSERT INTO limits (name, tenant, told, told_at)
VALUES (%(name)s, '', %(told)s::json, %(now)s)
    ON CONFLICT (name) DO UPDATE
   SET told = excluded.told, told_at = excluded.told_at
"""


async def write_rate_limit(db: Cursor, name: str, told: JsonText, now: int) -> None:
    """Keep what was told, in the place of what was told before."""
    await db.execute(_UPSERT_LIMIT, {"name": name, "told": told, "now": now})


_SELECT_LIMITS = """
SELECT name, told, told_at
  FROM limits
 WHERE told_at >= %s
 ORDER BY name
"""


async def read_rate_limits(db: Cursor, since: int) -> Sequence[tuple[str, JsonText, int]]:
    """Return what was told since a moment, and when."""
    cursor = await db.execute(_SELECT_LIMITS, (since,))
    return [(row[0], JsonText(row[1]), row[2]) for row in await cursor.fetchall()]
