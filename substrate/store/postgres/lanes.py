"""Which lanes the workers of a database know, in Postgres; and which have runs that are ready.

Each function is one transaction.
"""

from collections.abc import Sequence

from substrate.store.postgres.connections import NOW
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId
from substrate.values.records import Owner

_WRITE_LANES = """
WITH stale AS MATERIALIZED (
    -- what another worker forgets at this moment is left to that one
    SELECT incarnation, lane
      FROM lanes
     WHERE incarnation NOT IN (SELECT incarnation FROM workers)
       FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM lanes
     USING stale
     WHERE lanes.incarnation = stale.incarnation AND lanes.lane = stale.lane
)
INSERT INTO lanes (incarnation, lane, tenant)
SELECT %(owner)s::text, known.lane, ''::text
  FROM pg_catalog.unnest(%(lanes)s::text[]) AS known (lane)
    ON CONFLICT (incarnation, lane) DO NOTHING
"""


async def write_lanes(db: Cursor, owner: Owner, lanes: Sequence[str]) -> None:
    """Keep what a worker knows; forget what those knew that have been struck off."""
    known = ["", *lanes]  # the empty one says that this worker has written its own
    await db.execute(_WRITE_LANES, {"owner": owner, "lanes": known})


_SELECT_KNOWN = f"""
SELECT DISTINCT lanes.lane
  FROM workers
  LEFT JOIN lanes ON lanes.incarnation = workers.incarnation
 WHERE workers.lease_until > {NOW}
"""


async def known_lanes(db: Cursor) -> frozenset[str] | None:
    """Return the lanes that live workers know; None while one of them has written none."""
    cursor = await db.execute(_SELECT_KNOWN)
    found = [row[0] for row in await cursor.fetchall()]
    return None if None in found else frozenset(found)


_COUNT_WORKERS = f"""
SELECT count(*)
  FROM workers
 WHERE host = %(host)s AND lease_until > {NOW}
"""


async def count_workers(db: Cursor, host: str) -> int:
    """Return how many workers of a host hold their lease."""
    cursor = await db.execute(_COUNT_WORKERS, {"host": host})
    row = await cursor.fetchone()
    return row[0] if row else 0


_SELECT_READY = """
WITH RECURSIVE
    -- from one lane to the next, however many runs each has
    ready (lane) AS (
        (SELECT lane
           FROM runs
          WHERE status = 'ready'
          ORDER BY lane
          LIMIT 1)
         UNION ALL
        SELECT (SELECT runs.lane
                  FROM runs
                 WHERE runs.status = 'ready' AND runs.lane > ready.lane
                 ORDER BY runs.lane
                 LIMIT 1)
          FROM ready
         WHERE ready.lane IS NOT NULL
    )
SELECT lane
  FROM ready
 WHERE lane IS NOT NULL
 LIMIT %(limit)s
"""


async def ready_lanes(db: Cursor, limit: int) -> Sequence[str]:
    """Return lanes that have a run which could be claimed."""
    cursor = await db.execute(_SELECT_READY, {"limit": limit})
    return [row[0] for row in await cursor.fetchall()]


_AMONG = """
-- Each lane has its own look into the index, however many runs are ready in it.
SELECT asked.lane
  FROM pg_catalog.unnest(%(lanes)s::text[]) AS asked (lane)
 WHERE EXISTS (SELECT 1
                 FROM runs
                WHERE runs.lane = asked.lane AND runs.status = 'ready'
                  AND runs.id <> ALL (%(ids)s::text[]))
"""


async def lanes_with_ready(
    db: Cursor, lanes: Sequence[str], without: Sequence[RunId]
) -> frozenset[str]:
    """Return those of these lanes that have a run which could be claimed."""
    cursor = await db.execute(_AMONG, {"lanes": list(lanes), "ids": list(without)})
    return frozenset(row[0] for row in await cursor.fetchall())
