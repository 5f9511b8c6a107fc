"""A run and what is below it, in SQLite: which of them could be claimed.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence

import apsw

from substrate.values.codec import encode
from substrate.values.ids import RunId, part_of

_READY_BELOW = """
SELECT id
  FROM runs
 WHERE part = :part AND (id = :id OR (id > :below AND id < :beyond))
   AND lane IN (SELECT value FROM json_each(:lanes)) AND status = 'ready'
 ORDER BY rank
 LIMIT :limit
"""


def ready_below(
    db: apsw.Connection, run_id: RunId, lanes: Sequence[str], limit: int
) -> Sequence[RunId]:
    """Return the ready runs of these lanes that are this run or below it, lowest rank first."""
    asked = {
        "part": part_of(run_id),
        "id": run_id,
        "below": f"{run_id}#",
        "beyond": f"{run_id}$",  # the character after #
        "lanes": encode(list(lanes)),
        "limit": limit,
    }
    return [RunId(row[0]) for row in db.execute(_READY_BELOW, asked)]
