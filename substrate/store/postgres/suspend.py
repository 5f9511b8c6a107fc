"""Runs that wait in Postgres: suspended, woken when due, and what others have settled of theirs.

Each function is one statement, and so one transaction.
"""

from collections.abc import Sequence

from substrate.store import rows, sql
from substrate.store.postgres.promises import load_promises
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId, part_of
from substrate.values.records import Fence, Promise

# A compare-and-set: whatever wakes the run moves its wake version in the same transaction. So
# either that comes first, and no row is found here, or it finds the run suspended and wakes it.
_SUSPEND = """
UPDATE runs
   SET status = 'suspended', lease_owner = NULL, need = %(need)s, due_at = %(due_at)s, crashes = 0
 WHERE id = %(id)s AND part = %(part)s AND epoch = %(epoch)s AND lease_owner = %(owner)s
   AND status = 'running' AND wake_version = %(wake_version)s
RETURNING id
"""


async def suspend_run(
    db: Cursor, fence: Fence, wake_version: int, need: int, due_at: int | None
) -> bool:
    """Let a run go until something wakes it; see `Store.suspend`.

    Where somebody is waking it, this waits for the row's lock and then finds another version.
    """
    seen = {
        "id": fence.run_id,
        "part": fence.part,
        "epoch": fence.epoch,
        "owner": fence.owner,
        "wake_version": wake_version,
        "need": need,
        "due_at": due_at,
    }
    cursor = await db.execute(_SUSPEND, seen)
    return await cursor.fetchone() is not None


_NEXT_DUE = """
SELECT due_at
  FROM runs
 WHERE status = 'suspended' AND due_at IS NOT NULL
 ORDER BY due_at
 LIMIT 1
"""


async def next_due_at(db: Cursor) -> int | None:
    """Return the earliest moment at which a suspended run is due, or None."""
    row = await (await db.execute(_NEXT_DUE)).fetchone()
    return row[0] if row else None


_DUE = """
SELECT id
  FROM runs
 WHERE status = 'suspended' AND due_at <= %(now)s AND id <> ALL (%(ids)s::text[])
 ORDER BY due_at
 LIMIT %(limit)s
"""


async def due_runs(db: Cursor, now: int, limit: int, without: Sequence[RunId]) -> list[RunId]:
    """Return the suspended runs whose moment has come."""
    cursor = await db.execute(_DUE, {"now": now, "limit": limit, "ids": list(without)})
    return [row[0] for row in await cursor.fetchall()]


_WAKE_DUE = f"""
-- due: the earliest first. One that is locked is left for the next time: its owner of the moment
-- may be waking it, and no tick should wait for that.
WITH due AS MATERIALIZED (
    SELECT id, part
      FROM runs
     WHERE status = 'suspended' AND due_at <= %(now)s AND {{among}}
     ORDER BY due_at
     LIMIT %(limit)s
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE runs
   SET status = 'ready', rank = %(now)s, wake_version = {sql.NEXT_WAKE}
 WHERE id = ANY (ARRAY(SELECT id FROM due)) AND part = ANY (ARRAY(SELECT part FROM due))
RETURNING id
"""


_WAKE_NEXT = _WAKE_DUE.format(among="id <> ALL (%(ids)s::text[])")
_WAKE_THESE = _WAKE_DUE.format(
    among="id = ANY (%(ids)s::text[]) AND part = ANY (%(parts)s::integer[])"
)


async def wake_due_runs(
    db: Cursor, now: int, limit: int, without: Sequence[RunId]
) -> Sequence[RunId]:
    """Make suspended runs whose moment has come ready; return which."""
    cursor = await db.execute(_WAKE_NEXT, {"now": now, "limit": limit, "ids": list(without)})
    return [row[0] for row in await cursor.fetchall()]


async def wake_these(db: Cursor, now: int, ids: Sequence[RunId]) -> Sequence[RunId]:
    """Make those of these runs ready that are suspended and due; return which."""
    asked = {"now": now, "limit": len(ids), "ids": list(ids), "parts": sql.parts_of(ids)}
    cursor = await db.execute(_WAKE_THESE, asked)
    return [row[0] for row in await cursor.fetchall()]


# The LIMIT is inside: it stops to count where the answer cannot change any more.
_COUNT_READY = """
SELECT count(*)
  FROM (SELECT 1
          FROM runs
         WHERE lane = ANY (%s) AND status = 'ready'
         LIMIT %s) AS ready
"""


async def count_ready(db: Cursor, lanes: Sequence[str], limit: int) -> int:
    """Return how many runs of these lanes are ready; `limit` at most."""
    row = await (await db.execute(_COUNT_READY, (list(lanes), limit))).fetchone()
    return row[0] if row else 0


_SELECT_SETTLED_OUTSIDE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = %s AND part = %s AND seq > %s AND kind IN ('child', 'gate')
   AND state <> 'pending'
 ORDER BY seq
"""


async def read_settled_outside(db: Cursor, run_id: RunId, after: int) -> Sequence[Promise]:
    """Return the run's children and gates that were settled above a seq, in order of seq."""
    cursor = await db.execute(_SELECT_SETTLED_OUTSIDE, (run_id, part_of(run_id), after))
    return await load_promises(db, await cursor.fetchall())
