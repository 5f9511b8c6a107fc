"""Memory in Postgres: the rows of a batch of writes, and their promises, in one transaction.

The rows of the namespaces are locked first, in their order, and those of the runs last, in theirs.
So two batches never wait for each other, and a batch of steps, which waits for no lock, never for
one of these. Each function is one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from psycopg import Rollback

from substrate.store.blobs import offload
from substrate.store.ledger import Ledger, MemoryWrite, Wanted
from substrate.store.memory_rows import (
    BY_NAME,
    COUNTER_FIELDS,
    FACTS,
    HISTORY,
    LINKS,
    NOTES,
    SPACE_COLUMNS,
    TABLES,
    Look,
    Table,
    answers_to,
    by_table,
    counter_of,
    counter_parameters,
    row_of,
    space_of,
)
from substrate.store.postgres.fenced_commit import write_batch
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.terms import write_terms
from substrate.values.memory import Counter, Row, Space
from substrate.values.records import Checkpoint, Fenced, Promise, Written

_SPACE = "tenant text, ns text, branch text, part integer"
_SAME_SPACE = " AND ".join(f"known.{name} = given.{name}" for name in SPACE_COLUMNS)
_IN_SPACE = " AND ".join(f"{name} = %({name})s" for name in SPACE_COLUMNS)
_COUNTER = ", ".join(f"{name} bigint" for name in COUNTER_FIELDS)

# It makes them and locks them, in the order of their names.
_LOCK_NAMESPACES = f"""
INSERT INTO namespaces AS known (tenant, ns, branch, part, last_n, last_at, docs, words)
SELECT tenant, ns, branch, part, 0, 0, 0, 0
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE})
 ORDER BY tenant, ns, branch
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET last_n = known.last_n
RETURNING tenant, ns, branch, {", ".join(f"known.{name}" for name in COUNTER_FIELDS)}
"""

_COUNT = f"""
UPDATE namespaces AS known
   SET {", ".join(f"{name} = given.{name}" for name in COUNTER_FIELDS)}
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE}, {_COUNTER})
 WHERE {_SAME_SPACE}
"""


def _standing(table: Table) -> str:
    keys = ", ".join(f"{name} {table.types[name]}" for name in table.key)
    same = " AND ".join(f"{table.name}.{name} = given.{name}" for name in table.key)
    return f"""
SELECT {table.read}
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE}, {keys})
  JOIN {table.name}
    ON {_SAME_SPACE.replace("known", table.name)} AND {same}
 WHERE gone_n IS NULL
 ORDER BY n
"""


def _numbered(table: Table) -> str:
    return f"""
SELECT {table.read}
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE}, n bigint)
  JOIN {table.name}
    ON {_SAME_SPACE.replace("known", table.name)} AND {table.name}.n = given.n
"""


def _gone(table: Table) -> str:
    keys = ", ".join(f"{name} {table.types[name]}" for name in table.key)
    same = " AND ".join(f"{table.name}.{name} = given.{name}" for name in table.key)
    return f"""
SELECT {table.read}
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE}, {keys}, since bigint)
  JOIN {table.name}
    ON {_SAME_SPACE.replace("known", table.name)} AND {same} AND gone_n >= since
"""


def _insert(table: Table) -> str:
    types = ", ".join(f"{name} {type_}" for name, type_ in table.types.items())
    # null is a value here, which a record set would make none.
    given = [f"coalesce({n}, 'null')" if t == "json" else n for n, t in table.types.items()]
    return f"""
INSERT INTO {table.name} ({", ".join(table.columns)})
SELECT {", ".join(given)}
  FROM json_to_recordset(%(given)s::json) AS given ({types})
"""


def _close(table: Table) -> str:
    return f"""
UPDATE {table.name} AS known
   SET gone_n = given.gone_n, gone_at = given.gone_at, gone_by = given.gone_by
  FROM json_to_recordset(%(given)s::json) AS given (
       {_SPACE}, n bigint, gone_n bigint, gone_at bigint, gone_by text)
 WHERE {_SAME_SPACE} AND known.n = given.n AND known.gone_n IS NULL
