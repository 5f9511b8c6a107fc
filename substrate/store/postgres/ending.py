"""Runs in Postgres that are asked to end, given up for good, or begun afresh.

Each function is one transaction. It waits for the locks of the runs that it changes, which it takes
in the order of their ids.
"""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from substrate.store import refusals, rows, sql
from substrate.store.blobs import offload, offload_payload
from substrate.store.postgres.blobs import insert_blobs
from substrate.store.postgres.fenced_commit import LOCK, write_batch
from substrate.store.postgres.promises import insert_settled
from substrate.store.postgres.runs import existing_run
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.spent import write_beside
from substrate.store.postgres.wake_parent import wake_parent
from substrate.values.errors import RunEnded
from substrate.values.ids import RunId, part_of, root_of
from substrate.values.records import (
    Checkpoint,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    Run,
    RunStatus,
    Unread,
)

_CANCEL = f"""
-- locked: those of the tree that can still be asked, in the order of ids, parents before children
WITH locked AS MATERIALIZED (
    SELECT id
      FROM runs
     WHERE part = %(part)s AND {{among}}
       AND status IN ('ready', 'running', 'suspended', 'paused')
       AND NOT (%(again)s AND cancel_requested)
     {LOCK}
)
UPDATE runs
   SET cancel_requested = true,
       wake_version = {sql.NEXT_WAKE},
       rank = CASE WHEN status IN ('suspended', 'paused') THEN %(now)s ELSE rank END,
       status = CASE WHEN status IN ('suspended', 'paused') THEN 'ready' ELSE status END
 WHERE part = %(part)s AND id = ANY (ARRAY(SELECT id FROM locked))
RETURNING id
"""

# What an undo has spawned is no part of it: neither a cancel nor a deadline stops an undo.
_TREE = f"""
       (id = %(id)s OR (id > %(id)s::text || '#' AND id < %(id)s::text || '$'))
       AND strpos(substr(id, length(%(id)s::text) + 1), '#{rows.UNDO}'::text) = 0
"""
_CANCEL_TREE = _CANCEL.format(among=_TREE)
_CANCEL_THESE = _CANCEL.format(among="id = ANY (%(ids)s::text[])")

_SELECT_TREE = f"""
SELECT id
  FROM runs
 WHERE part = %(part)s AND {_TREE}
   AND status IN ('ready', 'running', 'suspended', 'paused')
"""

# With the cancel itself: nobody decides what will not be done any more.
_WITHDRAW = """
UPDATE gates
   SET state = 'withdrawn', decided_at = %(now)s
 WHERE part = %(part)s AND state = 'pending' AND {among}
"""
_WITHDRAW_TREE = _WITHDRAW.format(among=_TREE)
_WITHDRAW_THESE = _WITHDRAW.format(among="root_id = %(root_id)s AND run_id = ANY (%(ids)s::text[])")
# What an undo asks goes on being asked: it is why the run has not ended.
_WITHDRAW_BUT_UNDOS = f"""{_WITHDRAW_THESE}
   AND NOT starts_with(id, run_id || '#{rows.UNDO}'::text)
"""

_TRIES = 5


async def cancel_run(db: Cursor, run_id: RunId, now: int) -> Run:
    """Ask a run and everything below it to end; see `Store.cancel`.

    Those that were spawned while this waited for their parent are out of their turn in the order
    of locks, so Postgres may have to break a deadlock off; then all is done again.
    """
    for _ in range(_TRIES - 1):
        try:
            return await _cancel(db, run_id, now)
        except psycopg.errors.DeadlockDetected:
            continue
    return await _cancel(db, run_id, now)


async def _cancel(db: Cursor, run_id: RunId, now: int) -> Run:
    """Mark the tree, and look again until nothing in it is unmarked.

    A run that was spawned while its parent's lock was waited for has inherited nothing, and the
    statement that waited did not see it: the next one does. Once a parent is marked, whatever it
    spawns inherits that.
    """
    asked = {"id": run_id, "part": part_of(run_id), "now": now, "again": False}
    async with db.connection.transaction():
        while await (await db.execute(_CANCEL_TREE, asked)).fetchall():
            asked["again"] = True
        await db.execute(_WITHDRAW_TREE, asked)
        return await existing_run(db, run_id)


async def open_below(db: Cursor, run_id: RunId) -> list[RunId]:
    """Return the runs of a tree that have not ended."""
    cursor = await db.execute(_SELECT_TREE, {"id": run_id, "part": part_of(run_id)})
    return [row[0] for row in await cursor.fetchall()]


async def cancel_these(db: Cursor, ids: Sequence[RunId], now: int) -> Sequence[RunId]:
    """Ask these runs of one tree to end, and nothing below them; return which were asked."""
    asked = {"ids": list(ids), "part": part_of(ids[0]), "now": now, "again": False}
    async with db.connection.transaction():
        cancelled = await (await db.execute(_CANCEL_THESE, asked)).fetchall()
        await db.execute(_WITHDRAW_BUT_UNDOS, asked | {"root_id": root_of(ids[0])})
    return [row[0] for row in cancelled]


async def cancelled_run(db: Cursor, run_id: RunId, now: int) -> Run:
    """Return a run that was asked to end; ask it, where it wasn't, to learn why it cannot be."""
    run = await existing_run(db, run_id)
    if not run.cancel_requested and not run.status.has_ended:
        await cancel_these(db, [run_id], now)
    return run


# A run and its parent, in the order of ids: the parent is woken where its promise is settled here.
_LOCK_BOTH = f"""
SELECT id
  FROM runs
 WHERE id = ANY (%(ids)s) AND part = %(part)s
 {LOCK}
"""

