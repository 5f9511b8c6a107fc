"""Takes back the runs of dead workers, in Postgres. `dead_workers` decides which are dead.

It waits for no lock: a run that somebody holds is taken back next time, since its owner stays
struck off. Whether that owner's process has ended is forgotten by then: it counts as unknown.
"""

from collections.abc import Sequence
from dataclasses import replace

import psycopg

from substrate.store import sql
from substrate.store.broken import Stuck
from substrate.store.crashes import AfterCrash, Loss, LostRun, after_crash
from substrate.store.postgres.dead_workers import WorkerSeen
from substrate.store.postgres.explain import REFUSALS
from substrate.store.postgres.fenced_commit import LOCK_SKIP_LOCKED
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.spent import pause_spent
from substrate.store.postgres.wake_parent import wake_parent
from substrate.values.ids import RunId
from substrate.values.records import Owner

# A compare-and-set on the lease: a beat since the look has moved it, and then nobody is struck off.
_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = %(owner)s AND lease_until = %(lease_until)s
RETURNING incarnation
"""

_IS_REGISTERED = """
SELECT 1
  FROM workers
 WHERE incarnation = %(owner)s
"""

_SELECT_LOST = """
SELECT id, part, parent_id, crashes, losses_seen, on_dead, deadline_at
  FROM runs
 WHERE lease_owner = %(owner)s AND status = 'running'
"""

# What it still has, and the parents that are to learn of it. Locked rows are skipped: a worker that
# was declared dead may hold one in the middle of a commit, and is fenced off when that has ended.
_LOCK_LOST = f"""
SELECT id, part, parent_id, crashes, losses_seen, on_dead, deadline_at,
       coalesce(lease_owner = %(owner)s AND status = 'running', false)
  FROM runs
 WHERE id = ANY (%(ids)s) AND part = ANY (%(parts)s)
 {LOCK_SKIP_LOCKED}
"""

# The bound keeps the counter below what its column allows, and so a takeover from being refused.
_COUNT_LOSS = """
INSERT INTO fleet AS known (tenant, losses)
VALUES ('', %(counted)s)
    ON CONFLICT (tenant) DO UPDATE
   SET losses = least(known.losses, 9007199254740000) + excluded.losses
RETURNING losses
"""

_TAKE_BACK = """
UPDATE runs
   SET crashes = %(crashes)s, losses_seen = %(losses_seen)s, status = %(status)s,
       due_at = coalesce(%(due_at)s, due_at),
       need = 0,
       ended_at = CASE WHEN %(status)s = 'dead' THEN %(now)s::bigint END,
       exited_epoch = CASE WHEN %(is_gone)s THEN epoch ELSE exited_epoch END,
       last_seq = last_seq + 1,
       lease_owner = NULL,
       rank = %(now)s
 WHERE id = %(id)s AND part = %(part)s
RETURNING last_seq
"""

_SET_OUTCOME = """
UPDATE promises
   SET state = %(state)s, error = %(error)s::json, settled_at = %(settled_at)s, seq = %(seq)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def recover_runs(
    db: Cursor, dead: Sequence[WorkerSeen], now: int, stuck: Stuck | None = None
) -> Sequence[RunId]:
    """Take back the runs of these owners, save of one that has shown a sign of life since.

    Given `stuck`, a run that is refused is noted there and left as it is.
    """
    recovered: list[RunId] = []
    for one in dead:
        async with db.connection.transaction():
            who = {"owner": one.owner, "lease_until": one.lease_until}
            struck_off = await (await db.execute(_STRIKE_OFF, who)).fetchone()
            known = None if struck_off else await (await db.execute(_IS_REGISTERED, who)).fetchone()
            if known is None:
                is_whole = struck_off is not None
                recovered += await _take_back(db, one, now, stuck, is_whole=is_whole)
    return recovered


async def _take_back(
    db: Cursor, dead: WorkerSeen, now: int, stuck: Stuck | None, *, is_whole: bool
) -> Sequence[RunId]:
    cursor = await db.execute(_SELECT_LOST, {"owner": dead.owner})
    lost = LostRun.all_of(await cursor.fetchall(), stuck)
    taken = await _locked(db, dead.owner, lost) if lost else []
    if is_whole and len(lost) == 1 and not taken:
        # Its only run is locked. Struck off now, it would be unknown next time that it had no
        # other.
        raise psycopg.Rollback
    loss = Loss.of(lost, is_whole=is_whole)
    cursor = await db.execute(_COUNT_LOSS, {"counted": int(is_whole)})
    (losses,) = await cursor.fetchone() or (0,)
    # All runs first, then their promises: a parent that is taken back here, too, is woken after
    # that.
    found = [(run, after_crash(run, replace(loss, losses=losses), now)) for run in taken]
    if stuck is not None:
        return [each[0].id for each in found if await _alone(db, each, dead, now, stuck)]
    seqs = [await _put_back(db, run, after, dead, now) for run, after in found]
    for (run, after), seq in zip(found, seqs, strict=True):
        if after.error is not None:
            await _tell(db, run, after, seq, now)
    return [run.id for run in taken]


async def _alone(
    db: Cursor, found: tuple[LostRun, AfterCrash], dead: WorkerSeen, now: int, stuck: Stuck
) -> bool:
    """Do all of it for one run; where its row or its parent's is refused, nothing of it."""
    run, after = found
    try:
        async with db.connection.transaction():
            seq = await _put_back(db, run, after, dead, now)
            if after.error is not None:
                await _tell(db, run, after, seq, now)
    except REFUSALS as error:
        if await pause_spent(db, run.id) is None:
            stuck.note(run.id, error)
            return False
    return True


async def _locked(db: Cursor, owner: Owner, lost: Sequence[LostRun]) -> Sequence[LostRun]:
    """Lock what can be locked at once of these runs, as they are now.

    A run that may be dead is taken only together with its parent, who is told of it.
    """
    parents = {run.parent_id for run in lost if run.is_suspect and run.parent_id}
    ids = [*parents, *(run.id for run in lost)]
    cursor = await db.execute(_LOCK_LOST, {"owner": owner, "ids": ids, "parts": sql.parts_of(ids)})
    found = await cursor.fetchall()
    locked = {row[0] for row in found}
    ours = [LostRun.of(*row[:-1]) for row in found if row[-1]]
    return [
        run
        for run in ours
        if not run.is_suspect or run.parent_id is None or run.parent_id in locked
    ]


async def _put_back(db: Cursor, run: LostRun, after: AfterCrash, dead: WorkerSeen, now: int) -> int:
    row = {
        "id": run.id,
        "part": run.part,
        "crashes": after.crashes,
        "losses_seen": after.losses_seen,
        "status": after.status.value,
        "due_at": after.due_at,
        "is_gone": dead.is_gone,
        "now": now,
    }
    found = await (await db.execute(_TAKE_BACK, row)).fetchone()
    return found[0] if found else 0


async def _tell(db: Cursor, run: LostRun, after: AfterCrash, seq: int, now: int) -> None:
    """Write why a run does not go on into its promise: the outcome, unless it only waits."""
    if run.parent_id is not None:
        seq = await wake_parent(db, run.parent_id, now, ends=after.is_final) or seq
    outcome = {
        "id": run.id,
        "part": run.part,
        "state": "rejected" if after.is_final else "pending",
        "error": after.error,
        "settled_at": now if after.is_final else None,
        "seq": seq,
    }
    await db.execute(_SET_OUTCOME, outcome)
