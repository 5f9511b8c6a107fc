"""Runs as lists tell of them, in SQLite: of what is settled, no payload but what was used.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Mapping, Sequence

import apsw

from substrate.store import listing, rows
from substrate.store.sqlite.promises import load_promises
from substrate.values.ids import RunId, part_of
from substrate.values.records import UNWIND_KEY, Promise, RunFilter, RunStatus, Sketch

_SELECT_RUNS = f"""
SELECT {rows.RUN_COLUMNS}
  FROM runs
 WHERE {{conditions}}
 ORDER BY created_at DESC, id
 LIMIT :limit
"""

# What is asked is written out, so that a plan is made for it.
_CONDITIONS = {
    "status": "status = :status",
    "roots": "parent_id IS NULL",
    "function": "function = :function",
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "prefix": "id >= :first AND id < :end",
    "asking": f"""ended_at IS NULL AND NOT cancel_requested
   AND EXISTS (SELECT 1
                 FROM promises AS asked
                WHERE asked.part = runs.part
                  AND asked.id > runs.id || '#' AND asked.id < runs.id || '$'
                  AND asked.kind IN ({listing.ASKING}) AND asked.state = 'pending')""",
}


def list_runs(
    db: apsw.Connection, status: RunStatus | None, limit: int, also: RunFilter
) -> Sequence[rows.Row]:
    """Return the rows of root runs, or of all that are meant, newest first."""
    chosen = [_CONDITIONS[name] for name in listing.conditions_of(status, also)]
    statement = _SELECT_RUNS.format(conditions="\n   AND ".join(chosen) or "true")
    found: Sequence[rows.Row] = db.execute(
        statement, listing.wanted_of(status, limit, also)
    ).fetchall()
    return found


_SELECT_OWN = """
SELECT id, input, error
  FROM promises
 WHERE id = :id AND part = :part
"""

_COUNT_SETTLED = """
SELECT run_id, count(*),
       count(*) FILTER (WHERE name = :name AND state = 'resolved' AND instr(key, '/') = 0)
  FROM promises
 WHERE run_id = :id AND part = :part AND state <> 'pending' AND kind <> 'run'
 GROUP BY run_id
"""

# The character after # ends the range of what is below.
_SELECT_USED = """
SELECT :id, id, usage
  FROM promises
 WHERE id > :id || '#' AND id < :id || '$' AND part = :part AND usage IS NOT NULL
 ORDER BY id
"""


def read_sketches(db: apsw.Connection, ids: Sequence[RunId], name: str) -> Mapping[RunId, Sketch]:
    """Return what a list tells of these runs, by id."""
    asked = [{"id": each, "part": part_of(each), "name": name} for each in ids]
    own, counts, used = (
        [row for each in asked for row in db.execute(statement, each)]
        for statement in (_SELECT_OWN, _COUNT_SETTLED, _SELECT_USED)
    )
    return listing.sketched(ids, own, counts, read_open(db, ids), used)


_SELECT_OPEN = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = :id AND part = :part AND kind <> 'run'
   AND (state = 'pending' OR key = '{UNWIND_KEY}')
 ORDER BY seq
 LIMIT {listing.MOST_OPEN}
"""


def read_open(db: apsw.Connection, ids: Sequence[RunId]) -> Mapping[RunId, tuple[Promise, ...]]:
    """Return what each run has open, in order of seq; the first ones, where there are many."""
    found = {}
    for each in ids:
        asked = {"id": each, "part": part_of(each)}
        found[each] = tuple(load_promises(db, db.execute(_SELECT_OPEN, asked).fetchall()))
    return found


_SELECT_ASKED = f"""
SELECT {", ".join(f"asked.{each}" for each in rows.PROMISE_FIELDS)}
  FROM promises AS asked
  JOIN runs AS asks ON asks.id = asked.run_id AND asks.part = asked.part
 WHERE asked.part = :part
   AND asked.id > :id || '#' AND asked.id < :id || '$'
   AND asked.kind IN ({listing.ASKING}) AND asked.state = 'pending'
   AND asks.ended_at IS NULL AND NOT asks.cancel_requested
 ORDER BY asked.id
 LIMIT {listing.MOST_ASKED}
"""


def read_asked(db: apsw.Connection, ids: Sequence[RunId]) -> Mapping[RunId, tuple[Promise, ...]]:
    """Return what each run, and all below it, ask; the first ones, where there are many."""
    found = {}
    for each in ids:
        asked = {"id": each, "part": part_of(each)}
        found[each] = tuple(load_promises(db, db.execute(_SELECT_ASKED, asked).fetchall()))
    return found
