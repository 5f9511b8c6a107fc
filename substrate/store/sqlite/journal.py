"""Promises in SQLite: written under the fence, settled once, read back whole.

The fence is the run's row inside a write transaction: SQLite has one writer at a time, so what
``UPDATE runs … WHERE epoch = … AND lease_owner = …`` finds is still true at COMMIT.
Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Iterable, Sequence

import apsw

from substrate.store import rows
from substrate.store.blobs import digests_in, inflate
from substrate.store.sqlite.blobs import insert_blobs, read_blobs
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId, part_of
from substrate.values.records import Adopted, Checkpoint, Fenced, Outcome, Promise, Written

_ADVANCE = """
UPDATE runs
   SET last_seq = last_seq + ?, crashes = CASE WHEN ? THEN 0 ELSE crashes END
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
RETURNING last_seq, tenant
"""

_ADVANCE_AND_LEAVE = """
UPDATE runs
   SET last_seq = last_seq + ?, crashes = CASE WHEN ? THEN 0 ELSE crashes END,
       status = ?, lease_owner = NULL, ended_at = ?, expires_at = ?
 WHERE id = ? AND part = ? AND epoch = ? AND lease_owner = ?
RETURNING last_seq, tenant
"""

_WRITE_PROMISE = """
INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, effect, fingerprint,
                      input, value, error, usage, attempts, epoch, created_at, settled_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id, part) DO UPDATE
   SET seq = excluded.seq, state = excluded.state, value = excluded.value, error = excluded.error,
       usage = excluded.usage, attempts = excluded.attempts, epoch = excluded.epoch,
       settled_at = excluded.settled_at
 WHERE promises.state = 'pending'
RETURNING seq
"""


def write_checkpoint(db: apsw.Connection, checkpoint: Checkpoint) -> Outcome:
    """Write one checkpoint, if the fence holds and nobody settled the promise before."""
    promise, part = checkpoint.promise, checkpoint.fence.part
    held = _advance(db, checkpoint)
    if held is None:
        return Fenced()
    seq, tenant = held
    written = db.execute(
        _WRITE_PROMISE,
        (
            promise.id,
            part,
            tenant,
            promise.run_id,
            promise.key,
            seq,
            promise.kind,
            promise.name,
            promise.state,
            promise.effect,
            promise.fingerprint,
            promise.input,
            promise.value,
            promise.error,
            promise.usage,
            promise.attempts,
            checkpoint.fence.epoch,
            promise.created_at,
            promise.settled_at,
        ),
    ).fetchone()
    if written is None:
        return Adopted(_first(db, promise))
    insert_blobs(db, checkpoint.blobs)
    return Written(seq)


def _advance(db: apsw.Connection, checkpoint: Checkpoint) -> tuple[int, str] | None:
    """Take the next change number of the promise's journal, or None when fenced off."""
    fence, promise, status = checkpoint.fence, checkpoint.promise, checkpoint.status
    owned = (fence.run_id, fence.part, fence.epoch, fence.owner)
    change = (promise.run_id == fence.run_id, promise.is_settled)
    now = promise.settled_at or promise.created_at
    if status is None:
        held = db.execute(_ADVANCE, (*change, *owned)).fetchone()
    else:
        left = (status, now if status.has_ended else None, rows.expiry(status, now))
        held = db.execute(_ADVANCE_AND_LEAVE, (*change, *left, *owned)).fetchone()
    if held is not None and promise.run_id != fence.run_id:
        return wake_run(db, promise.run_id, fence.part, now)
    return held


_WAKE = """
UPDATE runs
   SET last_seq = last_seq + 1,
       wake_version = wake_version + 1,
       need = max(need - 1, 0),
       status = CASE WHEN status = 'suspended' AND need <= 1 THEN 'ready' ELSE status END,
       rank = CASE WHEN status = 'suspended' AND need <= 1 THEN ? ELSE rank END
 WHERE id = ? AND part = ?
RETURNING last_seq, tenant
"""


def wake_run(db: apsw.Connection, run_id: str, part: int, now: int) -> tuple[int, str] | None:
    """Tell a run that a promise of its journal is being settled; return its next change number."""
    return db.execute(_WAKE, (now, run_id, part)).fetchone()


def _first(db: apsw.Connection, promise: Promise) -> Promise:
    settled = read_promise(db, promise.id)
    if settled is None:
        raise CheckpointRefused(f"{promise.id!r} conflicts with a row that is gone; write it again")
    return settled


_SELECT_PROMISE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id = ? AND part = ?
"""


def read_promise(db: apsw.Connection, any_id: str) -> Promise | None:
    """Return one promise, or None."""
    found = _whole(db, db.execute(_SELECT_PROMISE, (any_id, part_of(any_id))))
    return found[0] if found else None


_SELECT_JOURNAL = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = ? AND seq > ?
 ORDER BY seq
"""


def read_journal(db: apsw.Connection, run_id: RunId, after: int) -> Sequence[Promise]:
    """Return the promises of a run above a seq, in order."""
    return _whole(db, db.execute(_SELECT_JOURNAL, (run_id, after)))


def _whole(db: apsw.Connection, found: Iterable[rows.Row]) -> list[Promise]:
    """Return rows as promises, with what stands in blobs put back."""
    promises = []
    for row in found:
        promise = rows.promise(row)
        if digests := digests_in(row[rows.PAYLOADS]):
            promise = inflate(promise, read_blobs(db, promise.id, digests))
        promises.append(promise)
    return promises
