"""Promises in SQLite, read back whole.

Each function runs inside one transaction that its caller opened, or on its own.
"""

from collections.abc import Iterable, Sequence

import apsw

from substrate.store import rows, sql
from substrate.store.blobs import digests_in, inflate
from substrate.store.sqlite.blobs import read_blobs
from substrate.values.ids import PromiseId, RunId, part_of
from substrate.values.records import JsonText, Kind, Promise

_SELECT_PROMISE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id = ? AND part = ?
"""


def read_promise(db: apsw.Connection, any_id: str) -> Promise | None:
    """Return one promise, or None."""
    found = load_promises(db, db.execute(_SELECT_PROMISE, (any_id, part_of(any_id))))
    return found[0] if found else None


def read_promises(db: apsw.Connection, ids: Iterable[str]) -> dict[str, Promise]:
    """Return those of the promises that there are, by id."""
    found = (read_promise(db, one) for one in ids)
    return {promise.id: promise for promise in found if promise is not None}


_SELECT_JOURNAL = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE run_id = ? AND part = ? AND seq > ?
 ORDER BY seq
"""


def read_journal(db: apsw.Connection, run_id: RunId, after: int) -> Sequence[Promise]:
    """Return the promises of a run above a seq, in order."""
    return load_promises(db, db.execute(_SELECT_JOURNAL, (run_id, part_of(run_id), after)))


_SELECT_USAGES = """
SELECT id, usage
  FROM promises
 WHERE id >= :first AND id < :end AND part = :part AND usage IS NOT NULL
 ORDER BY id
"""


def read_usages(
    db: apsw.Connection, prefix: str, skipping: Sequence[str]
) -> Sequence[tuple[PromiseId, JsonText]]:
    """Return what the promises have used whose id begins so, and does not go on so."""
    found: list[tuple[PromiseId, JsonText]] = []
    for first, end in sql.ranges_of(prefix, skipping):
        given = {"first": first, "end": end, "part": part_of(prefix)}
        found += [
            (PromiseId(row[0]), JsonText(row[1])) for row in db.execute(_SELECT_USAGES, given)
        ]
    return found


_HAS_OPEN_RUNS = """
SELECT 1
  FROM runs
 WHERE id >= :first AND id < :end AND part = :part AND ended_at IS NULL
 LIMIT 1
"""


def has_open_runs(db: apsw.Connection, prefix: str) -> bool:
    """Return whether a run whose id begins so has not ended."""
    first, end = sql.range_of(prefix)
    given = {"first": first, "end": end, "part": part_of(prefix)}
    return db.execute(_HAS_OPEN_RUNS, given).fetchone() is not None


_SELECT_OPEN = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE id >= :first AND id < :end AND part = :part AND state = 'pending' AND kind = :kind
 ORDER BY id
 LIMIT :limit
"""


def read_open(db: apsw.Connection, prefix: str, kind: Kind, limit: int) -> Sequence[Promise]:
    """Return the pending promises of a kind whose id begins so, in order of id."""
    first, end = sql.range_of(prefix)
    given = {"first": first, "end": end, "part": part_of(prefix), "kind": kind.value}
    return load_promises(db, db.execute(_SELECT_OPEN, given | {"limit": limit}))


_INSERT_SETTLED = """
INSERT INTO promises (id, part, tenant, run_id, key, seq, began, kind, name, state, fingerprint,
                      input, value, epoch, created_at, settled_at)
SELECT :id, part, tenant, id, :key, :seq, :seq, :kind, :name, :state, :fingerprint, :input,
       :value, epoch, :created_at, :settled_at
  FROM runs
 WHERE id = :run_id AND part = :part
    ON CONFLICT (id, part) DO NOTHING
"""


def insert_settled(db: apsw.Connection, promise: Promise, seq: int) -> None:
    """Add to a journal what happened to the run itself, as its change number `seq`.

    The caller holds the run's row. What stands there under this key already stays.
    """
    row = rows.parameters_of(promise) | {"part": part_of(promise.id), "seq": seq}
    db.execute(_INSERT_SETTLED, row)


def load_promises(db: apsw.Connection, found: Iterable[rows.Row]) -> list[Promise]:
    """Return rows as promises, with what stands in blobs put back."""
    promises = []
    # All of them first: an error in the middle would keep the cursor, and so its connection on a
    # snapshot from which nothing can be written, for as long as somebody keeps the error.
    for row in list(found):
        promise = rows.promise(row)
        if digests := digests_in(row[rows.PAYLOADS]):
            promise = inflate(promise, read_blobs(db, promise.id, digests))
        promises.append(promise)
    return promises
