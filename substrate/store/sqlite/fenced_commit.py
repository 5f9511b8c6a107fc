"""Promises in SQLite: written under the fence, settled once.

The fence is the run's row inside a write transaction: SQLite has one writer at a time, so what
``UPDATE runs … WHERE epoch = … AND lease_owner = …`` finds is still true at COMMIT.
Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence

import apsw

from substrate.store import rows, sql
from substrate.store.sqlite.blobs import insert_blobs
from substrate.store.sqlite.promises import read_promise
from substrate.store.sqlite.spent import standing
from substrate.store.sqlite.wake_parent import wake_parent
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import part_of
from substrate.values.records import (
    Adopted,
    Checkpoint,
    CommitResult,
    Fenced,
    NewRun,
    Promise,
    Written,
)

# The fence. A claim that is over finds no row here, and then nothing of its checkpoint is written.
_ADVANCE = """
UPDATE runs
   SET last_seq = last_seq + ?, crashes = CASE WHEN ? THEN 0 ELSE crashes END
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
RETURNING last_seq, tenant
"""

# The same, for a checkpoint that gives the run up: the next one of this claim is fenced off.
_ADVANCE_AND_LEAVE = """
UPDATE runs
   SET last_seq = last_seq + ?, crashes = CASE WHEN ? THEN 0 ELSE crashes END,
       status = ?, lease_owner = NULL, ended_at = ?, expires_at = ?
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
RETURNING last_seq, tenant
"""

_MARKS = ", ".join("?" for _ in rows.PROMISE_FIELDS)

# A row that is there is settled by this, or its intent is written anew. One that has its outcome is
# left alone, and then no row comes back.
_WRITE_PROMISE = f"""
INSERT INTO promises ({rows.PROMISE_COLUMNS}, part, tenant)
VALUES ({_MARKS}, ?, ?)
    ON CONFLICT (id, part) DO UPDATE
   SET seq = excluded.seq, state = excluded.state,
       input = coalesce(excluded.input, promises.input),
       value = excluded.value, error = excluded.error,
       usage = excluded.usage, attempts = excluded.attempts, undo = excluded.undo,
       epoch = excluded.epoch, settled_at = excluded.settled_at
 WHERE promises.state = 'pending'
{sql.NOT_MOVED}
RETURNING seq
"""


def write_batch(db: apsw.Connection, batch: Sequence[Checkpoint]) -> Sequence[CommitResult]:
    """Write a batch of checkpoints, in order; see `Store.commit`."""
    return [write_checkpoint(db, checkpoint) for checkpoint in batch]


def write_checkpoint(db: apsw.Connection, checkpoint: Checkpoint) -> CommitResult:
    """Write one checkpoint, if the fence holds and nobody settled the promise before."""
    promise, part = checkpoint.promise, checkpoint.fence.part
    held = _advance(db, checkpoint)
    if held is None:
        return Fenced()
    seq, tenant = held
    row = rows.values_of(promise.written(seq, checkpoint.fence.epoch))
    written = db.execute(_WRITE_PROMISE, (*row, part, tenant)).fetchone()
    if written is None:
        return Adopted(_first(db, promise))
    if checkpoint.child is not None:
        _insert_child(db, checkpoint.child, promise)
    insert_blobs(db, checkpoint.blobs)
    return Written(seq)


# The earlier deadline counts: min() of both, where one is missing the other. An undo's child has no
# deadline and no cancel from above, since nothing stops an undo.
_INSERT_CHILD = """
INSERT INTO runs (id, part, tenant, root_id, parent_id, function, version, queue, lane, rank,
                  status, epoch, wake_version, need, deadline_at, crashes, cancel_requested,
                  last_seq, seed, generation, generation_seq, exited_epoch, created_at,
                  generation_at, on_dead)
SELECT :id, part, tenant, root_id, id, :function, :version, :queue, :lane, :rank, 'ready', 0, 0, 0,
       CASE WHEN :is_undo THEN :deadline_at
            ELSE min(coalesce(:deadline_at, deadline_at), coalesce(deadline_at, :deadline_at)) END,
       0, cancel_requested AND NOT :is_undo, 1, :seed, 0, 0, 0, :now, :now, :on_dead
  FROM runs
 WHERE id = :parent_id AND part = :part
    ON CONFLICT (id, part) DO NOTHING
"""


def _insert_child(db: apsw.Connection, new: NewRun, promise: Promise) -> None:
    """Create the run that a promise stands for, with what it inherits from its parent."""
    row = rows.child_row(new, promise.created_at) | {"id": promise.id, "part": part_of(promise.id)}
    above = {"parent_id": promise.run_id, "is_undo": rows.is_undo(promise.key)}
    db.execute(_INSERT_CHILD, row | above | {"now": promise.created_at})


def _advance(db: apsw.Connection, checkpoint: Checkpoint) -> tuple[int, str] | None:
    """Take the next change number of the promise's journal, or None when fenced off."""
    fence, promise, status = checkpoint.fence, checkpoint.promise, checkpoint.status
    # The fence is on the run that commits. The number is of the run in whose journal the promise
    # stands, which is another one where a child settles its parent's promise.
    owned = (fence.run_id, fence.part, fence.epoch, fence.owner)
    change = (promise.run_id == fence.run_id, promise.is_settled)
    now = promise.settled_at or promise.created_at
    if status is None:
        held = db.execute(_ADVANCE, (*change, *owned)).fetchone()
    else:
        left = (status, now if status.has_ended else None, rows.expiry(status, now))
        held = db.execute(_ADVANCE_AND_LEAVE, (*change, *left, *owned)).fetchone()
    if held is None or promise.run_id == fence.run_id:
        return held
    woken = wake_parent(db, promise.run_id, fence.part, now, ends=promise.is_settled)
    # A parent without a next number is paused by that. Its child's promise keeps the one it has:
    # the parent, once it is put right, reads its journal anew.
    return woken or standing(db, promise.id, promise.run_id)


def _first(db: apsw.Connection, promise: Promise) -> Promise:
    settled = read_promise(db, promise.id)
    if settled is None:
        raise CheckpointRefused(f"{promise.id!r} conflicts with a row that is gone; write it again")
    return settled