_DISCARD = """
UPDATE runs
   SET status = 'cancelled', ended_at = %(now)s, expires_at = %(expires_at)s,
       last_seq = last_seq + 1
 WHERE id = %(id)s AND part = %(part)s AND status IN ('dead', 'failed', 'paused')
RETURNING parent_id, last_seq
"""

_IS_OPEN = """
SELECT 1
  FROM promises
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""

_SETTLE_DISCARDED = """
UPDATE promises
   SET state = 'cancelled', error = %(error)s::json, settled_at = %(now)s, seq = %(seq)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def discard_run(db: Cursor, run_id: RunId, now: int) -> Run:
    """Give a run up for good; see `Store.discard`."""
    where: dict[str, Any] = {"id": run_id, "part": part_of(run_id), "now": now}
    parent = run_id.rpartition("#")[0]
    async with db.connection.transaction():
        await db.execute(_LOCK_BOTH, where | {"ids": [run_id, parent]})
        expires = rows.expiry(RunStatus.CANCELLED, now)
        cursor = await db.execute(_DISCARD, where | {"expires_at": expires})
        given_up = await cursor.fetchone()
        if given_up is None:
            run = await existing_run(db, run_id)
            raise RunEnded(f"run {run_id!r} is {run.status}; {refusals.WHAT_IS_DISCARDED}")
        parent_id, seq = given_up
        if parent_id is not None and await (await db.execute(_IS_OPEN, where)).fetchone():
            seq = await wake_parent(db, parent_id, now) or seq
        await db.execute(_SETTLE_DISCARDED, where | {"error": refusals.discarded(), "seq": seq})
        await _close_open(db, where)
        these = {"ids": [run_id], "root_id": root_of(run_id)}
        await db.execute(_WITHDRAW_THESE, where | these)
        return await existing_run(db, run_id)


_SELECT_OPEN = """
SELECT id
  FROM promises
 WHERE run_id = %(id)s AND part = %(part)s AND state = 'pending' AND kind <> 'child'
 ORDER BY seq
"""

_NEXT_SEQ = """
UPDATE runs
   SET last_seq = last_seq + 1
 WHERE id = %(id)s AND part = %(part)s
RETURNING last_seq
"""

_CLOSE = """
UPDATE promises
   SET state = CASE WHEN effect = 'once' THEN 'rejected' ELSE 'cancelled' END,
       error = CASE WHEN effect = 'once' THEN %(unknown)s::json END,
       settled_at = %(now)s, seq = %(seq)s
 WHERE id = %(promise_id)s AND part = %(part)s
"""


async def _close_open(db: Cursor, where: dict[str, Any]) -> None:
    """Close what the run still waited for; its children live on, and close theirs by themselves."""
    found = await (await db.execute(_SELECT_OPEN, where)).fetchall()
    for (id_,) in found:
        (seq,) = await (await db.execute(_NEXT_SEQ, where)).fetchone() or (0,)
        closed = {"promise_id": id_, "seq": seq, "unknown": refusals.unknown_at_discard()}
        await db.execute(_CLOSE, where | closed)


# The run, and the parent in whose journal its promise stands. The fence is compared in Python, by
# who has the lock: until COMMIT no other claim can begin.
_LOCK_FENCED = f"""
SELECT id, epoch, lease_owner, NOT ({sql.HAS_NUMBERS})
  FROM runs
 WHERE id = ANY (%(ids)s) AND part = %(part)s
 {LOCK}
"""

_ANY_UNREAD = """
SELECT 1
  FROM signals
 WHERE run_id = %(run_id)s AND part = %(part)s AND taken_by IS NULL AND name = ANY (%(names)s)
 LIMIT 1
"""


async def finish_run(db: Cursor, done: Checkpoint, heard: Collection[str]) -> CommitResult | Unread:
    """End a run unless it may still hear a signal; see `Store.finish`.

    Its lock, and that of the parent that it wakes, are held from before the look on: who sends
    waits for it.
    """
    fence = done.fence
    ours = {"ids": [fence.run_id, done.promise.run_id], "part": fence.part}
    inbox = {"run_id": fence.run_id, "part": fence.part, "names": list(heard)}
    async with db.connection.transaction():
        locked = await (await db.execute(_LOCK_FENCED, ours)).fetchall()
        if (fence.run_id, fence.epoch, fence.owner) not in [row[:3] for row in locked]:
            return Fenced()
        spent = any(is_spent for id_, *_, is_spent in locked if id_ != fence.run_id)
        if await (await db.execute(_ANY_UNREAD, inbox)).fetchone():
            return Unread()
        light = offload(done)
        if spent and (end := await write_beside(db, light)):
            return end
        (outcome,) = await write_batch(db, [light], wait=True)
    return outcome


_CONTINUE = """
UPDATE runs
   SET generation = generation + 1, generation_seq = last_seq + 1,
       generation_at = %(now)s, status = 'ready', last_seq = last_seq + 1,
       lease_owner = NULL, crashes = 0, rank = %(now)s
 WHERE id = %(id)s AND part = %(part)s AND epoch = %(epoch)s AND lease_owner = %(owner)s
   AND status = 'running'
RETURNING generation, last_seq, function
"""


async def continue_run(db: Cursor, fence: Fence, input_: JsonText, now: int) -> bool:
    """Begin the run's next generation; see `Store.continue_as`."""
    where = {"id": fence.run_id, "part": fence.part}
    held = {"epoch": fence.epoch, "owner": fence.owner, "now": now}
    light, blobs = offload_payload(root_of(fence.run_id), input_)
    async with db.connection.transaction():
        renewed = await (await db.execute(_CONTINUE, where | held)).fetchone()
        if renewed is None:
            return False
        generation, seq, function = renewed
        began = rows.began_generation(fence, generation, function, light, now)
        await insert_settled(db, began, seq)
        await insert_blobs(db, blobs)
    return True
