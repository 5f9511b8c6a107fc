"""A run and what is below it, in Postgres: which of them could be claimed.

Each function is one transaction.
"""

from collections.abc import Sequence

from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId, part_of

_READY_BELOW = """
SELECT id
  FROM runs
 WHERE part = %(part)s AND (id = %(id)s OR (id > %(below)s AND id < %(beyond)s))
   AND lane = ANY (%(lanes)s::text[]) AND status = 'ready'
 ORDER BY rank
 LIMIT %(limit)s
"""


async def ready_below(
    db: Cursor, run_id: RunId, lanes: Sequence[str], limit: int
) -> Sequence[RunId]:
    """Return the ready runs of these lanes that are this run or below it, lowest rank first."""
    asked = {
        "part": part_of(run_id),
        "id": run_id,
        "below": f"{run_id}#",
        "beyond": f"{run_id}$",  # the character after #
        "lanes": list(lanes),
        "limit": limit,
    }
    cursor = await db.execute(_READY_BELOW, asked)
    return [RunId(row[0]) for row in await cursor.fetchall()]
