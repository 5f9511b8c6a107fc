"""Which lanes the workers of a database know, in SQLite; and which have runs that are ready.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Sequence

import apsw

from substrate.store import sql
from substrate.values.clock import OffsetClock
from substrate.values.ids import RunId
from substrate.values.records import Owner

_FORGET_LANES = """
DELETE FROM lanes
 WHERE incarnation = :owner
    OR incarnation NOT IN (SELECT incarnation FROM workers)
"""

_INSERT_LANE = """
INSERT INTO lanes (incarnation, lane, tenant)
VALUES (:owner, :lane, '')
    ON CONFLICT (incarnation, lane) DO NOTHING
"""


def write_lanes(db: apsw.Connection, owner: Owner, lanes: Sequence[str]) -> None:
    """Keep what a worker knows; forget what those knew that have been struck off."""
    db.execute(_FORGET_LANES, {"owner": owner})
    for lane in ("", *lanes):  # the empty one says that this worker has written its own
        db.execute(_INSERT_LANE, {"owner": owner, "lane": lane})


_SELECT_KNOWN = """
SELECT DISTINCT lanes.lane
  FROM workers
  LEFT JOIN lanes ON lanes.incarnation = workers.incarnation
 WHERE workers.lease_until > :now
"""


def known_lanes(db: apsw.Connection) -> frozenset[str] | None:
    """Return the lanes that live workers know; None while one of them has written none."""
    now = OffsetClock().now_ms()  # the clock of leases, whatever clock the store was given
    found = [row[0] for row in db.execute(_SELECT_KNOWN, {"now": now})]
    return None if None in found else frozenset(found)


_COUNT_WORKERS = """
SELECT count(*)
  FROM workers
 WHERE host = :host AND lease_until > :now
"""


def count_workers(db: apsw.Connection, host: str) -> int:
    """Return how many workers of a host hold their lease."""
    asked = {"host": host, "now": OffsetClock().now_ms()}
    (count,) = next(db.execute(_COUNT_WORKERS, asked))
    return int(count)


_SELECT_READY = """
WITH RECURSIVE
    -- from one lane to the next, however many runs each has
    ready (lane) AS (
        SELECT min(lane)
          FROM runs
         WHERE status = 'ready'
         UNION ALL
        SELECT (SELECT min(runs.lane)
                  FROM runs
                 WHERE runs.status = 'ready' AND runs.lane > ready.lane)
          FROM ready
         WHERE ready.lane IS NOT NULL
    )
SELECT lane
  FROM ready
 WHERE lane IS NOT NULL
 LIMIT :limit
"""


def ready_lanes(db: apsw.Connection, limit: int) -> Sequence[str]:
    """Return lanes that have a run which could be claimed."""
    return [row[0] for row in db.execute(_SELECT_READY, {"limit": limit})]


_AMONG = """
-- Each lane has its own look into the index, however many runs are ready in it.
SELECT asked.value
  FROM json_each(:lanes) AS asked
 WHERE EXISTS (SELECT 1
                 FROM runs
                WHERE runs.lane = asked.value AND runs.status = 'ready'
                  AND runs.id NOT IN (SELECT value FROM json_each(:ids)))
"""


def lanes_with_ready(
    db: apsw.Connection, lanes: Sequence[str], without: Sequence[RunId]
) -> frozenset[str]:
    """Return those of these lanes that have a run which could be claimed."""
    asked = {"lanes": sql.id_list(lanes), "ids": sql.id_list(without)}
    return frozenset(row[0] for row in db.execute(_AMONG, asked))
