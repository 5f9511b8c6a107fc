"""Signals in SQLite: numbered when sent, taken once, in order.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Mapping, Sequence

import apsw
import orjson

from substrate.store import refusals, rows, sql
from substrate.store.blobs import offload
from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.promises import read_promise
from substrate.store.sqlite.runs import existing_run
from substrate.values.ids import PromiseId, RunId, part_of
from substrate.values.records import (
    Checkpoint,
    Fence,
    Fenced,
    Promise,
    ReceivedSignal,
    Signal,
)

_IS_KNOWN = """
SELECT 1
  FROM signals
 WHERE run_id = :run_id AND name = :name AND dedup = :dedup AND part = :part
"""

# What a run takes: once it is to end, only what one of its undos waits for.
_TAKES = """
       (NOT cancel_requested AND (deadline_at IS NULL OR deadline_at > :now)
        AND NOT EXISTS (SELECT 1
                          FROM promises
                         WHERE id = :run_id || '#unwind' AND part = :part)
        OR EXISTS (SELECT 1
                     FROM promises
                    WHERE id > :run_id || '#unwind/' AND id < :run_id || '#unwind0'
                      AND part = :part AND kind = 'signal' AND state = 'pending'
                      AND name = :name))
"""

# The run, while it takes signals. Its change number becomes the signal's n. A run that has never
# been claimed (epoch 0) waits for its due_at, and no signal wakes it before.
_WAKE_FOR_SIGNAL = f"""
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = {sql.NEXT_WAKE},
       rank = CASE WHEN status = 'suspended' AND epoch > 0 THEN :now ELSE rank END,
       status = CASE WHEN status = 'suspended' AND epoch > 0 THEN 'ready' ELSE status END
 WHERE id = :run_id AND part = :part
   AND status IN ('ready', 'running', 'suspended', 'paused')
   AND {_TAKES}
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
    woken = db.execute(_WAKE_FOR_SIGNAL, row).fetchone()
    if woken is None:
        raise refusals.takes_no_signal(existing_run(db, signal.run_id), signal, now)
    tenant, n = woken
    db.execute(_INSERT_SIGNAL, row | {"tenant": tenant, "n": n})
    return True


_SELECT_UNTAKEN = """
SELECT name, dedup, n, value, sent_at, taken_by
  FROM signals
 WHERE run_id = :run_id AND name = :name AND part = :part AND taken_by IS NULL
   AND n > :after
 ORDER BY n
 LIMIT coalesce(:limit, -1)
"""

_SELECT_RECEIVED = """
SELECT name, dedup, n, value, sent_at, taken_by
  FROM signals
 WHERE run_id = :run_id AND part = :part AND (:name IS NULL OR name = :name)
   AND NOT (:untaken AND taken_by IS NOT NULL)
   AND n > :after
 ORDER BY n
 LIMIT coalesce(:limit, -1)
"""


def read_inbox(
    db: apsw.Connection, run_id: RunId, name: str | None, only: Mapping[str, int | None]
) -> Sequence[ReceivedSignal]:
    """Return the signals that a run was sent, oldest first; see `Store.inbox`.

    The untaken of one name, which a run asks for at each step, have an index of their own.
    """
    statement = _SELECT_UNTAKEN if name is not None and only["untaken"] else _SELECT_RECEIVED
    where = {"run_id": run_id, "part": part_of(run_id), "name": name, **only}
    found = db.execute(statement, where)
    return [ReceivedSignal(*row) for row in found]


_CHECK_FENCE = """
SELECT 1
  FROM runs
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
"""

# Those that this very promise took before count too: asked again, it finds the same answer.
_COUNT_UNTAKEN = """
SELECT count(*)
  FROM signals
 WHERE run_id = :run_id AND name = :name AND part = :part
   AND dedup IN (SELECT value FROM json_each(:dedups))
   AND (taken_by IS NULL OR taken_by = :taken_by)
"""

_MARK_TAKEN = """
UPDATE signals
   SET taken_by = :taken_by
 WHERE run_id = :run_id AND name = :name AND part = :part
   AND dedup IN (SELECT value FROM json_each(:dedups))
"""


def take_signals(
    db: apsw.Connection, fence: Fence, promise: Promise, dedups: Sequence[str]
) -> Promise | Fenced:
    """Write a promise and mark its signals as taken; see `Store.take_signals`."""
    held = (fence.run_id, fence.part, fence.epoch, fence.owner)
    if db.execute(_CHECK_FENCE, held).fetchone() is None:
        return Fenced()
    first = read_promise(db, promise.id)
    if first is not None and (first.is_settled or first.run_id != promise.run_id):
        return first
    marks = {
        "run_id": promise.run_id,
        "name": promise.name,
        "dedups": orjson.dumps(list(dedups)).decode(),
        "part": fence.part,
        "taken_by": promise.id,
    }
    if db.execute(_COUNT_UNTAKEN, marks).fetchone() != (len(set(dedups)),):
        return first or rows.unsettled(promise)
    db.execute(_MARK_TAKEN, marks)
    checkpoint = Checkpoint(fence, promise)
    return rows.as_it_stands(checkpoint, write_checkpoint(db, offload(checkpoint)))


_RETURN_SIGNALS = """
UPDATE signals
   SET taken_by = NULL
 WHERE run_id = :run_id AND part = :part AND taken_by = :taken_by
"""


def return_signals(db: apsw.Connection, fence: Fence, promise: PromiseId) -> bool:
    """Put what a promise has taken back into the inbox; see `Store.return_signals`."""
    held = (fence.run_id, fence.part, fence.epoch, fence.owner)
    if db.execute(_CHECK_FENCE, held).fetchone() is None:
        return False
    taken = {"run_id": fence.run_id, "part": fence.part, "taken_by": promise}
    db.execute(_RETURN_SIGNALS, taken)
    return True
