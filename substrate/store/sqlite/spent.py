"""Runs in SQLite whose counters have no next number: paused, with the column named.

Each function runs inside one transaction that its caller opened.
"""

import apsw

from substrate.store import refusals, sql
from substrate.values.ids import RunId, part_of

# It takes no number: there is none. What is beyond the bounds is put at its end, or nothing could
# be written to the row.
_PAUSE = f"""
UPDATE runs
   SET status = CASE WHEN status IN ('ready', 'running', 'suspended') THEN 'paused'
                     ELSE status END,
       lease_owner = NULL,
       last_seq = min(last_seq, {sql.LAST_NUMBER}),
       epoch = min(epoch, {sql.LAST_COUNT}),
       generation = min(generation, {sql.LAST_COUNT})
 WHERE id = :id AND part = :part AND {sql.IS_SPENT}
RETURNING last_seq, epoch, generation
"""

_TELL = """
UPDATE promises
   SET error = :error
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def pause_spent(db: apsw.Connection, run_id: RunId) -> str | None:
    """Pause a run whose next number cannot be written; return why, or None where it can be."""
    where = {"id": run_id, "part": part_of(run_id)}
    found = db.execute(_PAUSE, where).fetchone()
    if found is None:
        return None
    why = refusals.spent(run_id, *found)
    db.execute(_TELL, where | {"error": refusals.spent_error(why)})
    return why


_STANDING = f"""
SELECT seq, tenant
  FROM promises
 WHERE id = :id AND part = :part
   AND EXISTS (SELECT 1
                 FROM (SELECT last_seq, epoch, generation
                         FROM runs
                        WHERE id = :run_id AND part = :part)
                WHERE {sql.IS_SPENT})
"""


def standing(db: apsw.Connection, promise_id: str, run_id: RunId) -> tuple[int, str] | None:
    """Return the seq and tenant of a promise whose run has no next number; else None."""
    asked = {"id": promise_id, "run_id": run_id, "part": part_of(run_id)}
    return db.execute(_STANDING, asked).fetchone()
