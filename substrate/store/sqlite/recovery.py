"""Takes back the runs of dead workers, in SQLite. `dead_workers` decides which are dead.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence
from dataclasses import replace

import apsw

from substrate.store import rows
from substrate.store.broken import Stuck
from substrate.store.crashes import AfterCrash, Loss, LostRun, after_crash
from substrate.store.sqlite.dead_workers import WorkerSeen
from substrate.store.sqlite.file import REFUSALS
from substrate.store.sqlite.spent import pause_spent
from substrate.store.sqlite.wake_parent import wake_parent
from substrate.values.ids import RunId

# A compare-and-set on the lease: a beat since the look has moved it, and then nobody is struck off.
_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = ? AND lease_until = ?
RETURNING incarnation
"""

_IS_REGISTERED = """
SELECT 1
  FROM workers
 WHERE incarnation = ?
"""

_SELECT_LOST = """
SELECT id, part, parent_id, crashes, losses_seen, on_dead, deadline_at
  FROM runs
 WHERE lease_owner = ? AND status = 'running'
"""

# The bound keeps the counter below what its column allows, and so a takeover from being refused.
_COUNT_LOSS = """
INSERT INTO fleet (tenant, losses)
VALUES ('', :counted)
    ON CONFLICT (tenant) DO UPDATE
   SET losses = min(losses, 9007199254740000) + excluded.losses
RETURNING losses
"""

_TAKE_BACK = """
UPDATE runs
   SET crashes = :crashes, losses_seen = :losses_seen, status = :status,
       due_at = coalesce(:due_at, due_at),
       need = 0,
       ended_at = CASE WHEN :status = 'dead' THEN :now END,
       exited_epoch = CASE WHEN :is_gone THEN epoch ELSE exited_epoch END,
       last_seq = last_seq + 1,
       lease_owner = NULL,
       rank = :now
 WHERE id = :id AND part = :part
RETURNING last_seq
"""

_SET_OUTCOME = """
UPDATE promises
   SET state = :state, error = :error, settled_at = :settled_at, seq = :seq
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def recover_runs(
    db: apsw.Connection, dead: Sequence[WorkerSeen], now: int, stuck: Stuck | None = None
) -> Sequence[RunId]:
    """Take back the runs of these owners, save of one that has shown a sign of life since.

    Given `stuck`, a run that is refused is noted there and left as it is.
    """
    recovered: list[RunId] = []
    for one in dead:
        struck_off = db.execute(_STRIKE_OFF, (one.owner, one.lease_until)).fetchone()
        if struck_off or db.execute(_IS_REGISTERED, (one.owner,)).fetchone() is None:
            recovered += _take_back(db, one, now, stuck, is_whole=struck_off is not None)
    return recovered


def _take_back(
    db: apsw.Connection, dead: WorkerSeen, now: int, stuck: Stuck | None, *, is_whole: bool
) -> Sequence[RunId]:
    lost = LostRun.all_of(db.execute(_SELECT_LOST, (dead.owner,)).fetchall(), stuck)
    loss = Loss.of(lost, is_whole=is_whole)
    (losses,) = db.execute(_COUNT_LOSS, {"counted": is_whole}).fetchone() or (0,)
    # All runs first, then their promises: a parent that is taken back here, too, is woken after
    # that.
    found = [(run, after_crash(run, replace(loss, losses=losses), now)) for run in lost]
    if stuck is not None:
        return [each[0].id for each in found if _alone(db, each, dead, now, stuck)]
    seqs = [_put_back(db, run, after, dead, now) for run, after in found]
    for (run, after), seq in zip(found, seqs, strict=True):
        if after.error is not None:
            _tell(db, run, after, seq, now)
    return [run.id for run in lost]


def _alone(
    db: apsw.Connection, found: tuple[LostRun, AfterCrash], dead: WorkerSeen, now: int, stuck: Stuck
) -> bool:
    """Do all of it for one run; where its row or its parent's is refused, nothing of it."""
    run, after = found
    try:
        with db:
            seq = _put_back(db, run, after, dead, now)
            if after.error is not None:
                _tell(db, run, after, seq, now)
    except REFUSALS as error:
        if pause_spent(db, run.id) is None:
            stuck.note(run.id, error)
            return False
    return True


def _put_back(
    db: apsw.Connection, run: LostRun, after: AfterCrash, dead: WorkerSeen, now: int
) -> int:
    row = {
        "id": run.id,
        "part": run.part,
        "crashes": after.crashes,
        "losses_seen": after.losses_seen,
        "status": after.status,
        "due_at": after.due_at,
        "is_gone": dead.is_gone,
        "now": now,
    }
    found: rows.Row | None = db.execute(_TAKE_BACK, row).fetchone()
    return found[0] if found else 0


def _tell(db: apsw.Connection, run: LostRun, after: AfterCrash, seq: int, now: int) -> None:
    """Write why a run does not go on into its promise: the outcome, unless it only waits."""
    if run.parent_id is not None:
        woken = wake_parent(db, run.parent_id, run.part, now, ends=after.is_final)
        seq = woken[0] if woken else seq
    outcome = {
        "id": run.id,
        "part": run.part,
        "state": "rejected" if after.is_final else "pending",
        "error": after.error,
        "settled_at": now if after.is_final else None,
        "seq": seq,
    }
    db.execute(_SET_OUTCOME, outcome)
