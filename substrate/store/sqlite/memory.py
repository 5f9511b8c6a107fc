"""Memory in SQLite: the rows of a batch of writes, and their promises, in one transaction.

Each function runs inside one transaction that its caller opened. SQLite has one writer at a time,
so a namespace needs no lock of its own here.
"""

from collections.abc import Iterator, Sequence

import apsw
import orjson

from substrate.store.blobs import offload
from substrate.store.ledger import Adopted, Ledger, MemoryWrite, Wanted
from substrate.store.memory_rows import (
    BY_NAME,
    COUNTER_FIELDS,
    DECISIONS,
    FACTS,
    IS_DECLARED,
    SPACE_COLUMNS,
    TABLES,
    Answers,
    Look,
    Table,
    answers_to,
    by_table,
    counter_of,
    counter_parameters,
    row_of,
    space_of,
)
from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.terms import write_terms
from substrate.values.memory import Counter, Row, Space
from substrate.values.records import Checkpoint, Written

_IN_SPACE = " AND ".join(f"{name} = :{name}" for name in SPACE_COLUMNS)

_INSERT_NAMESPACE = f"""
INSERT INTO namespaces (tenant, ns, branch, part, {", ".join(COUNTER_FIELDS)})
VALUES (:tenant, :ns, :branch, :part, {", ".join("0" for _ in COUNTER_FIELDS)})
    ON CONFLICT (tenant, ns, branch, part) DO NOTHING
"""

_SELECT_NAMESPACE = f"""
SELECT tenant, ns, branch, {", ".join(COUNTER_FIELDS)}
  FROM namespaces
 WHERE {_IN_SPACE}
"""

_COUNT = f"""
UPDATE namespaces
   SET {", ".join(f"{name} = :{name}" for name in COUNTER_FIELDS)}
 WHERE {_IN_SPACE}
"""


def _standing(table: Table) -> str:
    return f"""
SELECT {table.read}
  FROM {table.name}
 WHERE {_IN_SPACE} AND gone_n IS NULL
   AND {" AND ".join(f"{name} = :{name}" for name in table.key)}
 ORDER BY n
"""


def _numbered(table: Table) -> str:
    return f"""
SELECT {table.read}
  FROM {table.name}
 WHERE {_IN_SPACE} AND n = :n
"""


def _gone(table: Table) -> str:
    return f"""
SELECT {table.read}
  FROM {table.name}
 WHERE {_IN_SPACE} AND gone_n >= :since
   AND {" AND ".join(f"{name} = :{name}" for name in table.key)}
"""


def _insert(table: Table) -> str:
    return f"""
INSERT INTO {table.name} ({", ".join(table.columns)})
VALUES ({", ".join(f":{name}" for name in table.columns)})
"""


def _close(table: Table) -> str:
    return f"""
UPDATE {table.name}
   SET gone_n = :gone_n, gone_at = :gone_at, gone_by = :gone_by
 WHERE {_IN_SPACE} AND n = :n AND gone_n IS NULL
"""


_DISPUTED = f"""
SELECT {FACTS.read}
  FROM facts
 WHERE {_IN_SPACE} AND gone_n IS NULL AND predicate = :predicate
   AND EXISTS (SELECT 1
                 FROM facts AS other
                WHERE other.tenant = :tenant AND other.ns = :ns AND other.branch = :branch
                  AND other.part = :part AND other.gone_n IS NULL
                  AND other.subject_key = facts.subject_key AND other.predicate = :predicate
                  AND other.object_key <> facts.object_key)
 ORDER BY n
"""

_DECIDED = f"""
SELECT {DECISIONS.read}
  FROM decisions
 WHERE {_IN_SPACE} AND gone_n IS NULL AND predicate = :predicate
"""

_STANDING = {table.name: _standing(table) for table in TABLES}
_GONE = {table.name: _gone(table) for table in TABLES}
_NUMBERED = {table.name: _numbered(table) for table in TABLES}
_INSERT = {table.name: _insert(table) for table in TABLES}
_CLOSE = {table.name: _close(table) for table in TABLES}


_MARK_FOLLOWERS = f"""
UPDATE followers
   SET is_due = 1
 WHERE {_IN_SPACE} AND is_due = 0
"""


def write_memory(db: apsw.Connection, batch: Sequence[MemoryWrite]) -> Answers:
    """Write a batch; see `Memories`. None is one that has to be written without the others."""
    db.execute("SAVEPOINT memory")
    ledger = _ledger(db, [write.wanted for write in batch])
    checkpoints = [Checkpoint(write.fence, write.decide(ledger)) for write in batch]
    _write(db, ledger)
    outcomes = [write_checkpoint(db, offload(checkpoint)) for checkpoint in checkpoints]
    if not all(isinstance(outcome, Written) for outcome in outcomes):
        db.execute("ROLLBACK TO memory")
    db.execute("RELEASE memory")
    return answers_to(checkpoints, outcomes, is_followed=bool(ledger.followed))


def adopt_memory(db: apsw.Connection, adopted: Adopted) -> Answers | None:
    """Write rows that have their numbers already; None where they could not be."""
    ledger = _ledger(db, [adopted.wanted])
    if not adopted.decide(ledger):
        return None
    _write(db, ledger)
    return Answers([], bool(ledger.followed))


def _ledger(db: apsw.Connection, wanted: Sequence[Wanted]) -> Ledger:
    counters = []
    for space in sorted({each.space for each in wanted}):
        db.execute(_INSERT_NAMESPACE, space_of(space))
        counters.append(_counter(db, space) or Counter(space))
    declared = {counter.space for counter in counters if counter.declared}
    return Ledger(
        counters,
        [row for each in wanted for row in _wanted(db, each, is_declared=each.space in declared)],
    )


