"""Runs of dead workers in Postgres, taken back.

A worker is dead when it was struck off, or when its lease has lapsed: by the database's clock where
nobody knows better. Who has seen it beat measures the time since on a clock that nobody sets, for a
database's host may set its own by hours.

It is dead before that only where nothing else explains what is seen: its heartbeat's backend is
gone, in two looks `PATIENCE` apart, with no beat between them and no restart of the server since.
Behind a pooler a backend outlives its client, so there the heartbeat registers none and the lease
decides. Nor is a cut connection a death: a process that looks and misses a worker of its own leaves
that one to its lease.

Dead in this sense only means that its runs are taken back, which the fence makes safe: a process
that was cut off may live, in the middle of a call. Known to have *ended* is only one whose lock on
a file of this host is free.

No look waits for a lock: a run that somebody holds is taken back next time, since its owner stays
struck off. Whether that owner's process has ended is forgotten by then: it counts as unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg

from substrate.store import life_lock, rows
from substrate.store.broken import Stuck
from substrate.store.crashes import Loss, LostRun, Verdict, judge
from substrate.store.postgres.checkpoints import LOCK_SKIP_LOCKED, wake_run
from substrate.store.postgres.connections import NOW, REFUSALS
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId
from substrate.values.records import Owner

PATIENCE = 0.4
"""Seconds for which a worker's backend must have been missing."""

SERVER_START = "(extract(epoch FROM pg_postmaster_start_time()) * 1000::numeric)::bigint"
"""When the server was started, in milliseconds, as SQL."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """What one look shows of an owner of runs."""

    owner: Owner
    lease_until: int
    lease_ms: int
    has_lapsed: bool
    """Whether it is over by the database's clock."""
    is_missing: bool
    is_gone: bool = False
    """Whether its process is known to have ended, not merely its lease."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A worker's last sign of life: when it was first seen, and whether one before it was."""

    lease_until: int
    since: float
    was_awaited: bool


class Suspicions:
    """Remembers the last sign of life of each worker, and which are missing, and since when."""

    def __init__(self) -> None:
        self._missing: dict[tuple[Owner, int], float] = {}
        self._signs: dict[Owner, _Sign] = {}

    def dead_among(self, seen: Sequence[WorkerSeen], now: float) -> Sequence[WorkerSeen]:
        """Return those that are dead; `now` is in seconds of a clock that only goes forward.

        A beat moves the lease's end, and so ends a suspicion.
        """
        missing = [(one.owner, one.lease_until) for one in seen if one.is_missing]
        self._missing = {who: self._missing.get(who, now) for who in missing}
        given_up = {who for who, since in self._missing.items() if now - since >= PATIENCE}
        self._signs = {one.owner: self._sign_of(one, now) for one in seen}
        return [
            one
            for one in seen
            if (one.owner, one.lease_until) in given_up or self._has_lapsed(one, now)
        ]

    def _sign_of(self, one: WorkerSeen, now: float) -> _Sign:
        known = self._signs.get(one.owner)
        if known is None or known.lease_until != one.lease_until:
            return _Sign(one.lease_until, now, known is not None)
        return known

    def _has_lapsed(self, one: WorkerSeen, now: float) -> bool:
        sign = self._signs[one.owner]
        is_over = now - sign.since >= one.lease_ms / 1000
        return is_over or (one.has_lapsed and not sign.was_awaited)


_SELECT_OWNERS = """
SELECT DISTINCT lease_owner
  FROM runs
 WHERE lease_owner IS NOT NULL AND id <> ALL (%(ids)s::text[])
"""

_SELECT_WORKERS = f"""
SELECT incarnation, lease_until, beat_at, lease_until < {NOW},
       backend_pid IS NOT NULL AND server_start = {SERVER_START}
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = backend_pid)
  FROM workers
"""


async def look(db: Cursor, without: Sequence[RunId] = ()) -> Sequence[WorkerSeen]:
    """Return how the workers stand, and the owners of runs that are no workers any more.

    Owners come first: a worker is registered before it owns a run. So an owner that is seen here,
    and is not among the workers a moment later, has been struck off or has left.
    """
    cursor = await db.execute(_SELECT_OWNERS, {"ids": list(without)})
    owners = {owner for (owner,) in await cursor.fetchall()}
    cursor = await db.execute(_SELECT_WORKERS)
    seen = [
        WorkerSeen(owner, until, until - beat_at, has_lapsed, is_missing)
        for owner, until, beat_at, has_lapsed, is_missing in await cursor.fetchall()
    ]
    strangers = sorted(owners - {one.owner for one in seen})
    return [*seen, *(WorkerSeen(owner, 0, 0, True, False) for owner in strangers)]


