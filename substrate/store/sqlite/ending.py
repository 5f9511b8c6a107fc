"""Runs in SQLite that are asked to end, given up for good, or begun afresh.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Collection, Sequence
from typing import Any

import apsw
import orjson

from substrate.store import refusals, rows, sql
from substrate.store.blobs import offload, offload_payload
from substrate.store.sqlite.blobs import insert_blobs
from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.promises import insert_settled
from substrate.store.sqlite.runs import existing_run
from substrate.store.sqlite.wake_parent import wake_parent
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
UPDATE runs
   SET cancel_requested = 1,
       wake_version = {sql.NEXT_WAKE},
       rank = CASE WHEN status IN ('suspended', 'paused') THEN :now ELSE rank END,
       status = CASE WHEN status IN ('suspended', 'paused') THEN 'ready' ELSE status END
 WHERE part = :part AND {{among}}
   AND status IN ('ready', 'running', 'suspended', 'paused')
RETURNING id
"""

# What an undo has spawned is no part of it: neither a cancel nor a deadline stops an undo.
_TREE = f"""
       (id = :id OR (id > :id || '#' AND id < :id || '$'))
       AND instr(substr(id, length(:id) + 1), '#{rows.UNDO}') = 0
"""
_CANCEL_TREE = _CANCEL.format(among=_TREE)
_CANCEL_THESE = _CANCEL.format(among="id IN (SELECT value FROM json_each(:ids))")

_SELECT_TREE = f"""
SELECT id
  FROM runs
 WHERE part = :part AND {_TREE}
   AND status IN ('ready', 'running', 'suspended', 'paused')
"""


# With the cancel itself: nobody decides what will not be done any more.
_WITHDRAW = """
UPDATE gates
   SET state = 'withdrawn', decided_at = :now
 WHERE part = :part AND state = 'pending' AND {among}
"""
_WITHDRAW_TREE = _WITHDRAW.format(among=_TREE)
_WITHDRAW_THESE = _WITHDRAW.format(
    among="root_id = :root_id AND run_id IN (SELECT value FROM json_each(:ids))"
)
# What an undo asks goes on being asked: it is why the run has not ended.
_WITHDRAW_BUT_UNDOS = f"""{_WITHDRAW_THESE}
   AND instr(id, run_id || '#{rows.UNDO}') <> 1
"""


def cancel_run(db: apsw.Connection, run_id: RunId, now: int) -> Run:
    """Ask a run and everything below it to end; see `Store.cancel`."""
    asked = {"id": run_id, "part": part_of(run_id), "now": now}
    db.execute(_CANCEL_TREE, asked).fetchall()
    db.execute(_WITHDRAW_TREE, asked)
    return existing_run(db, run_id)


def open_below(db: apsw.Connection, run_id: RunId) -> list[RunId]:
    """Return the runs of a tree that have not ended."""
    asked = {"id": run_id, "part": part_of(run_id)}
    return [row[0] for row in db.execute(_SELECT_TREE, asked)]


def cancel_these(db: apsw.Connection, ids: Sequence[RunId], now: int) -> Sequence[RunId]:
    """Ask these runs of one tree to end, and nothing below them; return which were asked."""
    asked = {"ids": sql.id_list(ids), "part": part_of(ids[0]), "now": now}
    cancelled: list[Any] = [row[0] for row in db.execute(_CANCEL_THESE, asked).fetchall()]
    db.execute(_WITHDRAW_BUT_UNDOS, asked | {"root_id": root_of(ids[0])})
    return cancelled


def cancelled_run(db: apsw.Connection, run_id: RunId, now: int) -> Run:
    """Return a run that was asked to end; ask it, where it wasn't, to learn why it cannot be."""
    run = existing_run(db, run_id)
    if not run.cancel_requested and not run.status.has_ended:
        cancel_these(db, [run_id], now)
    return run


_DISCARD = """
UPDATE runs
   SET status = 'cancelled', ended_at = :now, expires_at = :expires_at, last_seq = last_seq + 1
 WHERE id = :id AND part = :part AND status IN ('dead', 'failed', 'paused')
RETURNING parent_id, last_seq
"""

