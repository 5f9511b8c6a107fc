"""Promises in Postgres: written under the fence, settled once.

A batch is one statement with one JSON parameter, and so one transaction. First it locks every run
it touches, owners and those it wakes, in the order of their ids, skipping what somebody else has
locked: a batch waits for nobody, and two batches cannot deadlock. The lock is what fences: whoever
takes a run over must wait for it, or we see that the epoch has moved. A plain read, or
``FOR KEY SHARE``, would let a stale writer through. A lone new promise, which is what a lone run
writes at each step, takes a cheaper statement with the same fence.

Runs are found by ``= ANY (ARRAY(…))``, not by a join, so that the index serves at any size: a plan
is kept, and one made for a small table would scan it at every commit when it has grown.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from psycopg.pq import TransactionStatus

from substrate.store import rows, sql
from substrate.store.blobs import PAYLOADS
from substrate.store.postgres.blobs import insert_blobs
from substrate.store.postgres.promises import read_promise
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.spent import write_beside
from substrate.values.errors import CheckpointRefused
from substrate.values.records import (
    Adopted,
    Checkpoint,
    CommitResult,
    Fenced,
    Locked,
    Promise,
    Written,
)

LOCK = "ORDER BY id FOR NO KEY UPDATE"
LOCK_SKIP_LOCKED = "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
"""How run rows are locked: all of them, or those that nobody else has locked."""

# How a new promise's columns are given to `_WRITE_NEW`, and what types they have in a batch.
_GIVEN = {name: f"%({name})s" for name in rows.PROMISE_FIELDS}
_GIVEN |= {name: f"%({name})s::json" for name in PAYLOADS} | {"seq": "last_seq"}
_TYPES = dict.fromkeys(rows.PROMISE_FIELDS, "text") | dict.fromkeys(PAYLOADS, "json")
_TYPES |= {"began": "bigint", "epoch": "integer", "created_at": "bigint", "settled_at": "bigint"}
del _TYPES["seq"]  # it is the run's next one, which is known when the run is locked

_WRITE_NEW = f"""
-- advanced: the fence, and the lock that makes it hold until COMMIT. A run that somebody else has
-- locked is skipped, so this waits for nobody.
WITH advanced AS (
    UPDATE runs
       SET last_seq = last_seq + 1,
           crashes = CASE %(state)s WHEN 'pending' THEN crashes ELSE 0 END
     WHERE part = %(part)s
       AND id = (SELECT id
                   FROM runs
                  WHERE id = %(run_id)s AND part = %(part)s
                    AND epoch = %(epoch)s AND lease_owner = %(owner)s
                  {LOCK_SKIP_LOCKED})
    RETURNING last_seq, tenant
)
INSERT INTO promises ({rows.PROMISE_COLUMNS}, part, tenant)
SELECT {", ".join(_GIVEN.values())}, %(part)s, tenant
  FROM advanced
