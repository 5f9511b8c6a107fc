"""Runs in Postgres whose counters have no next number: paused, with the column named.

Each function is one transaction, or part of one.
"""

from substrate.store import refusals, rows, sql
from substrate.store.postgres.blobs import insert_blobs
from substrate.store.postgres.promises import read_promise
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId, part_of
from substrate.values.records import Adopted, Checkpoint, CommitResult, Fenced, Written

# It takes no number: there is none. What is beyond the bounds is put at its end, or nothing could
# be written to the row.
_PAUSE = f"""
UPDATE runs
   SET status = CASE WHEN status IN ('ready', 'running', 'suspended') THEN 'paused'
                     ELSE status END,
       lease_owner = NULL,
       last_seq = least(last_seq, {sql.LAST_NUMBER}),
       epoch = least(epoch, {sql.LAST_COUNT}),
       generation = least(generation, {sql.LAST_COUNT})
 WHERE id = %(id)s AND part = %(part)s AND {sql.IS_SPENT}
RETURNING last_seq, epoch, generation
"""

_TELL = """
UPDATE promises
   SET error = %(error)s::json
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def pause_spent(db: Cursor, run_id: RunId) -> str | None:
    """Pause a run whose next number cannot be written; return why, or None where it can be."""
    where = {"id": run_id, "part": part_of(run_id)}
    async with db.connection.transaction():
        found = await (await db.execute(_PAUSE, where)).fetchone()
        if found is None:
            return None
        why = refusals.spent(run_id, *found)
        await db.execute(_TELL, where | {"error": refusals.spent_error(why)})
    return why


_LOCK_BOTH = """
SELECT id, epoch, lease_owner
  FROM runs
 WHERE id = ANY (%(ids)s) AND part = %(part)s
 ORDER BY id FOR NO KEY UPDATE
"""

_LEAVE = """
UPDATE runs
   SET crashes = CASE WHEN %(is_settled)s THEN 0 ELSE crashes END,
       status = coalesce(%(status)s::text, status),
       lease_owner = CASE WHEN %(status)s::text IS NULL THEN lease_owner END,
       ended_at = CASE WHEN %(expires_at)s::bigint IS NULL THEN ended_at ELSE %(now)s END,
       expires_at = coalesce(%(expires_at)s, expires_at)
 WHERE id = %(run_id)s AND part = %(part)s
"""

_SETTLE = """
UPDATE promises
   SET state = %(state)s, value = %(value)s::json, error = %(error)s::json, epoch = %(epoch)s,
       settled_at = %(settled_at)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
RETURNING seq
"""


async def write_beside(db: Cursor, checkpoint: Checkpoint) -> CommitResult | None:
    """Write a child's outcome where its parent's journal has no next number, and pause the parent.

    The promise keeps the number that it has: the parent, once it is put right, reads its journal
    anew. None, and nothing written, where the parent is not the one at fault.
    """
    fence, promise, status = checkpoint.fence, checkpoint.promise, checkpoint.status
    now = promise.settled_at or promise.created_at
    both = {"ids": [fence.run_id, promise.run_id], "part": fence.part}
    end = {
        "run_id": fence.run_id,
        "part": fence.part,
        "is_settled": promise.is_settled,
        "status": None if status is None else status.value,
        "expires_at": rows.expiry(status, now),
        "now": now,
    }
    async with db.connection.transaction():
        locked = await (await db.execute(_LOCK_BOTH, both)).fetchall()
        if (fence.run_id, fence.epoch, fence.owner) not in locked:
            return Fenced()
        if await pause_spent(db, promise.run_id) is None:
            return None
        await db.execute(_LEAVE, end)
        outcome = rows.parameters_of(promise) | {"part": fence.part, "epoch": fence.epoch}
        written = await (await db.execute(_SETTLE, outcome)).fetchone()
        if written is None:
            first = await read_promise(db, promise.id)
            return Adopted(first) if first is not None else None
        await insert_blobs(db, checkpoint.blobs)
    return Written(written[0])