_SETTLE_DISCARDED = """
UPDATE promises
   SET state = 'cancelled', error = :error, settled_at = :now, seq = :seq
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def discard_run(db: apsw.Connection, run_id: RunId, now: int) -> Run:
    """Give a run up for good; see `Store.discard`."""
    part = part_of(run_id)
    where = {"id": run_id, "part": part, "now": now}
    expires = rows.expiry(RunStatus.CANCELLED, now)
    given_up = db.execute(_DISCARD, where | {"expires_at": expires}).fetchone()
    run = existing_run(db, run_id)
    if given_up is None:
        raise RunEnded(f"run {run_id!r} is {run.status}; {refusals.WHAT_IS_DISCARDED}")
    parent_id, seq = given_up
    if parent_id is not None and _is_open(db, run_id):
        woken = wake_parent(db, parent_id, part, now)
        seq = woken[0] if woken else seq
    db.execute(_SETTLE_DISCARDED, where | {"error": refusals.discarded(), "seq": seq})
    _close_open(db, where)
    these = {"ids": sql.id_list([run_id]), "root_id": root_of(run_id)}
    db.execute(_WITHDRAW_THESE, where | these)
    return existing_run(db, run_id)


_SELECT_OPEN = """
SELECT id
  FROM promises
 WHERE run_id = :id AND part = :part AND state = 'pending' AND kind <> 'child'
 ORDER BY seq
"""

_NEXT_SEQ = """
UPDATE runs
   SET last_seq = last_seq + 1
 WHERE id = :id AND part = :part
RETURNING last_seq
"""

_CLOSE = """
UPDATE promises
   SET state = CASE WHEN effect = 'once' THEN 'rejected' ELSE 'cancelled' END,
       error = CASE WHEN effect = 'once' THEN :unknown END,
       settled_at = :now, seq = :seq
 WHERE id = :promise_id AND part = :part
"""


def _close_open(db: apsw.Connection, where: dict[str, Any]) -> None:
    """Close what the run still waited for; its children live on, and close theirs by themselves."""
    open_ids = [id_ for (id_,) in db.execute(_SELECT_OPEN, where).fetchall()]
    for id_ in open_ids:
        (seq,) = db.execute(_NEXT_SEQ, where).fetchone() or (0,)
        closed = {"promise_id": id_, "seq": seq, "unknown": refusals.unknown_at_discard()}
        db.execute(_CLOSE, where | closed)


_IS_OPEN = """
SELECT 1
  FROM promises
 WHERE id = ? AND part = ? AND state = 'pending'
"""


def _is_open(db: apsw.Connection, run_id: RunId) -> bool:
    return db.execute(_IS_OPEN, (run_id, part_of(run_id))).fetchone() is not None


# What it finds is true until COMMIT: this runs inside a write transaction, and there is one writer.
_CHECK_FENCE = """
SELECT 1
  FROM runs
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
"""

_ANY_UNREAD = """
SELECT 1
  FROM signals
 WHERE run_id = :run_id AND part = :part AND taken_by IS NULL
   AND name IN (SELECT value FROM json_each(:names))
 LIMIT 1
"""


def finish_run(
    db: apsw.Connection, done: Checkpoint, heard: Collection[str]
) -> CommitResult | Unread:
    """End a run unless it may still hear a signal; see `Store.finish`."""
    fence = done.fence
    held = (fence.run_id, fence.part, fence.epoch, fence.owner)
    if db.execute(_CHECK_FENCE, held).fetchone() is None:
        return Fenced()
    names = orjson.dumps(list(heard)).decode()
    inbox = {"run_id": fence.run_id, "part": fence.part, "names": names}
    if db.execute(_ANY_UNREAD, inbox).fetchone():
        return Unread()
    return write_checkpoint(db, offload(done))


_CONTINUE = """
UPDATE runs
   SET generation = generation + 1, generation_seq = last_seq + 1,
       generation_at = :now, status = 'ready', last_seq = last_seq + 1,
       lease_owner = NULL, crashes = 0, rank = :now
 WHERE id = :id AND part = :part AND epoch = :epoch AND lease_owner = :owner
   AND status = 'running'
RETURNING generation, last_seq, function
"""


def continue_run(db: apsw.Connection, fence: Fence, input_: JsonText, now: int) -> bool:
    """Begin the run's next generation; see `Store.continue_as`."""
    where = {"id": fence.run_id, "part": fence.part}
    held = {"epoch": fence.epoch, "owner": fence.owner, "now": now}
    renewed = db.execute(_CONTINUE, where | held).fetchone()
    if renewed is None:
        return False
    generation, seq, function = renewed
    light, blobs = offload_payload(root_of(fence.run_id), input_)
    began = rows.began_generation(fence, generation, function, light, now)
    insert_settled(db, began, seq)
    insert_blobs(db, blobs)
    return True
