"""Runs as lists tell of them, in Postgres: of what is settled, no payload but what was used.

Each function is one transaction, of a bounded number of statements however many the runs are.
"""

from collections.abc import Mapping, Sequence

from substrate.store import listing, rows, sql
from substrate.store.postgres.promises import load_promises
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId, part_of
from substrate.values.records import UNWIND_KEY, Promise, RunFilter, RunStatus, Sketch

_SELECT_RUNS = f"""
SELECT {rows.RUN_COLUMNS}
  FROM runs
 WHERE {{conditions}}
 ORDER BY created_at DESC, id
 LIMIT %(limit)s
"""

# What is asked is written out, so that a plan is made for it.
_CONDITIONS = {
    "status": "status = %(status)s",
    "roots": "parent_id IS NULL",
    "function": "function = %(function)s",
    "since": "created_at >= %(since)s",
    "until": "created_at < %(until)s",
    "prefix": "id >= %(first)s AND id < %(end)s",
    "asking": f"""ended_at IS NULL AND NOT cancel_requested
   AND EXISTS (SELECT 1
                 FROM promises AS asked
                WHERE asked.part = runs.part
                  AND asked.id > runs.id || '#' AND asked.id < runs.id || '$'
                  AND asked.kind IN ({listing.ASKING}) AND asked.state = 'pending')""",
}


async def list_runs(
    db: Cursor, status: RunStatus | None, limit: int, also: RunFilter
) -> Sequence[rows.Row]:
    """Return the rows of root runs, or of all that are meant, newest first."""
    chosen = [_CONDITIONS[name] for name in listing.conditions_of(status, also)]
    statement = _SELECT_RUNS.format(conditions="\n   AND ".join(chosen) or "true")
    cursor = await db.execute(statement, listing.wanted_of(status, limit, also))
    return await cursor.fetchall()


_SELECT_OWN = """
SELECT id, input, error
  FROM promises
 WHERE id = ANY (%(ids)s) AND part = ANY (%(parts)s)
"""

_COUNT_SETTLED = """
SELECT run_id, count(*),
       count(*) FILTER (WHERE name = %(name)s AND state = 'resolved' AND strpos(key, '/') = 0)
  FROM promises
 WHERE run_id = ANY (%(ids)s) AND part = ANY (%(parts)s) AND state <> 'pending' AND kind <> 'run'
 GROUP BY run_id
"""

# The character after # ends the range of what is below.
_SELECT_USED = """
SELECT listed.id, below.id, below.usage
  FROM unnest(%(ids)s::text[], %(parts_of_ids)s::int[]) AS listed (id, part)
  JOIN promises AS below
    ON below.part = listed.part
   AND below.id > (listed.id || '#') COLLATE "C" AND below.id < (listed.id || '$') COLLATE "C"
 WHERE below.usage IS NOT NULL
 ORDER BY below.id
"""


async def read_sketches(db: Cursor, ids: Sequence[RunId], name: str) -> Mapping[RunId, Sketch]:
    """Return what a list tells of these runs, by id."""
    asked = {
        "ids": list(ids),
        "parts": sql.parts_of(ids),
        "parts_of_ids": [part_of(each) for each in ids],
        "name": name,
    }
    own = await (await db.execute(_SELECT_OWN, asked)).fetchall()
    counts = await (await db.execute(_COUNT_SETTLED, asked)).fetchall()
    used = await (await db.execute(_SELECT_USED, asked)).fetchall()
    return listing.sketched(ids, own, counts, await read_open(db, ids), used)


_SELECT_OPEN = f"""
SELECT {", ".join(f"found.{each}" for each in rows.PROMISE_FIELDS)}
  FROM unnest(%(ids)s::text[], %(parts_of_ids)s::int[]) AS listed (id, part)
 CROSS JOIN LATERAL
       (SELECT {rows.PROMISE_COLUMNS}
          FROM promises
         WHERE run_id = listed.id AND part = listed.part AND kind <> 'run'
           AND (state = 'pending' OR key = '{UNWIND_KEY}')
         ORDER BY seq
         LIMIT {listing.MOST_OPEN}) AS found
"""


async def read_open(db: Cursor, ids: Sequence[RunId]) -> Mapping[RunId, tuple[Promise, ...]]:
    """Return what each run has open, in order of seq; the first ones, where there are many."""
    asked = {"ids": list(ids), "parts_of_ids": [part_of(each) for each in ids]}
    found = await (await db.execute(_SELECT_OPEN, asked)).fetchall()
    by_run: dict[RunId, list[Promise]] = {}
    for each in await load_promises(db, found):
        by_run.setdefault(each.run_id, []).append(each)
    return {id_: tuple(sorted(each, key=lambda row: row.seq)) for id_, each in by_run.items()}


_SELECT_ASKED = f"""
SELECT listed.id, {", ".join(f"found.{each}" for each in rows.PROMISE_FIELDS)}
  FROM unnest(%(ids)s::text[], %(parts_of_ids)s::int[]) AS listed (id, part)
 CROSS JOIN LATERAL
       (SELECT {", ".join(f"asked.{each}" for each in rows.PROMISE_FIELDS)}
          FROM promises AS asked
          JOIN runs AS asks ON asks.id = asked.run_id AND asks.part = asked.part
         WHERE asked.part = listed.part
           AND asked.id > (listed.id || '#') COLLATE "C"
           AND asked.id < (listed.id || '$') COLLATE "C"
           AND asked.kind IN ({listing.ASKING}) AND asked.state = 'pending'
           AND asks.ended_at IS NULL AND NOT asks.cancel_requested
         ORDER BY asked.id
         LIMIT {listing.MOST_ASKED}) AS found
"""


async def read_asked(db: Cursor, ids: Sequence[RunId]) -> Mapping[RunId, tuple[Promise, ...]]:
    """Return what each run, and all below it, ask; the first ones, where there are many."""
    asked = {"ids": list(ids), "parts_of_ids": [part_of(each) for each in ids]}
    found = await (await db.execute(_SELECT_ASKED, asked)).fetchall()
    promises = await load_promises(db, [row[1:] for row in found])
    by_run: dict[RunId, list[Promise]] = {}
    for row, promise in zip(found, promises, strict=True):
        by_run.setdefault(row[0], []).append(promise)
    return {id_: tuple(each) for id_, each in by_run.items()}
