"""Wakes the parent of a child that ends, in SQLite, inside the transaction that ends the child."""

import apsw

# `need` counts the children that must still end: only the last of them makes its parent ready.
# `wake_version` moves for each, so that a parent which is about to suspend looks again.
_WAKE = """
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = wake_version + :ends,
       need = max(need - :ends, 0),
       status = CASE WHEN status = 'suspended' AND :ends AND need <= 1 THEN 'ready' ELSE status END,
       rank = CASE WHEN status = 'suspended' AND :ends AND need <= 1 THEN :now ELSE rank END
 WHERE id = :id AND part = :part
RETURNING last_seq, tenant
"""


def wake_parent(
    db: apsw.Connection, run_id: str, part: int, now: int, *, ends: bool = True
) -> tuple[int, str] | None:
    """Tell a run that a child's promise in its journal is being written; return its change number.

    Only a child that ends wakes its parent: one that is paused has ended nothing.
    """
    return db.execute(_WAKE, {"id": run_id, "part": part, "now": now, "ends": ends}).fetchone()
