"""Runs of dead workers in SQLite, taken back.

A worker is dead when its lease has lapsed, when it was struck off, or when it ran on this host and
the kernel has freed its lock. Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from substrate.store import rows
from substrate.store.protocol import MAX_CRASHES
from substrate.store.sqlite.journal import wake_run
from substrate.store.sqlite.pulse import is_free
from substrate.values.ids import RunId
from substrate.values.records import Owner, RunStatus


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look shows of an owner of runs."""

    owner: Owner
    host: str
    lease_until: int
    is_gone: bool = False
    """Whether its process is known to have ended, whatever its lease."""


_LOOK = """
SELECT incarnation, host, lease_until
  FROM workers
 UNION ALL
SELECT DISTINCT lease_owner, '', 0
  FROM runs
 WHERE lease_owner IS NOT NULL AND lease_owner NOT IN (SELECT incarnation FROM workers)
"""


def look(db: apsw.Connection) -> Sequence[Sighting]:
    """Return how the workers stand, and the owners of runs that are no workers any more."""
    return [Sighting(*row) for row in db.execute(_LOOK)]


def dead_among(seen: Sequence[Sighting], path: Path, now: int) -> Sequence[Sighting]:
    """Return those that are dead."""
    looked = [replace(one, is_gone=is_free(path, one.owner, one.host)) for one in seen]
    return [one for one in looked if one.is_gone or one.lease_until < now]


_STRIKE_OFF = """
DELETE FROM workers
 WHERE incarnation = ? AND lease_until = ?
"""

_IS_REGISTERED = """
SELECT 1
  FROM workers
 WHERE incarnation = ?
"""

_RECOVER = """
UPDATE runs
   SET crashes = crashes + 1,
       status = CASE WHEN crashes + 1 >= :max_crashes THEN 'dead' ELSE 'ready' END,
       ended_at = CASE WHEN crashes + 1 >= :max_crashes THEN :now END,
       gone_epoch = CASE WHEN :is_gone THEN epoch ELSE gone_epoch END,
       last_seq = last_seq + 1,
       lease_owner = NULL,
       rank = :now
 WHERE lease_owner = :owner AND status = 'running'
RETURNING id, part, parent_id, status, last_seq, crashes
"""

_BURY = """
UPDATE promises
   SET state = 'rejected', error = :error, settled_at = :now, seq = :seq
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def recover_runs(db: apsw.Connection, dead: Sequence[Sighting], now: int) -> Sequence[RunId]:
    """Take back the runs of these owners, save of one that has shown a sign of life since."""
    recovered: list[RunId] = []
    for one in dead:
        db.execute(_STRIKE_OFF, (one.owner, one.lease_until))
        if db.execute(_IS_REGISTERED, (one.owner,)).fetchone() is None:
            recovered += _take_back(db, one, now)
    return recovered


def _take_back(db: apsw.Connection, dead: Sighting, now: int) -> Sequence[RunId]:
    wanted = {
        "owner": dead.owner,
        "is_gone": dead.is_gone,
        "max_crashes": MAX_CRASHES,
        "now": now,
    }
    taken: Sequence[rows.Row] = db.execute(_RECOVER, wanted).fetchall()
    for run_id, part, parent_id, status, seq, crashes in taken:
        if status == RunStatus.DEAD:
            woken = wake_run(db, parent_id, part, now) if parent_id else None
            grave = {"id": run_id, "part": part, "seq": woken[0] if woken else seq, "now": now}
            db.execute(_BURY, grave | {"error": rows.burial(crashes)})
    return [row[0] for row in taken]
