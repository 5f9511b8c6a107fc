"""The life of a run in SQLite: started, claimed, given back, reopened.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter

import apsw

from substrate.store import refusals, rows, sql
from substrate.store.blobs import digest_in, load, offload_input
from substrate.store.sqlite.blobs import insert_blobs, read_blobs
from substrate.store.sqlite.promises import insert_settled, read_promise
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId, part_of, promise_id
from substrate.values.records import (
    UNWIND_KEY,
    Fence,
    JsonText,
    NewRun,
    OwnedRun,
    Owner,
    Promise,
    Run,
    generation_key,
)

_INSERT_RUN = """
INSERT INTO runs (id, part, tenant, root_id, function, version, queue, lane, rank, status, epoch,
                  lease_owner, wake_version, need, due_at, deadline_at, crashes, cancel_requested,
                  last_seq, seed, generation, generation_seq, exited_epoch, created_at,
                  generation_at)
VALUES (:id, :part, :tenant, :root_id, :function, :version, :queue, :lane, :rank, :status, :epoch,
        :lease_owner, 0, 0, :due_at, :deadline_at, 0, 0, 1, :seed, 0, 0, 0, :created_at,
        :created_at)
    ON CONFLICT (id, part) DO NOTHING
RETURNING id
"""

_INSERT_OUTCOME = """
INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, fingerprint, input,
                      epoch, created_at)
VALUES (:id, :part, :tenant, :id, :key, 1, 'run', :function, 'pending', :fingerprint, :input,
        0, :created_at)
"""


def insert_run(db: apsw.Connection, new: NewRun, now: int, owner: Owner | None) -> Run | None:
    """Create the run and the promise of its outcome; None when the id is known."""
    run = rows.first_run(new, now, owner)
    light, blobs = offload_input(new)
    row = rows.first_rows(light, run)
    if db.execute(_INSERT_RUN, row).fetchone() is None:
        return None
    db.execute(_INSERT_OUTCOME, row)
    insert_blobs(db, blobs)
    return run


_SELECT_RUN = f"""
SELECT {rows.RUN_COLUMNS}
  FROM runs
 WHERE id = ? AND part = ?
"""


def read_run(db: apsw.Connection, run_id: RunId) -> Run | None:
    """Return the run, or None."""
    row = db.execute(_SELECT_RUN, (run_id, part_of(run_id))).fetchone()
    return rows.run(row) if row else None


def existing_run(db: apsw.Connection, run_id: RunId) -> Run:
    """Return the run, or raise `RunNotFound`."""
    run = read_run(db, run_id)
    if run is None:
        raise RunNotFound(f"there is no run {run_id!r}; `runs` lists those there are")
    return run


_READY = """
SELECT id
  FROM runs
 WHERE lane = :lane AND status = 'ready' AND id NOT IN (SELECT value FROM json_each(:ids))
 ORDER BY rank
 LIMIT :limit
"""


def ready_runs(db: apsw.Connection, lane: str, limit: int, without: Sequence[RunId]) -> list[RunId]:
    """Return the next runs of a lane that a claim would take."""
    asked = {"lane": lane, "limit": limit, "ids": sql.id_list(without)}
    return [row[0] for row in db.execute(_READY, asked)]


# The new epoch fences off whoever had the run before. RETURNING gives rows in no order: hence
# `rank`.
_CLAIM = f"""
UPDATE runs
   SET status = 'running', epoch = epoch + 1, lease_owner = :owner
 WHERE rowid IN (SELECT rowid
                   FROM runs
                  WHERE {{which}}
                  ORDER BY rank
                  LIMIT :limit)
RETURNING rank, {rows.RUN_COLUMNS}
"""

_CLAIM_NEXT = _CLAIM.format(
    which="lane = :lane AND status = 'ready' AND id NOT IN (SELECT value FROM json_each(:ids))"
)
# By their ids: the plus keeps SQLite from going through all that is ready in the lane instead.
_CLAIM_THESE = _CLAIM.format(which=f"+lane = :lane AND +status = 'ready' AND {sql.AMONG_THESE}")

_SELECT_INPUT = """
SELECT input
  FROM promises
 WHERE id = ? AND part = ?
