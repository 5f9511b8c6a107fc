"""Runs that wait in SQLite: suspended, woken when due, and what others have settled of theirs.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence

import apsw

from substrate.store import rows, sql
from substrate.store.sqlite.promises import load_promises
from substrate.values.ids import RunId, part_of
from substrate.values.records import Fence, Promise

# A compare-and-set: whatever wakes the run moves its wake version in the same transaction. So
# either that comes first, and no row is found here, or it finds the run suspended and wakes it.
_SUSPEND = """
UPDATE runs
   SET status = 'suspended', lease_owner = NULL, need = :need, due_at = :due_at, crashes = 0
 WHERE id = :id AND part = :part AND epoch = :epoch AND lease_owner = :owner
   AND status = 'running' AND wake_version = :wake_version
RETURNING id
"""


def suspend_run(
    db: apsw.Connection, fence: Fence, wake_version: int, need: int, due_at: int | None
) -> bool:
    """Let a run go until something wakes it; see `Store.suspend`."""
    seen = {
        "id": fence.run_id,
        "part": fence.part,
        "epoch": fence.epoch,
        "owner": fence.owner,
        "wake_version": wake_version,
        "need": need,
        "due_at": due_at,
    }
    return db.execute(_SUSPEND, seen).fetchone() is not None


_NEXT_DUE = """
SELECT due_at
  FROM runs
 WHERE status = 'suspended' AND due_at IS NOT NULL
 ORDER BY due_at
 LIMIT 1
"""


def next_due_at(db: apsw.Connection) -> int | None:
    """Return the earliest moment at which a suspended run is due, or None."""
    row: rows.Row | None = db.execute(_NEXT_DUE).fetchone()
    return row[0] if row else None


_DUE = """
SELECT id
  FROM runs
 WHERE status = 'suspended' AND due_at <= :now
   AND id NOT IN (SELECT value FROM json_each(:ids))
 ORDER BY due_at
 LIMIT :limit
"""


def due_runs(db: apsw.Connection, now: int, limit: int, without: Sequence[RunId]) -> list[RunId]:
    """Return the suspended runs whose moment has come."""
    asked = {"now": now, "limit": limit, "ids": sql.id_list(without)}
    return [row[0] for row in db.execute(_DUE, asked)]


_WAKE_DUE = f"""
UPDATE runs
   SET status = 'ready', rank = :now, wake_version = {sql.NEXT_WAKE}
 WHERE rowid IN (SELECT rowid
                   FROM runs
                  WHERE status = 'suspended' AND due_at <= :now AND {{among}}
                  ORDER BY due_at
                  LIMIT :limit)
RETURNING id
"""


_WAKE_NEXT = _WAKE_DUE.format(among="id NOT IN (SELECT value FROM json_each(:ids))")
_WAKE_THESE = _WAKE_DUE.format(among=sql.AMONG_THESE)


def wake_due_runs(
    db: apsw.Connection, now: int, limit: int, without: Sequence[RunId]
) -> Sequence[RunId]:
    """Make suspended runs whose moment has come ready; return which."""
    asked = {"now": now, "limit": limit, "ids": sql.id_list(without)}
    return [row[0] for row in db.execute(_WAKE_NEXT, asked)]


def wake_these(db: apsw.Connection, now: int, ids: Sequence[RunId]) -> Sequence[RunId]:
    """Make those of these runs ready that are suspended and due; return which."""
    asked = {"now": now, "limit": len(ids), **sql.these(ids)}
    return [row[0] for row in db.execute(_WAKE_THESE, asked)]


# The LIMIT is inside: it stops to count where the answer cannot change any more.
_COUNT_READY = """
SELECT count(*)
  FROM (SELECT 1
          FROM runs
         WHERE lane = ? AND status = 'ready'
         LIMIT ?)
"""


def count_ready(db: apsw.Connection, lanes: Sequence[str], limit: int) -> int:
    """Return how many runs of these lanes are ready; `limit` at most."""
    found = 0
    for lane in lanes:
        ((ready,),) = db.execute(_COUNT_READY, (lane, limit - found))
        found += ready
    return found


_SELECT_SETTLED_OUTSIDE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = ? AND part = ? AND seq > ? AND kind IN ('child', 'gate')
   AND state <> 'pending'
 ORDER BY seq
"""


def read_settled_outside(db: apsw.Connection, run_id: RunId, after: int) -> Sequence[Promise]:
    """Return the run's children and gates that were settled above a seq, in order of seq."""
    asked = (run_id, part_of(run_id), after)
    return load_promises(db, db.execute(_SELECT_SETTLED_OUTSIDE, asked))