RETURNING seq
"""

_WRITE_BATCH = f"""
-- batch: a row a checkpoint, in the order in which they were handed over
WITH batch AS MATERIALIZED (
    SELECT *
      FROM json_to_recordset(%(batch)s::json) AS batch (
           {", ".join(map(" ".join, _TYPES.items()))}, part integer,
           ord integer, fence_run text, owner text, status text, now bigint, expires_at bigint,
           child json)

-- locked: every run that is touched, in the order of ids, so that two batches cannot deadlock
), locked AS MATERIALIZED (
    SELECT id, tenant, root_id, epoch, lease_owner, last_seq, deadline_at, cancel_requested
      FROM runs
     WHERE id = ANY (ARRAY(SELECT fence_run FROM batch UNION SELECT run_id FROM batch))
       AND part = ANY (%(parts)s::integer[])
     {{lock}}

-- judged: fence is the run that commits, journal the one in whose journal the promise stands. Both
-- must be locked: a claim that is over has another epoch or owner now, and cannot get it back.
), judged AS MATERIALIZED (
    SELECT batch.*, journal.tenant, journal.root_id, journal.last_seq, journal.deadline_at,
           journal.cancel_requested,
           fence.id IS NOT NULL AND journal.id IS NOT NULL AS is_locked,
           fence.epoch = batch.epoch AND fence.lease_owner = batch.owner AS is_ours
      FROM batch
      LEFT JOIN locked AS fence ON fence.id = batch.fence_run
      LEFT JOIN locked AS journal ON journal.id = batch.run_id

-- owned: what is written, each with the next change number of its journal
), owned AS MATERIALIZED (
    SELECT *, last_seq + row_number() OVER (PARTITION BY run_id ORDER BY ord) AS seq
      FROM judged
     WHERE is_locked AND is_ours

-- touched: what each checkpoint does to its journal's run, and to its own
), touched AS (
    SELECT run_id AS id, part, 1 AS seqs,
           (run_id <> fence_run AND state <> 'pending')::integer AS wakes,
           NULL AS status, false AS is_settled, now, NULL::bigint AS expires_at
      FROM owned
     UNION ALL
    SELECT fence_run, part, 0, 0, status, state <> 'pending', now, expires_at
      FROM owned

-- changes: all that is done to a run, as one row, since an UPDATE changes a row only once
), changes AS (
    SELECT id, part, sum(seqs) AS seqs, sum(wakes)::integer AS wakes, max(status) AS status,
           bool_or(is_settled) AS is_settled, max(now) AS now, max(expires_at) AS expires_at
      FROM touched
     GROUP BY id, part

-- advanced: the last child that a suspended run needs makes it ready; a status gives the run up
), advanced AS (
    UPDATE runs
       SET last_seq = runs.last_seq + changes.seqs,
           crashes = CASE WHEN changes.is_settled THEN 0 ELSE runs.crashes END,
           wake_version = CASE WHEN runs.wake_version > {sql.LAST_COUNT} - changes.wakes THEN 0
                               ELSE runs.wake_version + changes.wakes END,
           need = greatest(runs.need - changes.wakes, 0),
           rank = CASE WHEN runs.status = 'suspended' AND changes.wakes > 0
                        AND runs.need <= changes.wakes THEN changes.now
                       ELSE runs.rank END,
           status = CASE WHEN changes.status IS NOT NULL THEN changes.status
                         WHEN runs.status = 'suspended' AND changes.wakes > 0
                          AND runs.need <= changes.wakes THEN 'ready'
                         ELSE runs.status END,
           lease_owner = CASE WHEN changes.status IS NULL THEN runs.lease_owner END,
           ended_at = CASE WHEN changes.expires_at IS NULL THEN runs.ended_at
                           ELSE changes.now END,
           expires_at = coalesce(changes.expires_at, runs.expires_at)
      FROM changes
     WHERE runs.id = ANY (ARRAY(SELECT id FROM locked))
       AND runs.part = ANY (%(parts)s::integer[])
       AND runs.id = changes.id AND runs.part = changes.part

-- written: a row that has its outcome is left alone, and has no row here
), written AS (
    INSERT INTO promises ({rows.PROMISE_COLUMNS}, part, tenant)
    SELECT {rows.PROMISE_COLUMNS}, part, tenant
      FROM owned
        ON CONFLICT (id, part) DO UPDATE
       SET seq = excluded.seq, state = excluded.state,
           input = coalesce(excluded.input, promises.input), value = excluded.value,
           error = excluded.error, usage = excluded.usage, attempts = excluded.attempts,
           undo = excluded.undo, epoch = excluded.epoch, settled_at = excluded.settled_at
     WHERE promises.state = 'pending'
     {sql.NOT_MOVED}
    RETURNING id, seq

-- spawned: the runs of new children, in the same commit as their promises. An undo's child has no
-- deadline and no cancel from above, since nothing stops an undo.
), spawned AS (
    INSERT INTO runs (id, part, tenant, root_id, parent_id, function, version, queue, lane, rank,
                      status, epoch, wake_version, need, deadline_at, crashes, cancel_requested,
                      last_seq, seed, generation, generation_seq, exited_epoch, created_at,
                      generation_at, on_dead)
    SELECT owned.id, part, tenant, root_id, run_id, child.function, child.version, child.queue,
           child.lane, child.rank, 'ready', 0, 0, 0,
           CASE WHEN starts_with(owned.key, '{rows.UNDO}'::text) THEN child.deadline_at
                ELSE least(child.deadline_at, owned.deadline_at) END,
           0, cancel_requested AND NOT starts_with(owned.key, '{rows.UNDO}'::text), 1, child.seed,
           0, 0, 0, created_at, created_at, child.on_dead
      FROM owned
      JOIN written USING (id),
           json_to_record(owned.child) AS child (
           function text, version integer, queue text, lane text, rank bigint, seed bigint,
           deadline_at bigint, on_dead text)
     WHERE owned.child IS NOT NULL
        ON CONFLICT (id, part) DO NOTHING
)
SELECT is_locked, is_ours, written.seq
  FROM judged
  LEFT JOIN written USING (id)
 ORDER BY ord
