"""Promises in Postgres, read back whole. Each function is one transaction, or part of one."""

from collections.abc import Sequence

from substrate.store import rows, sql
from substrate.store.blobs import digests_in, inflate
from substrate.store.postgres.blobs import read_blobs
from substrate.store.postgres.session import Cursor
from substrate.values.ids import PromiseId, RunId, part_of, root_of
from substrate.values.records import JsonText, Kind, Promise

_SELECT_PROMISE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id = %s AND part = %s
"""


async def read_promise(db: Cursor, any_id: str) -> Promise | None:
    """Return one promise, or None."""
    cursor = await db.execute(_SELECT_PROMISE, (any_id, part_of(any_id)))
    found = await load_promises(db, await cursor.fetchall())
    return found[0] if found else None


_SELECT_PROMISES = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id = ANY (%s) AND part = ANY (%s)
"""


async def read_promises(db: Cursor, ids: Sequence[str]) -> dict[str, Promise]:
    """Return those of the promises that there are, by id."""
    cursor = await db.execute(_SELECT_PROMISES, (list(ids), sql.parts_of(ids)))
    return {promise.id: promise for promise in await load_promises(db, await cursor.fetchall())}


_SELECT_JOURNAL = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = %s AND part = %s AND seq > %s
 ORDER BY seq
"""


async def read_journal(db: Cursor, run_id: RunId, after: int) -> Sequence[Promise]:
    """Return the promises of a run above a seq, in order."""
    cursor = await db.execute(_SELECT_JOURNAL, (run_id, part_of(run_id), after))
    return await load_promises(db, await cursor.fetchall())


_SELECT_USAGES = """
SELECT id, usage
  FROM promises
 WHERE id >= %(first)s AND id < %(end)s AND part = %(part)s AND usage IS NOT NULL
 ORDER BY id
"""


async def read_usages(
    db: Cursor, prefix: str, skipping: Sequence[str]
) -> Sequence[tuple[PromiseId, JsonText]]:
    """Return what the promises have used whose id begins so, and does not go on so."""
    found: list[tuple[PromiseId, JsonText]] = []
    for first, end in sql.ranges_of(prefix, skipping):
        given = {"first": first, "end": end, "part": part_of(prefix)}
        cursor = await db.execute(_SELECT_USAGES, given)
        found += [(PromiseId(row[0]), JsonText(row[1])) for row in await cursor.fetchall()]
    return found


_HAS_OPEN_RUNS = """
SELECT 1
  FROM runs
 WHERE id >= %(first)s AND id < %(end)s AND part = %(part)s AND ended_at IS NULL
 LIMIT 1
"""


async def has_open_runs(db: Cursor, prefix: str) -> bool:
    """Return whether a run whose id begins so has not ended."""
    first, end = sql.range_of(prefix)
    given = {"first": first, "end": end, "part": part_of(prefix)}
    cursor = await db.execute(_HAS_OPEN_RUNS, given)
    return await cursor.fetchone() is not None


_SELECT_OPEN = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id >= %(first)s AND id < %(end)s AND part = %(part)s AND state = 'pending'
   AND kind = %(kind)s
 ORDER BY id
 LIMIT %(limit)s
"""


async def read_open(db: Cursor, prefix: str, kind: Kind, limit: int) -> Sequence[Promise]:
    """Return the pending promises of a kind whose id begins so, in order of id."""
    first, end = sql.range_of(prefix)
    given = {"first": first, "end": end, "part": part_of(prefix), "kind": kind.value}
    cursor = await db.execute(_SELECT_OPEN, given | {"limit": limit})
    return await load_promises(db, await cursor.fetchall())


_INSERT_SETTLED = """
INSERT INTO promises (id, part, tenant, run_id, key, seq, began, kind, name, state, fingerprint,
                      input, value, epoch, created_at, settled_at)
SELECT %(id)s, part, tenant, id, %(key)s, %(seq)s, %(seq)s, %(kind)s, %(name)s, %(state)s,
       %(fingerprint)s, %(input)s::json, %(value)s::json, epoch, %(created_at)s, %(settled_at)s
  FROM runs
 WHERE id = %(run_id)s AND part = %(part)s
    ON CONFLICT (id, part) DO NOTHING
"""


async def insert_settled(db: Cursor, promise: Promise, seq: int) -> None:
    """Add to a journal what happened to the run itself, as its change number `seq`.

    The caller holds the run's row. What stands there under this key already stays.
    """
    row = rows.parameters_of(promise) | {"part": part_of(promise.id), "seq": seq}
    await db.execute(_INSERT_SETTLED, row)


async def load_promises(db: Cursor, found: Sequence[rows.Row]) -> Sequence[Promise]:
    """Return rows as promises, with what stands in blobs put back."""
    promises = [rows.promise(row) for row in found]
    digests = {i: held for i, row in enumerate(found) if (held := digests_in(row[rows.PAYLOADS]))}
    if digests:
        roots = {root_of(promises[i].id) for i in digests}
        contents = await read_blobs(db, list(roots), list(set().union(*digests.values())))
        for i in digests:
            promises[i] = inflate(promises[i], contents)
    return promises