def _wanted(db: apsw.Connection, wanted: Wanted, *, is_declared: bool) -> Iterator[Row]:
    given = space_of(wanted.space)
    for name, keys in wanted.keys.items():
        if name in IS_DECLARED and not is_declared:
            continue
        table = BY_NAME[name]
        for key in keys:
            asked = given | dict(zip(table.key, key, strict=True))
            yield from (row_of(table, row) for row in db.execute(_STANDING[name], asked))
            if numbers := wanted.numbers.get(name):
                asked["since"] = min(numbers)
                yield from (row_of(table, row) for row in db.execute(_GONE[name], asked))
    for name, numbers in wanted.numbers.items():
        for n in numbers:
            found = db.execute(_NUMBERED[name], given | {"n": n})
            yield from (row_of(BY_NAME[name], row) for row in found)
    if wanted.disputes_of is not None:
        asked = given | {"predicate": wanted.disputes_of}
        yield from (row_of(FACTS, row) for row in db.execute(_DISPUTED, asked))
        yield from (row_of(DECISIONS, row) for row in db.execute(_DECIDED, asked))


def _write(db: apsw.Connection, ledger: Ledger) -> None:
    for name, gone in by_table(ledger.gone).items():
        # Before what stands in their place: one version of a note counts at a time.
        db.executemany(_CLOSE[name], gone)
    for name, added in by_table(ledger.added).items():
        db.executemany(_INSERT[name], added)
    write_terms(db, ledger)
    db.executemany(_MARK_FOLLOWERS, [space_of(each) for each in ledger.followed])
    db.executemany(_COUNT, [counter_parameters(each) for each in ledger.counters])


def read_counter(db: apsw.Connection, space: Space) -> Counter | None:
    """Return how far a namespace has come, or None."""
    return _counter(db, space)


def _counter(db: apsw.Connection, space: Space) -> Counter | None:
    row = db.execute(_SELECT_NAMESPACE, space_of(space)).fetchone()
    return counter_of(row) if row else None


def _number_at(table: Table) -> str:
    return f"""
SELECT n
  FROM (SELECT n
          FROM {table.name}
         WHERE {_IN_SPACE} AND recorded_at <= :known_at
         ORDER BY n DESC
         LIMIT 1) AS written
 UNION ALL
SELECT max(gone_n)
  FROM {table.name}
 WHERE {_IN_SPACE} AND gone_at <= :known_at
"""


# From the newest back: a moment that is not long ago is soon found.
_NUMBER_AT = f"""
SELECT coalesce(max(n), 0)
  FROM ({" UNION ALL ".join(map(_number_at, TABLES))}) AS taken
"""


def read_number_at(db: apsw.Connection, space: Space, known_at: int) -> int:
    """Return the last number that a namespace had taken by a moment; 0: none."""
    found = db.execute(_NUMBER_AT, space_of(space) | {"known_at": known_at}).fetchall()
    return int(found[0][0])  # type: ignore[arg-type]


_SELECT_NAMESPACES = f"""
SELECT tenant, ns, branch, {", ".join(COUNTER_FIELDS)}
  FROM namespaces
 WHERE tenant = :tenant AND ns >= :first AND ns < :end
 ORDER BY ns, branch
 LIMIT :limit
"""


def read_counters(
    db: apsw.Connection, tenant: str, first: str, end: str, limit: int
) -> Sequence[Counter]:
    """Return the namespaces of a tenant from one name to before another."""
    asked = {"tenant": tenant, "first": first, "end": end, "limit": limit}
    return [counter_of(row) for row in db.execute(_SELECT_NAMESPACES, asked)]


# +n: what is asked for narrows more than the number does, which an index has in its order.
_KNOWN = "+n <= :as_of AND (gone_n IS NULL OR gone_n > :as_of)"
_TRUE = "valid_from <= :at AND (valid_to IS NULL OR valid_to > :at)"


def read_rows(db: apsw.Connection, look: Look) -> Sequence[Row]:
    """Return rows of one table, in order of their numbers."""
    table = BY_NAME[look.table]
    given = space_of(look.space) | {f"own_{name}": value for name, value in look.where.items()}
    conditions = [_IN_SPACE, *(f"{name} = :own_{name}" for name in look.where)]
    for name, values in look.among.items():
        conditions.append(f"{name} IN (SELECT value FROM json_each(:among_{name}))")
        given[f"among_{name}"] = orjson.dumps(list(values)).decode()
    if look.as_of is not None and not look.is_of_changes:
        conditions.append(_KNOWN)
    if look.since is not None:
        conditions.append("n > :since")
    if look.at is not None:
        conditions.append(_TRUE)
    order = "+n"
    if look.after is not None:
        conditions.append("n > :after AND n <= :as_of")
        order = "n"
    if look.gone_after is not None:
        conditions.append("gone_n > :gone_after AND gone_n <= :as_of")
        order = "gone_n"
    statement = f"""
SELECT {table.read}
  FROM {table.name}
 WHERE {" AND ".join(conditions)}
 ORDER BY {order}
 LIMIT :limit
"""
    asked = given | {"as_of": look.as_of, "since": look.since, "at": look.at}
    asked |= {"after": look.after, "gone_after": look.gone_after}
    asked["limit"] = look.limit
    return [row_of(table, row) for row in db.execute(statement, asked)]
