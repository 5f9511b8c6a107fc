"""Wakes the parent of a child that ends, in SQLite, inside the transaction that ends the child."""

import apsw

from substrate.store import sql
from substrate.store.sqlite.spent import pause_spent
from substrate.values.ids import RunId

# `need` counts the children that must still end: only the last of them makes its parent ready.
# `wake_version` moves for each, so that a parent which is about to suspend looks again.
_WAKE = f"""
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = CASE WHEN :ends THEN {sql.NEXT_WAKE} ELSE wake_version END,
       need = max(need - :ends, 0),
       status = CASE WHEN status = 'suspended' AND :ends AND need <= 1 THEN 'ready' ELSE status END,
       rank = CASE WHEN status = 'suspended' AND :ends AND need <= 1 THEN :now ELSE rank END
 WHERE id = :id AND part = :part AND {sql.HAS_NUMBERS}
RETURNING last_seq, tenant
"""


def wake_parent(
    db: apsw.Connection, run_id: RunId, part: int, now: int, *, ends: bool = True
) -> tuple[int, str] | None:
    """Tell a run that a child's promise in its journal is being written; return its change number.

    Only a child that ends wakes its parent: one that is paused has ended nothing. A parent that has
    no next number is paused, so that its child can end all the same; then None is returned, as
    where there is no parent.
    """
    asked = {"id": run_id, "part": part, "now": now, "ends": ends}
    if (woken := db.execute(_WAKE, asked).fetchone()) is None:
        pause_spent(db, run_id)
    return woken