"""

_WRITE_SKIPPING = _WRITE_BATCH.format(lock=LOCK_SKIP_LOCKED)
_WRITE_WAITING = _WRITE_BATCH.format(lock=LOCK)


async def write_batch(
    db: Cursor, batch: Sequence[Checkpoint], *, wait: bool
) -> Sequence[CommitResult]:
    """Write a batch of checkpoints in one transaction; see `Store.commit`."""
    is_by_itself = db.connection.pgconn.transaction_status == TransactionStatus.IDLE
    try:
        if any(checkpoint.blobs for checkpoint in batch):
            return await _write_with_blobs(db, batch, wait=wait)
        if is_by_itself and len(batch) == 1 and not wait and _is_plain(batch[0]):
            seq = await _write_new(db, batch[0])
            if seq is not None:
                return [Written(seq)]
        return await _write(db, batch, wait=wait)
    except psycopg.errors.CheckViolation:
        # The row at fault may be a parent's, which holds up no child of its.
        is_of_another = len(batch) == 1 and batch[0].promise.run_id != batch[0].fence.run_id
        if not (is_by_itself and is_of_another and (end := await write_beside(db, batch[0]))):
            raise
        return [end]
    except (TypeError, ValueError) as error:  # text that is no Unicode never leaves this process
        raise CheckpointRefused(f"a row cannot be sent to Postgres: {error}") from error


def _is_plain(checkpoint: Checkpoint) -> bool:
    """Whether all it does is to write a new promise: no status, no child, nobody else woken."""
    promise, fence = checkpoint.promise, checkpoint.fence
    is_alone = checkpoint.status is None and checkpoint.child is None
    return is_alone and promise.seq == 0 and promise.run_id == fence.run_id


async def _write_new(db: Cursor, checkpoint: Checkpoint) -> int | None:
    """Write a promise that is thought to be new, by the cheapest statement that is fenced.

    None when it could not be: locked, fenced off, or there already. The batch statement tells.
    Not inside of a transaction, which its failure would spoil.
    """
    try:
        cursor = await db.execute(_WRITE_NEW, _parameters(checkpoint))
    except psycopg.errors.UniqueViolation:
        # No ON CONFLICT here: most rows are new, and for those a plain INSERT is cheaper.
        return None
    row = await cursor.fetchone()
    return row[0] if row else None


async def _write_with_blobs(
    db: Cursor, batch: Sequence[Checkpoint], *, wait: bool
) -> Sequence[CommitResult]:
    async with db.connection.transaction():
        outcomes = await _write(db, batch, wait=wait)
        pairs = zip(batch, outcomes, strict=True)
        kept = [blob for c, outcome in pairs if isinstance(outcome, Written) for blob in c.blobs]
        await insert_blobs(db, kept)
    return outcomes


async def _write(db: Cursor, batch: Sequence[Checkpoint], *, wait: bool) -> Sequence[CommitResult]:
    records = [_record(i, checkpoint) for i, checkpoint in enumerate(batch)]
    parts = sorted({checkpoint.fence.part for checkpoint in batch})
    cursor = await db.execute(
        _WRITE_WAITING if wait else _WRITE_SKIPPING,
        {"batch": orjson.dumps(records).decode(), "parts": parts},
    )
    outcomes: list[CommitResult] = []
    found = zip(batch, await cursor.fetchall(), strict=True)
    for checkpoint, (is_locked, is_ours, seq) in found:
        if seq is not None:
            outcomes.append(Written(seq))
        elif not is_locked:
            outcomes.append(Fenced() if wait else Locked())  # who waited has found no such run
        elif not is_ours:
            outcomes.append(Fenced())
        else:
            outcomes.append(Adopted(await _first(db, checkpoint.promise)))
    return outcomes


def _parameters(checkpoint: Checkpoint) -> dict[str, Any]:
    fence = checkpoint.fence
    mine = {"epoch": fence.epoch, "part": fence.part, "owner": fence.owner}
    return rows.parameters_of(checkpoint.promise) | mine


def _record(ord_: int, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a row of the batch's JSON parameter; payloads go in as the JSON they are."""
    record = _parameters(checkpoint)
    del record["seq"]  # the statement gives the next one
    for name in PAYLOADS:
        if record[name] is not None:
            record[name] = orjson.Fragment(record[name])
    status = checkpoint.status
    now = checkpoint.promise.settled_at or checkpoint.promise.created_at
    record |= {"ord": ord_, "fence_run": checkpoint.fence.run_id, "now": now}
    if status is not None:
        record |= {"status": status.value, "expires_at": rows.expiry(status, now)}
    if checkpoint.child is not None:
        record["child"] = rows.child_row(checkpoint.child, now)
    return {name: value for name, value in record.items() if value is not None}


async def _first(db: Cursor, promise: Promise) -> Promise:
    settled = await read_promise(db, promise.id)
    if settled is None:
        raise CheckpointRefused(f"{promise.id!r} conflicts with a row that is gone; write it again")
    return settled
