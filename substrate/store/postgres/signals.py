"""Signals in Postgres: numbered when sent, taken once, in order. Each is one transaction."""

from collections.abc import Mapping, Sequence

from substrate.store import refusals, rows, sql
from substrate.store.blobs import offload
from substrate.store.postgres.fenced_commit import LOCK, write_batch
from substrate.store.postgres.promises import read_promise
from substrate.store.postgres.runs import existing_run
from substrate.store.postgres.session import Cursor
from substrate.values.ids import PromiseId, RunId, part_of
from substrate.values.records import (
    Checkpoint,
    Fence,
    Fenced,
    Promise,
    ReceivedSignal,
    Signal,
)

# What a run takes: once it is to end, only what one of its undos waits for.
_TAKES = """
       (NOT cancel_requested AND (deadline_at IS NULL OR deadline_at > %(now)s)
        AND NOT EXISTS (SELECT 1
                          FROM promises
                         WHERE id = %(run_id)s::text || '#unwind' AND part = %(part)s)
        OR EXISTS (SELECT 1
                     FROM promises
                    WHERE id > %(run_id)s::text || '#unwind/'
                      AND id < %(run_id)s::text || '#unwind0'
                      AND part = %(part)s AND kind = 'signal' AND state = 'pending'
                      AND name = %(name)s))
"""

_SEND = f"""
-- woken: the run, while it takes signals and has not got this one. Its row's lock orders all
-- signals of a run: no two have the same n. A run that has never been claimed (epoch 0) waits for
-- its due_at, and no signal wakes it before.
WITH woken AS (
    UPDATE runs
       SET last_seq = last_seq + 1,
           wake_version = {sql.NEXT_WAKE},
           rank = CASE WHEN status = 'suspended' AND epoch > 0 THEN %(now)s ELSE rank END,
           status = CASE WHEN status = 'suspended' AND epoch > 0 THEN 'ready' ELSE status END
     WHERE id = %(run_id)s AND part = %(part)s
       AND status IN ('ready', 'running', 'suspended', 'paused')
       AND {_TAKES}
       AND NOT EXISTS (SELECT 1
                         FROM signals
                        WHERE run_id = %(run_id)s AND name = %(name)s AND dedup = %(dedup)s
                          AND part = %(part)s)
    RETURNING tenant, last_seq
)
INSERT INTO signals (run_id, name, dedup, part, tenant, n, value, sent_at)
SELECT %(run_id)s, %(name)s, %(dedup)s, %(part)s, tenant, last_seq, %(value)s::json, %(now)s
  FROM woken
    ON CONFLICT (run_id, name, dedup, part) DO NOTHING
RETURNING n
"""

_IS_KNOWN = """
SELECT 1
  FROM signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND dedup = %(dedup)s AND part = %(part)s
"""


async def send_signal(db: Cursor, signal: Signal, now: int) -> bool:
    """Put a signal into the inbox and wake the run; False when it was there already."""
    row = {
        "run_id": signal.run_id,
        "name": signal.name,
        "dedup": signal.dedup,
        "value": signal.value,
        "part": part_of(signal.run_id),
        "now": now,
    }
    cursor = await db.execute(_SEND, row)
    if await cursor.fetchone():
        return True
    # Only now is it asked why nothing was written: nearly every signal is new, and taken.
    cursor = await db.execute(_IS_KNOWN, row)
    if await cursor.fetchone():
        return False
    raise refusals.takes_no_signal(await existing_run(db, signal.run_id), signal, now)


_SELECT_UNTAKEN = """
SELECT name, dedup, n, value, sent_at, taken_by
  FROM signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND part = %(part)s AND taken_by IS NULL
   AND n > %(after)s
 ORDER BY n
 LIMIT %(limit)s
"""

_SELECT_RECEIVED = """
SELECT name, dedup, n, value, sent_at, taken_by
  FROM signals
 WHERE run_id = %(run_id)s AND part = %(part)s AND (%(name)s::text IS NULL OR name = %(name)s)
   AND NOT (%(untaken)s AND taken_by IS NOT NULL)
   AND n > %(after)s
 ORDER BY n
 LIMIT %(limit)s
"""


async def read_inbox(
    db: Cursor, run_id: RunId, name: str | None, only: Mapping[str, int | None]
) -> Sequence[ReceivedSignal]:
    """Return the signals that a run was sent, oldest first; see `Store.inbox`.

    The untaken of one name, which a run asks for at each step, have an index of their own.
    """
    statement = _SELECT_UNTAKEN if name is not None and only["untaken"] else _SELECT_RECEIVED
    where = {"run_id": run_id, "part": part_of(run_id), "name": name, **only}
    cursor = await db.execute(statement, where)
    return [ReceivedSignal(*row) for row in await cursor.fetchall()]


_LOCK_FENCED = f"""
SELECT id
  FROM runs
 WHERE id = %(run_id)s AND part = %(part)s AND epoch = %(epoch)s AND lease_owner = %(owner)s
 {LOCK}
"""

# Those that this very promise took before count too: asked again, it finds the same answer.
_COUNT_UNTAKEN = """
SELECT count(*)
  FROM signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND dedup = ANY (%(dedups)s) AND part = %(part)s
   AND (taken_by IS NULL OR taken_by = %(taken_by)s)
"""

_MARK_TAKEN = """
UPDATE signals
   SET taken_by = %(taken_by)s
 WHERE run_id = %(run_id)s AND name = %(name)s AND dedup = ANY (%(dedups)s) AND part = %(part)s
"""


async def take_signals(
    db: Cursor, fence: Fence, promise: Promise, dedups: Sequence[str]
) -> Promise | Fenced:
    """Write a promise and mark its signals as taken; see `Store.take_signals`.

    The run's lock is held from the first look to COMMIT. So of two promises that want one signal,
    the second sees the mark of the first.
    """
    held = {"run_id": fence.run_id, "part": fence.part, "epoch": fence.epoch, "owner": fence.owner}
    marks = {
        "run_id": promise.run_id,
        "name": promise.name,
        "dedups": list(dedups),
        "part": fence.part,
        "taken_by": promise.id,
    }
    async with db.connection.transaction():
        if await (await db.execute(_LOCK_FENCED, held)).fetchone() is None:
            return Fenced()
        first = await read_promise(db, promise.id)
        if first is not None and (first.is_settled or first.run_id != promise.run_id):
            return first
        free = await (await db.execute(_COUNT_UNTAKEN, marks)).fetchone()
        if free != (len(set(dedups)),):
            return first or rows.unsettled(promise)
        await db.execute(_MARK_TAKEN, marks)
        checkpoint = Checkpoint(fence, promise)
        (outcome,) = await write_batch(db, [offload(checkpoint)], wait=True)
        return rows.as_it_stands(checkpoint, outcome)


_RETURN_SIGNALS = """
UPDATE signals
   SET taken_by = NULL
 WHERE run_id = %(run_id)s AND part = %(part)s AND taken_by = %(taken_by)s
"""


async def return_signals(db: Cursor, fence: Fence, promise: PromiseId) -> bool:
    """Put what a promise has taken back into the inbox; see `Store.return_signals`."""
    held = {"run_id": fence.run_id, "part": fence.part, "epoch": fence.epoch, "owner": fence.owner}
    async with db.connection.transaction():
        if await (await db.execute(_LOCK_FENCED, held)).fetchone() is None:
            return False
        await db.execute(_RETURN_SIGNALS, held | {"taken_by": promise})
    return True
