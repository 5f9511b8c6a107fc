"""Signals in Postgres: numbered when sent, taken once, in order. Each is one transaction."""

from dataclasses import replace

from substrate.store import rows
from substrate.store.blobs import outsource
from substrate.store.postgres.connections import Cursor
from substrate.store.postgres.journal import LOCK, write_batch
from substrate.store.postgres.runs import existing_run
from substrate.values.errors import RunEnded
from substrate.values.ids import part_of
from substrate.values.records import Adopted, Checkpoint, Fence, Promise, Signal, Written

_SEND = """
WITH woken AS (
    UPDATE runs
       SET last_seq = last_seq + 1,
           wake_version = wake_version + 1,
           rank = CASE status WHEN 'suspended' THEN %(now)s ELSE rank END,
           status = CASE status WHEN 'suspended' THEN 'ready' ELSE status END
     WHERE id = %(run_id)s AND part = %(part)s
       AND status IN ('ready', 'running', 'suspended', 'paused')
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
    cursor = await db.execute(_IS_KNOWN, row)
    if await cursor.fetchone():
        return False
    status = (await existing_run(db, signal.run_id)).status
    raise RunEnded(f"run {signal.run_id!r} is {status}; it takes no signal {signal.name!r}")


_OLDEST = """
SELECT dedup, value
  FROM signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND taken_by IS NULL
 ORDER BY n
 LIMIT 1
"""

_HOLD = f"""
SELECT id
  FROM runs
 WHERE id = %(run_id)s AND part = %(part)s
 {LOCK}
"""

_TAKE = """
UPDATE signals
   SET taken_by = %(taken_by)s
 WHERE run_id = %(run_id)s AND name = %(name)s AND dedup = %(dedup)s AND part = %(part)s
"""


async def take_signal(db: Cursor, fence: Fence, waiting: Promise, now: int) -> Promise | None:
    """Settle the promise with the oldest signal that nobody took; None when there is none."""
    where = {"run_id": waiting.run_id, "name": waiting.name, "part": fence.part}
    if await (await db.execute(_OLDEST, where)).fetchone() is None:
        return None
    async with db.connection.transaction():
        await db.execute(_HOLD, where)  # or two takers would read one signal as the oldest
        signal = await (await db.execute(_OLDEST, where)).fetchone()
        if signal is None:
            return None
        dedup, value = signal
        settled = rows.resolved(waiting, value, now, fence.epoch)
        (outcome,) = await write_batch(db, [outsource(Checkpoint(fence, settled))], wait=True)
        match outcome:
            case Written(seq):
                await db.execute(_TAKE, where | {"dedup": dedup, "taken_by": waiting.id})
                return replace(settled, seq=seq)
            case Adopted(first):
                return first
    return None