"""


def claim_runs(
    db: apsw.Connection, lane: str, limit: int, owner: Owner, without: Sequence[RunId]
) -> Sequence[rows.Claimed]:
    """Take ready runs of a lane, with what they were begun with."""
    asked = {"lane": lane, "limit": limit, "owner": owner, "ids": sql.id_list(without)}
    return _claimed(db, db.execute(_CLAIM_NEXT, asked))


def claim_these(
    db: apsw.Connection, lane: str, ids: Sequence[RunId], owner: Owner
) -> Sequence[rows.Claimed]:
    """Take those of these runs of a lane that are ready, as `claim_runs` does."""
    asked = {"lane": lane, "limit": len(ids), "owner": owner, **sql.these(ids)}
    return _claimed(db, db.execute(_CLAIM_THESE, asked))


def _claimed(db: apsw.Connection, taken: Iterable[rows.Row]) -> Sequence[rows.Claimed]:
    found = [rows.run(row[1:]) for row in sorted(taken, key=itemgetter(0))]
    return [(run, _input_of(db, run)) for run in found]


def _input_of(db: apsw.Connection, run: Run) -> JsonText | None:
    began = promise_id(run.id, generation_key(run.generation)) if run.generation else run.id
    row = db.execute(_SELECT_INPUT, (began, part_of(run.id))).fetchone()
    if row is None or row[0] is None:
        return None
    input_ = JsonText(row[0])
    digest = digest_in(input_)
    return load(input_, read_blobs(db, run.id, [digest]) if digest else {})


_SELECT_OWNED_RUNS = """
SELECT id, epoch, wake_version, cancel_requested
  FROM runs
 WHERE lease_owner = ? AND status = 'running'
"""


def read_owned_runs(db: apsw.Connection, owner: Owner) -> Sequence[OwnedRun]:
    """Return how each running run of the worker stands."""
    return [
        OwnedRun(id_, epoch, wake_version, bool(is_cancelled))
        for id_, epoch, wake_version, is_cancelled in db.execute(_SELECT_OWNED_RUNS, (owner,))
    ]


_RELEASE = """
UPDATE runs
   SET status = 'ready', lease_owner = NULL, rank = :now, crashes = crashes + :crash
 WHERE id = :id AND part = :part AND epoch = :epoch AND lease_owner = :owner
   AND status = 'running'
RETURNING id
"""


def release_runs(
    db: apsw.Connection, fences: Sequence[Fence], now: int, *, is_crash: bool = False
) -> Sequence[RunId]:
    """Give back the runs that still are ours; return which."""
    released = []
    for fence in fences:
        ours = {
            "id": fence.run_id,
            "part": fence.part,
            "epoch": fence.epoch,
            "owner": fence.owner,
            "now": now,
            "crash": int(is_crash),
        }
        if db.execute(_RELEASE, ours).fetchone() is not None:
            released.append(fence.run_id)
    return released


# Of a child whose parent was told that it is dead, only the undos go on: those that it had begun.
_REOPEN_RUN = """
UPDATE runs
   SET status = 'ready', crashes = 0, ended_at = NULL, expires_at = NULL, rank = :now,
       last_seq = last_seq + :numbers
 WHERE id = :id AND part = :part
   AND (status = 'paused' OR (status IN ('failed', 'dead') AND parent_id IS NULL)
        OR (status = 'dead' AND EXISTS (SELECT 1
                                          FROM promises
                                         WHERE id = :unwind AND part = :part)))
RETURNING last_seq
"""

_REOPEN_OUTCOME = """
UPDATE promises
   SET state = 'pending', value = NULL, error = NULL, settled_at = NULL, seq = :seq
 WHERE id = :id AND part = :part AND run_id = id
"""


def reopen_run(db: apsw.Connection, run_id: RunId, accepted: Promise | None, now: int) -> Run:
    """Make a paused, failed or dead run ready again; see `Store.resume`."""
    where = {"id": run_id, "part": part_of(run_id)}
    numbers = 1 if accepted is None else 2  # the run's own row changes, and one may join it
    asked = {"now": now, "numbers": numbers, "unwind": promise_id(run_id, UNWIND_KEY)}
    reopened = db.execute(_REOPEN_RUN, where | asked).fetchone()
    if reopened is None:
        run = existing_run(db, run_id)
        raise RunEnded(refusals.why_not_reopened(run))
    rows.check_remembered(read_promise(db, run_id))
    last_seq = reopened[0]
    db.execute(_REOPEN_OUTCOME, where | {"seq": last_seq - numbers + 1})
    if accepted is not None:
        insert_settled(db, accepted, last_seq)
    return existing_run(db, run_id)
