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
from substrate.store.ledger import Adopted, Ledger, MemoryWrite, Wanted
from substrate.store.memory_rows import (
    BALLOTS,
    BY_NAME,
    COUNTER_FIELDS,
    DECISIONS,
    FACTS,
    HISTORY,
    IS_DECLARED,
    JSON_COLUMNS,
    LINKS,
    MOTIONS,
    NOTES,
    POLICIES,
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
from substrate.store.postgres.fenced_commit import write_batch
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import in_index_order, of_tenant, say_tenant
from substrate.store.postgres.terms import write_terms
from substrate.values.memory import Counter, Row, Space
from substrate.values.records import Checkpoint, Written

_SPACE = "tenant text, ns text, branch text, part integer"
_SAME_SPACE = " AND ".join(f"known.{name} = given.{name}" for name in SPACE_COLUMNS)
_IN_SPACE = " AND ".join(f"{name} = %({name})s" for name in SPACE_COLUMNS)
_COUNTER = ", ".join(f"{name} bigint" for name in COUNTER_FIELDS)

# It makes them and locks them, in the order of their names.
_LOCK_NAMESPACES = f"""
INSERT INTO namespaces AS known (tenant, ns, branch, part, {", ".join(COUNTER_FIELDS)})
SELECT tenant, ns, branch, part, {", ".join("0" for _ in COUNTER_FIELDS)}
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
_GONE_POLICIES, _GONE_DECISIONS = map(_gone, (POLICIES, DECISIONS))
_GONE_MOTIONS, _GONE_BALLOTS = map(_gone, (MOTIONS, BALLOTS))
_STANDING_POLICIES, _STANDING_DECISIONS = map(_standing, (POLICIES, DECISIONS))
_STANDING_MOTIONS, _STANDING_BALLOTS = map(_standing, (MOTIONS, BALLOTS))
_NUMBERED_NOTES, _NUMBERED_FACTS, _NUMBERED_LINKS, _NUMBERED_HISTORY = map(
    _numbered, (NOTES, FACTS, LINKS, HISTORY)
)
_NUMBERED_POLICIES, _NUMBERED_DECISIONS = map(_numbered, (POLICIES, DECISIONS))
_NUMBERED_MOTIONS, _NUMBERED_BALLOTS = map(_numbered, (MOTIONS, BALLOTS))
_INSERT_NOTES, _INSERT_FACTS, _INSERT_LINKS, _INSERT_HISTORY = map(
    _insert, (NOTES, FACTS, LINKS, HISTORY)
)
_INSERT_POLICIES, _INSERT_DECISIONS = map(_insert, (POLICIES, DECISIONS))
_INSERT_MOTIONS, _INSERT_BALLOTS = map(_insert, (MOTIONS, BALLOTS))
_CLOSE_NOTES, _CLOSE_FACTS, _CLOSE_LINKS, _CLOSE_HISTORY = map(
    _close, (NOTES, FACTS, LINKS, HISTORY)
)
_CLOSE_POLICIES, _CLOSE_DECISIONS = map(_close, (POLICIES, DECISIONS))
_CLOSE_MOTIONS, _CLOSE_BALLOTS = map(_close, (MOTIONS, BALLOTS))

_STANDING: Mapping[str, str] = {
    "notes": _STANDING_NOTES,
    "facts": _STANDING_FACTS,
    "links": _STANDING_LINKS,
    "policies": _STANDING_POLICIES,
    "decisions": _STANDING_DECISIONS,
    "motions": _STANDING_MOTIONS,
    "ballots": _STANDING_BALLOTS,
}
_GONE: Mapping[str, str] = {
    "notes": _GONE_NOTES,
    "facts": _GONE_FACTS,
    "links": _GONE_LINKS,
    "policies": _GONE_POLICIES,
    "decisions": _GONE_DECISIONS,
    "motions": _GONE_MOTIONS,
    "ballots": _GONE_BALLOTS,
}
_NUMBERED: Mapping[str, str] = {
    "notes": _NUMBERED_NOTES,
    "facts": _NUMBERED_FACTS,
    "links": _NUMBERED_LINKS,
    "history": _NUMBERED_HISTORY,
    "policies": _NUMBERED_POLICIES,
    "decisions": _NUMBERED_DECISIONS,
    "motions": _NUMBERED_MOTIONS,
    "ballots": _NUMBERED_BALLOTS,
}
_INSERT: Mapping[str, str] = {
    "notes": _INSERT_NOTES,
    "facts": _INSERT_FACTS,
    "links": _INSERT_LINKS,
    "history": _INSERT_HISTORY,
    "policies": _INSERT_POLICIES,
    "decisions": _INSERT_DECISIONS,
    "motions": _INSERT_MOTIONS,
    "ballots": _INSERT_BALLOTS,
}
_CLOSE: Mapping[str, str] = {
    "notes": _CLOSE_NOTES,
    "facts": _CLOSE_FACTS,
    "links": _CLOSE_LINKS,
    "history": _CLOSE_HISTORY,
    "policies": _CLOSE_POLICIES,
    "decisions": _CLOSE_DECISIONS,
    "motions": _CLOSE_MOTIONS,
    "ballots": _CLOSE_BALLOTS,
}

_DISPUTED = f"""
SELECT {FACTS.read}
  FROM facts
 WHERE {_IN_SPACE} AND gone_n IS NULL AND predicate = %(predicate)s
   AND EXISTS (SELECT 1
                 FROM facts AS other
                WHERE other.tenant = %(tenant)s AND other.ns = %(ns)s
                  AND other.branch = %(branch)s AND other.part = %(part)s
                  AND other.gone_n IS NULL AND other.subject_key = facts.subject_key
                  AND other.predicate = %(predicate)s AND other.object_key <> facts.object_key)
 ORDER BY n
"""

_DECIDED = f"""
SELECT {DECISIONS.read}
  FROM decisions
 WHERE {_IN_SPACE} AND gone_n IS NULL AND predicate = %(predicate)s
"""


_MARK_FOLLOWERS = f"""
UPDATE followers
   SET is_due = 1
 WHERE {_IN_SPACE} AND is_due = 0
"""


async def write_memory(db: Cursor, batch: Sequence[MemoryWrite]) -> Answers:
    """Write a batch; see `Memories`. None is one that has to be written without the others."""
    async with db.connection.transaction() as transaction:
        await say_tenant(db, batch[0].wanted.space.tenant)  # all are of one: see `Memories`
        ledger = await _ledger(db, [write.wanted for write in batch])
        checkpoints = [Checkpoint(write.fence, write.decide(ledger)) for write in batch]
        await _write(db, ledger)
        light = [offload(checkpoint) for checkpoint in checkpoints]
        outcomes = await write_batch(db, light, wait=True)
        if not all(isinstance(outcome, Written) for outcome in outcomes):
            raise Rollback(transaction)
    return answers_to(checkpoints, outcomes, is_followed=bool(ledger.followed))


async def adopt_memory(db: Cursor, adopted: Adopted) -> Answers | None:
    """Write rows that have their numbers already; None where they could not be."""
    async with db.connection.transaction():
        await say_tenant(db, adopted.wanted.space.tenant)
        ledger = await _ledger(db, [adopted.wanted])
        if not adopted.decide(ledger):
            return None
        await _write(db, ledger)
    return Answers([], bool(ledger.followed))


async def _ledger(db: Cursor, wanted: Sequence[Wanted]) -> Ledger:
    spaces = [space_of(space) for space in sorted({each.space for each in wanted})]
    counters = [counter_of(row) for row in await _ask(db, _LOCK_NAMESPACES, spaces)]
    declared = {counter.space for counter in counters if counter.declared}
    keys: dict[str, list[dict[str, Any]]] = {}
    gone: dict[str, list[dict[str, Any]]] = {}
    numbers: dict[str, list[dict[str, Any]]] = {}
    found: list[Row] = []
    for each in wanted:
        given = space_of(each.space)
        if each.disputes_of is not None:
            found += await _disputes(db, given | {"predicate": each.disputes_of})
        for name, asked in each.keys.items():
            if name in IS_DECLARED and each.space not in declared:
                continue
            named = [given | dict(zip(BY_NAME[name].key, key, strict=True)) for key in asked]
            keys[name] = _distinct([*keys.get(name, ()), *named])
            if some := each.numbers.get(name):
                since = [key | {"since": min(some)} for key in named]
                gone[name] = _distinct([*gone.get(name, ()), *since])
        for name, some in each.numbers.items():
            numbers[name] = _distinct([*numbers.get(name, ()), *(given | {"n": n} for n in some)])
    for statements, lists in ((_STANDING, keys), (_GONE, gone), (_NUMBERED, numbers)):
        for name, asked_for in lists.items():
            if asked_for:
                rows_ = await _ask(db, statements[name], asked_for)
                found += [row_of(BY_NAME[name], row) for row in rows_]
    return Ledger(counters, found)


async def _disputes(db: Cursor, asked: Mapping[str, Any]) -> list[Row]:
    facts = await (await db.execute(_DISPUTED, asked)).fetchall()
    decisions = await (await db.execute(_DECIDED, asked)).fetchall()
    return [
        *(row_of(FACTS, row) for row in facts),
        *(row_of(DECISIONS, row) for row in decisions),
    ]


def _distinct(given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({tuple(each.values()): each for each in given}.values())


async def _write(db: Cursor, ledger: Ledger) -> None:
    for name, gone in by_table(ledger.gone).items():
        # Before what stands in their place: one version of a note counts at a time.
        await _send(db, _CLOSE[name], gone)
    for name, added in by_table(ledger.added).items():
        await _send(db, _INSERT[name], added)
    await write_terms(db, ledger)
    for each in ledger.followed:
        await db.execute(_MARK_FOLLOWERS, space_of(each))
    await _send(db, _COUNT, [counter_parameters(each) for each in ledger.counters])


async def _send(db: Cursor, statement: str, given: Sequence[dict[str, Any]]) -> None:
    if given:
        await db.execute(statement, {"given": _json(given)})


async def _ask(db: Cursor, statement: str, given: Sequence[dict[str, Any]]) -> list[Any]:
    cursor = await db.execute(statement, {"given": _json(given)})
    return await cursor.fetchall()


def _json(given: Sequence[dict[str, Any]]) -> str:
    """Return parameters as JSON; what is JSON itself, as the value of a fact, goes in as it is."""
    for each in given:
        for name in JSON_COLUMNS & each.keys():
            each[name] = orjson.Fragment(each[name])
    return orjson.dumps(given).decode()


_SELECT_NAMESPACE = f"""
SELECT tenant, ns, branch, {", ".join(COUNTER_FIELDS)}
  FROM namespaces
 WHERE {_IN_SPACE}
"""


async def read_counter(db: Cursor, space: Space) -> Counter | None:
    """Return how far a namespace has come, or None."""
    async with of_tenant(db, space.tenant):
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
    async with of_tenant(db, space.tenant):
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
    async with of_tenant(db, tenant):
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
        given[f"among_{name}"] = list(dict.fromkeys(values))
        if not _is_in_order(look, name):
            conditions.append(f"{name} = ANY (%(among_{name})s::{table.types[name]}[])")
    if look.as_of is not None and not look.is_of_changes:
        conditions.append(_KNOWN)
    if look.since is not None:
        conditions.append("n > %(since)s")
    if look.at is not None:
        conditions.append(_TRUE)
    asked = given | {"as_of": look.as_of, "since": look.since, "at": look.at}
    asked |= {"limit": look.limit, "after": look.after, "gone_after": look.gone_after}
    if look.is_of_changes:
        return await _changes(
            db, table, conditions, asked, "n" if look.after is not None else "gone_n"
        )
    selected = f"SELECT {table.read} FROM {table.name} WHERE {' AND '.join(conditions)}"
    ordered = [name for name in look.among if _is_in_order(look, name)]
    for name in ordered:
        # A range of one, since what is equal needs no order, and so no index that has it.
        selected = f"""
SELECT each.*
  FROM pg_catalog.unnest(%(among_{name})s::{table.types[name]}[]) AS given (asked)
 CROSS JOIN LATERAL (
    {selected} AND {name} >= asked AND {name} <= asked
     ORDER BY {table.name}.{name}
    OFFSET 0) AS each
"""
    # By itself first: in the order of an index by numbers it would look through them all.
    statement = f"""
WITH found AS MATERIALIZED ({selected})
SELECT *
  FROM found
 ORDER BY n
 LIMIT %(limit)s
"""
    seen = in_index_order if ordered else of_tenant
    async with seen(db, look.space.tenant):
        found = await (await db.execute(statement, asked)).fetchall()
    return [row_of(table, row) for row in found]


def _is_in_order(look: Look, name: str) -> bool:
    """Say whether an index of the table has a namespace in the order of this column."""
    is_one = len(look.among) == 1 and not look.is_of_changes
    return is_one and (name == "n" or (look.table, name) == (FACTS.name, "doc"))


async def _changes(
    db: Cursor, table: Table, conditions: Sequence[str], asked: Mapping[str, Any], number: str
) -> Sequence[Row]:
    """Return what has come, or what has gone, between two numbers, in the order of an index."""
    after = "after" if number == "n" else "gone_after"
    statement = f"""
SELECT {table.read}
  FROM {table.name}
 WHERE {" AND ".join(conditions)} AND {number} > %({after})s AND {number} <= %(as_of)s
 ORDER BY {number}
 LIMIT %(limit)s
"""
    async with of_tenant(db, asked["tenant"]):
        found = await (await db.execute(statement, asked)).fetchall()
    return [row_of(table, row) for row in found]
