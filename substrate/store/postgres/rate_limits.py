"""What providers reported of their limits, in Postgres: for processes that had no report."""

from collections.abc import Sequence

from substrate.store.postgres.session import Cursor
from substrate.values.records import JsonText

_UPSERT_RATE_LIMIT = """
INSERT INTO rate_limits (name, tenant, report, reported_at)
VALUES (%(name)s, '', %(report)s::json, %(now)s)
    ON CONFLICT (name) DO UPDATE
   SET report = excluded.report, reported_at = excluded.reported_at
"""


async def write_rate_limit(db: Cursor, name: str, report: JsonText, now: int) -> None:
    """Keep a report, in the place of the one before."""
    await db.execute(_UPSERT_RATE_LIMIT, {"name": name, "report": report, "now": now})


_SELECT_RATE_LIMITS = """
SELECT name, report, reported_at
  FROM rate_limits
 WHERE reported_at >= %s
 ORDER BY name
"""


async def read_rate_limits(db: Cursor, since: int) -> Sequence[tuple[str, JsonText, int]]:
    """Return what was reported since a moment, and when."""
    cursor = await db.execute(_SELECT_RATE_LIMITS, (since,))
    return [(row[0], JsonText(row[1]), row[2]) for row in await cursor.fetchall()]