_LEAVE_TO_LEASE = """
UPDATE workers
   SET backend_pid = NULL
 WHERE incarnation = ANY (%s)
"""


async def leave_to_lease(db: Cursor, owners: Sequence[Owner]) -> None:
    """Let the lease decide over these workers until their next beat, which names a new backend."""
    await db.execute(_LEAVE_TO_LEASE, (owners,))


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


def with_evidence(dead: Sequence[WorkerSeen]) -> Sequence[WorkerSeen]:
    """Return them with what is known of their processes: on this host, whether they have ended."""
    found = []
    for one in dead:
        file = life_lock.host_file(one.owner)
        found.append(replace(one, is_gone=file is not None and life_lock.is_free(file)))
    return found


def remove_locks(dead: Sequence[WorkerSeen]) -> None:
    """Remove the locks of processes that have ended, once their runs have been taken back."""
    for one in dead:
        if one.is_gone and (file := life_lock.host_file(one.owner)):
            life_lock.remove(file)


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
    judged = [(run, judge(run, replace(loss, losses=losses), now)) for run in taken]
    if stuck is not None:
        return [each[0].id for each in judged if await _alone(db, each, dead, now, stuck)]
    seqs = [await _put_back(db, run, verdict, dead, now) for run, verdict in judged]
    for (run, verdict), seq in zip(judged, seqs, strict=True):
        if verdict.error is not None:
            await _tell(db, run, verdict, seq, now)
    return [run.id for run in taken]


async def _alone(
    db: Cursor, judged: tuple[LostRun, Verdict], dead: WorkerSeen, now: int, stuck: Stuck
) -> bool:
    """Do all of it for one run; where its row or its parent's is refused, nothing of it."""
    run, verdict = judged
    try:
        async with db.connection.transaction():
            seq = await _put_back(db, run, verdict, dead, now)
            if verdict.error is not None:
                await _tell(db, run, verdict, seq, now)
    except REFUSALS as error:
        stuck.note(run.id, error)
        return False
    return True


async def _locked(db: Cursor, owner: Owner, lost: Sequence[LostRun]) -> Sequence[LostRun]:
    """Lock what can be locked at once of these runs, as they are now.

    A run that may be dead is taken only together with its parent, who is told of it.
    """
    parents = {run.parent_id for run in lost if run.is_suspect and run.parent_id}
    ids = [*parents, *(run.id for run in lost)]
    cursor = await db.execute(_LOCK_LOST, {"owner": owner, "ids": ids, "parts": rows.parts_of(ids)})
    found = await cursor.fetchall()
    locked = {row[0] for row in found}
    ours = [LostRun.of(*row[:-1]) for row in found if row[-1]]
    return [
        run
        for run in ours
        if not run.is_suspect or run.parent_id is None or run.parent_id in locked
    ]


async def _put_back(db: Cursor, run: LostRun, verdict: Verdict, dead: WorkerSeen, now: int) -> int:
    row = {
        "id": run.id,
        "part": run.part,
        "crashes": verdict.crashes,
        "losses_seen": verdict.losses_seen,
        "status": verdict.status.value,
        "due_at": verdict.due_at,
        "is_gone": dead.is_gone,
        "now": now,
    }
    found = await (await db.execute(_TAKE_BACK, row)).fetchone()
    return found[0] if found else 0


async def _tell(db: Cursor, run: LostRun, verdict: Verdict, seq: int, now: int) -> None:
    """Write why a run does not go on into its promise: the outcome, unless it only waits."""
    if run.parent_id is not None:
        seq = await wake_run(db, run.parent_id, now, ends=verdict.is_final) or seq
    outcome = {
        "id": run.id,
        "part": run.part,
        "state": "rejected" if verdict.is_final else "pending",
        "error": verdict.error,
        "settled_at": now if verdict.is_final else None,
        "seq": seq,
    }
    await db.execute(_SET_OUTCOME, outcome)
