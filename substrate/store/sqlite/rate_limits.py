"""What providers reported of their limits, in SQLite: for processes that had no report."""

from collections.abc import Sequence

import apsw

from substrate.values.records import JsonText

_UPSERT_RATE_LIMIT = """
INSERT INTO rate_limits (name, tenant, report, reported_at)
VALUES (:name, '', :report, :now)
    ON CONFLICT (name) DO UPDATE
   SET report = excluded.report, reported_at = excluded.reported_at
"""


def write_rate_limit(db: apsw.Connection, name: str, report: JsonText, now: int) -> None:
    """Keep a report, in the place of the one before."""
    db.execute(_UPSERT_RATE_LIMIT, {"name": name, "report": report, "now": now})


_SELECT_RATE_LIMITS = """
SELECT name, report, reported_at
  FROM rate_limits
 WHERE reported_at >= ?
 ORDER BY name
"""


def read_rate_limits(db: apsw.Connection, since: int) -> Sequence[tuple[str, JsonText, int]]:
    """Return what was reported since a moment, and when."""
    return [(row[0], JsonText(row[1]), row[2]) for row in db.execute(_SELECT_RATE_LIMITS, (since,))]