"""


_STANDING_NOTES, _STANDING_FACTS, _STANDING_LINKS = map(_standing, (NOTES, FACTS, LINKS))
_GONE_NOTES, _GONE_FACTS, _GONE_LINKS = map(_gone, (NOTES, FACTS, LINKS))
_NUMBERED_NOTES, _NUMBERED_FACTS, _NUMBERED_LINKS, _NUMBERED_HISTORY = map(
    _numbered, (NOTES, FACTS, LINKS, HISTORY)
)
_INSERT_NOTES, _INSERT_FACTS, _INSERT_LINKS, _INSERT_HISTORY = map(
    _insert, (NOTES, FACTS, LINKS, HISTORY)
)
_CLOSE_NOTES, _CLOSE_FACTS, _CLOSE_LINKS, _CLOSE_HISTORY = map(
    _close, (NOTES, FACTS, LINKS, HISTORY)
)

_STANDING: Mapping[str, str] = {
    "notes": _STANDING_NOTES,
    "facts": _STANDING_FACTS,
    "links": _STANDING_LINKS,
}
_GONE: Mapping[str, str] = {
    "notes": _GONE_NOTES,
    "facts": _GONE_FACTS,
    "links": _GONE_LINKS,
}
_NUMBERED: Mapping[str, str] = {
    "notes": _NUMBERED_NOTES,
    "facts": _NUMBERED_FACTS,
    "links": _NUMBERED_LINKS,
    "history": _NUMBERED_HISTORY,
}
_INSERT: Mapping[str, str] = {
    "notes": _INSERT_NOTES,
    "facts": _INSERT_FACTS,
    "links": _INSERT_LINKS,
    "history": _INSERT_HISTORY,
}
_CLOSE: Mapping[str, str] = {
    "notes": _CLOSE_NOTES,
    "facts": _CLOSE_FACTS,
    "links": _CLOSE_LINKS,
    "history": _CLOSE_HISTORY,
}


async def write_memory(
    db: Cursor, batch: Sequence[MemoryWrite]
) -> Sequence[Promise | Fenced | None]:
    """Write a batch; see `Memories`. None is one that has to be written without the others."""
    async with db.connection.transaction() as transaction:
        ledger = await _ledger(db, [write.wanted for write in batch])
        checkpoints = [Checkpoint(write.fence, write.decide(ledger)) for write in batch]
        await _write(db, ledger)
        light = [offload(checkpoint) for checkpoint in checkpoints]
        outcomes = await write_batch(db, light, wait=True)
        if not all(isinstance(outcome, Written) for outcome in outcomes):
            raise Rollback(transaction)
    return answers_to(checkpoints, outcomes)


async def _ledger(db: Cursor, wanted: Sequence[Wanted]) -> Ledger:
    spaces = [space_of(space) for space in sorted({each.space for each in wanted})]
    counters = [counter_of(row) for row in await _ask(db, _LOCK_NAMESPACES, spaces)]
    keys: dict[str, list[dict[str, Any]]] = {}
    gone: dict[str, list[dict[str, Any]]] = {}
    numbers: dict[str, list[dict[str, Any]]] = {}
    for each in wanted:
        given = space_of(each.space)
        for name, asked in each.keys.items():
            named = [given | dict(zip(BY_NAME[name].key, key, strict=True)) for key in asked]
            keys[name] = _distinct([*keys.get(name, ()), *named])
            if some := each.numbers.get(name):
                since = [key | {"since": min(some)} for key in named]
                gone[name] = _distinct([*gone.get(name, ()), *since])
        for name, some in each.numbers.items():
            numbers[name] = _distinct([*numbers.get(name, ()), *(given | {"n": n} for n in some)])
    found: list[Row] = []
    for statements, lists in ((_STANDING, keys), (_GONE, gone), (_NUMBERED, numbers)):
        for name, asked_for in lists.items():
            if asked_for:
                rows_ = await _ask(db, statements[name], asked_for)
                found += [row_of(BY_NAME[name], row) for row in rows_]
    return Ledger(counters, found)


def _distinct(given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({tuple(each.values()): each for each in given}.values())


async def _write(db: Cursor, ledger: Ledger) -> None:
    for name, gone in by_table(ledger.gone).items():
        # Before what stands in their place: one version of a note counts at a time.
        await _send(db, _CLOSE[name], gone)
    for name, added in by_table(ledger.added).items():
        await _send(db, _INSERT[name], added)
    await write_terms(db, ledger)
    await _send(db, _COUNT, [counter_parameters(each) for each in ledger.counters])


async def _send(db: Cursor, statement: str, given: Sequence[dict[str, Any]]) -> None:
    if given:
        await db.execute(statement, {"given": _json(given)})


async def _ask(db: Cursor, statement: str, given: Sequence[dict[str, Any]]) -> list[Any]:
    cursor = await db.execute(statement, {"given": _json(given)})
    return await cursor.fetchall()


def _json(given: Sequence[dict[str, Any]]) -> str:
    """Return parameters as JSON; the value of a fact goes in as the JSON it is."""
    for each in given:
        if "object" in each:
            each["object"] = orjson.Fragment(each["object"])
    return orjson.dumps(given).decode()


_SELECT_NAMESPACE = f"""
SELECT tenant, ns, branch, {", ".join(COUNTER_FIELDS)}
  FROM namespaces
 WHERE {_IN_SPACE}
