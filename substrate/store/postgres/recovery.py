"""Runs of dead workers in Postgres, taken back.

A worker is dead when its lease has lapsed by the database's clock, or when it was struck off. It is
dead before that only where nothing else explains what is seen: its heartbeat's backend is gone, in
two looks `PATIENCE` apart, with no beat between them and no restart of the server since. Behind a
pooler a backend outlives its client, so there the pulse registers none and the lease decides. Nor
is a cut connection a death: a worker that looks and misses itself vouches for itself.

No look waits for a lock: a run that somebody holds is taken back next time, since its owner stays
struck off. Whether that owner's process has ended is forgotten by then: it counts as unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from substrate.store import rows
from substrate.store.postgres.connections import NOW, Cursor
from substrate.store.postgres.journal import LOCK_FREE, wake_run
from substrate.store.protocol import MAX_CRASHES
from substrate.values.ids import RunId
from substrate.values.records import Owner, RunStatus

PATIENCE = 0.4
"""Seconds for which a worker's backend must have been missing."""

SERVER_START = "(extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint"
"""When the server was started, in milliseconds, as SQL."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look shows of an owner of runs."""

    owner: Owner
    lease_until: int
    has_lapsed: bool
    is_missing: bool
    is_gone: bool = False
    """Whether its process is known to have ended, not merely its lease."""


class Vigil:
    """Remembers which workers are missing, and since when."""

    def __init__(self) -> None:
        self._missing: dict[tuple[Owner, int], float] = {}

    def dead_among(self, seen: Sequence[Sighting], now: float) -> Sequence[Sighting]:
        """Return those that are dead; `now` is in seconds of a clock that only goes forward.

        A beat moves the lease's end, and so ends a suspicion.
        """
        missing = [(one.owner, one.lease_until) for one in seen if one.is_missing]
        self._missing = {who: self._missing.get(who, now) for who in missing}
        given_up = {who for who, since in self._missing.items() if now - since >= PATIENCE}
        looked = [replace(one, is_gone=(one.owner, one.lease_until) in given_up) for one in seen]
        return [one for one in looked if one.has_lapsed or one.is_gone]


_LOOK = f"""
SELECT incarnation, lease_until, lease_until < {NOW},
       backend_pid IS NOT NULL AND server_start = {SERVER_START}
       AND NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = backend_pid)
  FROM workers
 UNION ALL
SELECT DISTINCT lease_owner, 0, true, false
  FROM runs
 WHERE lease_owner IS NOT NULL AND lease_owner NOT IN (SELECT incarnation FROM workers)
"""


async def look(db: Cursor) -> Sequence[Sighting]:
    """Return how the workers stand, and the owners of runs that are no workers any more."""
    cursor = await db.execute(_LOOK)
    return [Sighting(*row) for row in await cursor.fetchall()]


_VOUCH = """
UPDATE workers
   SET backend_pid = NULL
 WHERE incarnation = ANY (%s)
"""


async def vouch(db: Cursor, owners: Sequence[Owner]) -> None:
    """Let the lease decide over these workers until their next beat, which names a new backend."""
    await db.execute(_VOUCH, (owners,))


_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = %(owner)s AND lease_until = %(lease_until)s
"""

_IS_REGISTERED = """
SELECT 1
  FROM workers
 WHERE incarnation = %(owner)s
"""

_RECOVER = f"""
WITH lost AS MATERIALIZED (
    SELECT id, parent_id, crashes
      FROM runs
     WHERE lease_owner = %(owner)s AND status = 'running'
), locked AS MATERIALIZED (
    SELECT id, parent_id, status, lease_owner, crashes
      FROM runs
     WHERE id = ANY (ARRAY(SELECT id FROM lost
                            UNION
                           SELECT parent_id FROM lost WHERE crashes + 1 >= %(max_crashes)s))
     {LOCK_FREE}
), taken AS MATERIALIZED (
    SELECT id
      FROM locked
     WHERE lease_owner = %(owner)s AND status = 'running'
       AND (crashes + 1 < %(max_crashes)s OR parent_id IS NULL
            OR parent_id IN (SELECT id FROM locked))
)
UPDATE runs
   SET crashes = crashes + 1,
       status = CASE WHEN crashes + 1 >= %(max_crashes)s THEN 'dead' ELSE 'ready' END,
       ended_at = CASE WHEN crashes + 1 >= %(max_crashes)s THEN %(now)s::bigint END,
       gone_epoch = CASE WHEN %(is_gone)s THEN epoch ELSE gone_epoch END,
       last_seq = last_seq + 1,
       lease_owner = NULL,
       rank = %(now)s
 WHERE id = ANY (ARRAY(SELECT id FROM taken))
RETURNING id, part, parent_id, status, last_seq, crashes
"""

_BURY = """
UPDATE promises
   SET state = 'rejected', error = %(error)s::json, settled_at = %(now)s, seq = %(seq)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def recover_runs(db: Cursor, dead: Sequence[Sighting], now: int) -> Sequence[RunId]:
    """Take back the runs of these owners, save of one that has shown a sign of life since."""
    recovered: list[RunId] = []
    for one in dead:
        async with db.connection.transaction():
            who = {"owner": one.owner, "lease_until": one.lease_until}
            await db.execute(_STRIKE_OFF, who)
            cursor = await db.execute(_IS_REGISTERED, who)
            if await cursor.fetchone() is None:
                recovered += await _take_back(db, one, now)
    return recovered


async def _take_back(db: Cursor, dead: Sighting, now: int) -> Sequence[RunId]:
    wanted = {
        "owner": dead.owner,
        "is_gone": dead.is_gone,
        "max_crashes": MAX_CRASHES,
        "now": now,
    }
    cursor = await db.execute(_RECOVER, wanted)
    taken = await cursor.fetchall()
    for run_id, part, parent_id, status, seq, crashes in taken:
        if status == RunStatus.DEAD:
            told = await wake_run(db, parent_id, now) if parent_id else None
            grave = {"id": run_id, "part": part, "seq": told or seq, "now": now}
            await db.execute(_BURY, grave | {"error": rows.burial(crashes)})
    return [row[0] for row in taken]
