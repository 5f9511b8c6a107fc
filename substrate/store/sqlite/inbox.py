"""Signals in SQLite: numbered when sent, taken once, in order.

Each function runs inside one transaction that its caller opened.
"""

from dataclasses import replace

import apsw

from substrate.store import rows
from substrate.store.blobs import outsource
from substrate.store.sqlite.journal import write_checkpoint
from substrate.store.sqlite.runs import existing_run
from substrate.values.errors import RunEnded
from substrate.values.ids import part_of
from substrate.values.records import Adopted, Checkpoint, Fence, Promise, Signal, Written

_IS_KNOWN = """
SELECT 1
  FROM signals
 WHERE run_id = :run_id AND name = :name AND dedup = :dedup AND part = :part
"""

_WAKE = """
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = wake_version + 1,
       rank = CASE status WHEN 'suspended' THEN :now ELSE rank END,
       status = CASE status WHEN 'suspended' THEN 'ready' ELSE status END
 WHERE id = :run_id AND part = :part
   AND status IN ('ready', 'running', 'suspended', 'paused')
RETURNING tenant, last_seq AS n
"""

_INSERT_SIGNAL = """
INSERT INTO signals (run_id, name, dedup, part, tenant, n, value, sent_at)
VALUES (:run_id, :name, :dedup, :part, :tenant, :n, :value, :now)
"""


def send_signal(db: apsw.Connection, signal: Signal, now: int) -> bool:
    """Put a signal into the inbox and wake the run; False when it was there already."""
    row = {
        "run_id": signal.run_id,
        "name": signal.name,
        "dedup": signal.dedup,
        "value": signal.value,
        "part": part_of(signal.run_id),
        "now": now,
    }
    if db.execute(_IS_KNOWN, row).fetchone():
        return False
    woken = db.execute(_WAKE, row).fetchone()
    if woken is None:
        status = existing_run(db, signal.run_id).status
        raise RunEnded(f"run {signal.run_id!r} is {status}; it takes no signal {signal.name!r}")
    tenant, n = woken
    db.execute(_INSERT_SIGNAL, row | {"tenant": tenant, "n": n})
    return True


_OLDEST = """
SELECT dedup, value
  FROM signals
 WHERE run_id = :run_id AND name = :name AND taken_by IS NULL
 ORDER BY n
 LIMIT 1
"""


def has_signal(db: apsw.Connection, waiting: Promise) -> bool:
    """Whether a take would find something."""
    where = {"run_id": waiting.run_id, "name": waiting.name}
    return db.execute(_OLDEST, where).fetchone() is not None


_TAKE = """
UPDATE signals
   SET taken_by = :taken_by
 WHERE run_id = :run_id AND name = :name AND dedup = :dedup AND part = :part
"""


def take_signal(db: apsw.Connection, fence: Fence, waiting: Promise, now: int) -> Promise | None:
    """Settle the promise with the oldest signal that nobody took; None when there is none."""
    where = {"run_id": waiting.run_id, "name": waiting.name, "part": fence.part}
    signal = db.execute(_OLDEST, where).fetchone()
    if signal is None:
        return None
    dedup, value = signal
    settled = rows.resolved(waiting, value, now, fence.epoch)
    match write_checkpoint(db, outsource(Checkpoint(fence, settled))):
        case Written(seq):
            db.execute(_TAKE, where | {"dedup": dedup, "taken_by": waiting.id})
            return replace(settled, seq=seq)
        case Adopted(first):
            return first
    return None