"""


async def read_counter(db: Cursor, space: Space) -> Counter | None:
    """Return how far a namespace has come, or None."""
    row = await (await db.execute(_SELECT_NAMESPACE, space_of(space))).fetchone()
    return counter_of(row) if row else None


def _number_at(table: Table) -> str:
    return f"""
SELECT n
  FROM (SELECT n
          FROM {table.name}
         WHERE {_IN_SPACE} AND recorded_at <= %(known_at)s
         ORDER BY n DESC
         LIMIT 1) AS written
 UNION ALL
SELECT max(gone_n)
  FROM {table.name}
 WHERE {_IN_SPACE} AND gone_at <= %(known_at)s
"""


# From the newest back: a moment that is not long ago is soon found.
_NUMBER_AT = f"""
SELECT coalesce(max(n), 0)
  FROM ({" UNION ALL ".join(map(_number_at, TABLES))}) AS taken
"""


async def read_number_at(db: Cursor, space: Space, known_at: int) -> int:
    """Return the last number that a namespace had taken by a moment; 0: none."""
    cursor = await db.execute(_NUMBER_AT, space_of(space) | {"known_at": known_at})
    return int((await cursor.fetchall())[0][0])


_SELECT_NAMESPACES = f"""
SELECT tenant, ns, branch, {", ".join(COUNTER_FIELDS)}
  FROM namespaces
 WHERE tenant = %(tenant)s AND ns >= %(first)s AND ns < %(end)s
 ORDER BY ns, branch
 LIMIT %(limit)s
"""


async def read_counters(
    db: Cursor, tenant: str, first: str, end: str, limit: int
) -> Sequence[Counter]:
    """Return the namespaces of a tenant from one name to before another."""
    asked = {"tenant": tenant, "first": first, "end": end, "limit": limit}
    found = await (await db.execute(_SELECT_NAMESPACES, asked)).fetchall()
    return [counter_of(row) for row in found]


_KNOWN = "n <= %(as_of)s AND (gone_n IS NULL OR gone_n > %(as_of)s)"
_TRUE = "valid_from <= %(at)s AND (valid_to IS NULL OR valid_to > %(at)s)"


async def read_rows(db: Cursor, look: Look) -> Sequence[Row]:
    """Return rows of one table, in order of their numbers."""
    table = BY_NAME[look.table]
    given = space_of(look.space) | {f"own_{name}": value for name, value in look.where.items()}
    conditions = [_IN_SPACE, *(f"{name} = %(own_{name})s" for name in look.where)]
    for name, values in look.among.items():
        type_ = table.types[name]
        conditions.append(f"{name} = ANY (%(among_{name})s::{type_}[])")
        given[f"among_{name}"] = list(values)
    if look.as_of is not None:
        conditions.append(_KNOWN)
    if look.since is not None:
        conditions.append("n > %(since)s")
    if look.at is not None:
        conditions.append(_TRUE)
    # By itself first: in the order of an index by numbers it would look through them all.
    statement = f"""
WITH found AS MATERIALIZED (
    SELECT {table.read}
      FROM {table.name}
     WHERE {" AND ".join(conditions)}
)
SELECT *
  FROM found
 ORDER BY n
 LIMIT %(limit)s
"""
    asked = given | {"as_of": look.as_of, "since": look.since, "at": look.at}
    asked["limit"] = look.limit
    found = await (await db.execute(statement, asked)).fetchall()
    return [row_of(table, row) for row in found]
