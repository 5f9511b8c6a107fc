"""Wakes the parent of a child that ends, in Postgres.

A child that ends by itself does it in its own commit: see `advanced` in `fenced_commit`. Here is
the same for children that others end: who takes them back, or discards them.
"""

from substrate.store import sql
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.spent import pause_spent
from substrate.values.ids import RunId, part_of

# `need` counts the children that must still end: only the last of them makes its parent ready.
# `wake_version` moves for each, so that a parent which is about to suspend looks again.
_WAKE = f"""
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = CASE WHEN %(ends)s > 0 THEN {sql.NEXT_WAKE} ELSE wake_version END,
       need = greatest(need - %(ends)s, 0),
       rank = CASE WHEN status = 'suspended' AND %(ends)s > 0 AND need <= 1 THEN %(now)s
                   ELSE rank END,
       status = CASE WHEN status = 'suspended' AND %(ends)s > 0 AND need <= 1 THEN 'ready'
                     ELSE status END
 WHERE id = %(id)s AND part = %(part)s AND {sql.HAS_NUMBERS}
RETURNING last_seq
"""


async def wake_parent(db: Cursor, run_id: RunId, now: int, *, ends: bool = True) -> int | None:
    """Tell a run that a promise of its journal is being written; return its next change number.

    Only a child that ends wakes its parent: one that is paused has ended nothing. Who calls this
    has locked the run, together with all others of its transaction. A parent that has no next
    number is paused, so that its child can end all the same; then None is returned, as where there
    is no parent.
    """
    cursor = await db.execute(
        _WAKE, {"id": run_id, "part": part_of(run_id), "now": now, "ends": int(ends)}
    )
    row = await cursor.fetchone()
    if row is None:
        await pause_spent(db, run_id)
    return row[0] if row else None
