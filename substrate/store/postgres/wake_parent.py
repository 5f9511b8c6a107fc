"""Wakes the parent of a child that ends, in Postgres.

A child that ends by itself does it in its own commit: see `advanced` in `fenced_commit`. Here is
the same for children that others end: who takes them back, or discards them.
"""

from substrate.store.postgres.session import Cursor
from substrate.values.ids import part_of

# `need` counts the children that must still end: only the last of them makes its parent ready.
# `wake_version` moves for each, so that a parent which is about to suspend looks again.
_WAKE = """
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = wake_version + %(ends)s,
       need = greatest(need - %(ends)s, 0),
       rank = CASE WHEN status = 'suspended' AND %(ends)s > 0 AND need <= 1 THEN %(now)s
                   ELSE rank END,
       status = CASE WHEN status = 'suspended' AND %(ends)s > 0 AND need <= 1 THEN 'ready'
                     ELSE status END
 WHERE id = %(id)s AND part = %(part)s
RETURNING last_seq
"""


async def wake_parent(db: Cursor, run_id: str, now: int, *, ends: bool = True) -> int | None:
    """Tell a run that a promise of its journal is being written; return its next change number.

    Only a child that ends wakes its parent: one that is paused has ended nothing. Who calls this
    has locked the run, together with all others of its transaction.
    """
    cursor = await db.execute(
        _WAKE, {"id": run_id, "part": part_of(run_id), "now": now, "ends": int(ends)}
    )
    row = await cursor.fetchone()
    return row[0] if row else None
