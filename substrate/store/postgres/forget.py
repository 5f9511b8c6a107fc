"""Forgetting in Postgres. Each function is one transaction.

The rows of the namespaces are locked first, in their order, and those of a tree's runs in theirs,
so nobody writes there, or reopens a run, between the look and the change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from substrate.store import forgetting, rows
from substrate.store.memory_rows import FACTS, HISTORY, INDEXES, NOTES, TABLES
from substrate.store.postgres import rights
from substrate.store.postgres.promises import load_promises
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import say_tenant
from substrate.values.errors import StoreUnusable
from substrate.values.forgetting import Cut, Tombstone
from substrate.values.ids import RunId, part_of
from substrate.values.memory import Space
from substrate.values.records import Promise

_SELECT_ROOTS = """
SELECT DISTINCT root_id
  FROM runs
 WHERE tenant = %(tenant)s AND root_id > %(after)s
 ORDER BY root_id
 LIMIT %(limit)s
"""


async def read_roots(db: Cursor, tenant: str, after: str, limit: int) -> Sequence[RunId]:
    """Return the roots of trees behind this one, in order."""
    asked = {"tenant": tenant, "after": after, "limit": limit}
    cursor = await db.execute(_SELECT_ROOTS, asked)
    return [RunId(row[0]) for row in await cursor.fetchall()]


def _in_tree(column: str) -> str:
    return f"""part = %(part)s AND ({column} = %(root)s
                         OR ({column} > %(below)s AND {column} < %(beyond)s)
                         OR ({column} >= %(branch)s AND {column} < %(last)s))"""


_SELECT_RUNS = f"""
SELECT id, status
  FROM runs
 WHERE {_in_tree("id")}
 ORDER BY id
"""


async def read_open_runs(db: Cursor, root: RunId) -> Sequence[RunId]:
    """Return the runs of a tree that may go on."""
    return await _open_runs(db, _SELECT_RUNS, root)


async def _open_runs(db: Cursor, statement: str, root: RunId) -> Sequence[RunId]:
    found = await (await db.execute(statement, _tree(root))).fetchall()
    return [RunId(id_) for id_, status in found if status not in forgetting.ENDED]


_SELECT_TREE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE {_in_tree("id")} AND id > %(after)s
 ORDER BY id
 LIMIT %(limit)s
"""


async def read_tree(db: Cursor, root: RunId, after: str, limit: int) -> Sequence[Promise]:
    """Return the promises of a tree behind this id, whole."""
    cursor = await db.execute(_SELECT_TREE, _tree(root) | {"after": after, "limit": limit})
    return await load_promises(db, await cursor.fetchall())


_SELECT_INBOX = f"""
SELECT value
  FROM signals
 WHERE {_in_tree("run_id")}
"""

_SELECT_GATES = f"""
SELECT summary, policy, reason, decided_by
  FROM gates
 WHERE {_in_tree("id")}
"""

_SELECT_RULES = """
SELECT condition, reason
  FROM rules
 WHERE root_id = %(root)s
"""


async def read_beside(db: Cursor, root: RunId) -> Sequence[str]:
    """Return what else a tree has of texts."""
    found: list[Any] = []
    for statement in (_SELECT_INBOX, _SELECT_GATES, _SELECT_RULES):
        found += await (await db.execute(statement, _tree(root))).fetchall()
    return [text for row in found for text in row if text is not None]


_LOCK_RUNS = f"{_SELECT_RUNS}   FOR UPDATE"

_AS_TEXTS = ", ".join(f"{name}::text" for name in forgetting.TEXTS)
_EMPTIED = ", ".join(
    f"{name} = CASE WHEN {name} IS NOT NULL THEN %(mark)s::json END" for name in forgetting.TEXTS
)
_EMPTY_PROMISES = f"""
UPDATE promises
   SET fingerprint = NULL,
       {_EMPTIED}
 WHERE part = %(part)s
   AND id = ANY (ARRAY(
       SELECT id
         FROM promises
        WHERE {_in_tree("id")}
          AND coalesce({_AS_TEXTS}, fingerprint, %(mark)s::text)
              NOT LIKE '{forgetting.EMPTIED}%%'::text
        LIMIT %(limit)s))
"""

DELETES = {
    "signals": f"DELETE FROM signals WHERE {_in_tree('run_id')}",
    "gates": f"DELETE FROM gates WHERE {_in_tree('id')}",
    "rules": "DELETE FROM rules WHERE root_id = %(root)s",
    "blobs": "DELETE FROM blobs WHERE root_id = %(root)s AND part = %(part)s",
}


async def empty_tree(db: Cursor, id_: str, root: RunId, limit: int) -> bool | None:
    """Take contents out of a tree that has ended; return whether that was all. None if it lives."""
    async with db.connection.transaction():
        if await _open_runs(db, _LOCK_RUNS, root):
            return None
        asked = _tree(root) | {"mark": forgetting.mark(id_)}
        counts = {"promises": await _count(db, _EMPTY_PROMISES, asked | {"limit": limit})}
        is_all = counts["promises"] < limit
        if is_all:
            for table, statement in DELETES.items():
                counts[table] = await _count(db, statement, asked)
        await _add(db, id_, counts)
        return is_all


_LOCK_NAMESPACE = """
SELECT last_n
  FROM namespaces
 WHERE tenant = %(tenant)s AND ns = %(ns)s AND part = %(part)s
 ORDER BY branch
   FOR UPDATE
"""

_INSERT_TOMBSTONE = """
INSERT INTO tombstones (id, tenant, kind, left_to_do, counts, begun_at)
VALUES (%(id)s, %(tenant)s, %(kind)s, %(left_to_do)s::json, %(counts)s::json, %(now)s)
"""


async def begin_forgetting(db: Cursor, tombstone: Tombstone, now: int) -> bool:
    """Delete what goes of memory, and write the tombstone; False where something has changed."""
    counts: dict[str, int] = {}
    async with db.connection.transaction():
        await say_tenant(db, tombstone.tenant)
        for cut in sorted(tombstone.cuts, key=lambda each: each.ns):
            cursor = await db.execute(_LOCK_NAMESPACE, _space(tombstone, cut))
            found = await cursor.fetchall()  # that of no branch comes first
            if (found[0][0] if found else 0) != cut.last_n:
                return False
        for cut in tombstone.cuts:
            gone = await _delete(db, _space(tombstone, cut), cut)
            counts = forgetting.added(counts, gone)
        await db.execute(_INSERT_TOMBSTONE, forgetting.row_of(tombstone, counts, now))
    return True


_IN_SPACE = "tenant = %(tenant)s AND ns = %(ns)s AND part = %(part)s"
_ALL = {
    name: f"DELETE FROM {name} WHERE {_IN_SPACE}"
    for name in (*(table.name for table in TABLES), *INDEXES, "vectors", "embedders")
}
_SOME = {
    name: f"""
DELETE FROM {name}
 WHERE {_IN_SPACE} AND branch = ''::text AND n = ANY (%(numbers)s::bigint[])
"""
    for name in (*(table.name for table in TABLES), "vectors")
}
_SOME_INDEXED = {
    name: f"""
DELETE FROM {name}
 WHERE {_IN_SPACE} AND branch = ''::text AND doc = ANY (%(docs)s::bigint[])
"""
    for name in INDEXES
}

# Of these texts, those that other rows still have; and since when none of those rows stands.
_SELECT_LEFT = f"""
SELECT doc, CASE WHEN bool_and(gone_n IS NOT NULL) THEN max(gone_n) END
  FROM ({
    " UNION ALL ".join(
        f"SELECT doc, gone_n FROM {table.name} WHERE {_IN_SPACE} AND branch = ''::text"
        " AND doc = ANY (%(docs)s::bigint[])"
        for table in (NOTES, FACTS, HISTORY)
    )
}) AS told
 GROUP BY doc
"""

_END_INDEXED = {
    name: f"""
UPDATE {name}
   SET gone_n = %(gone_n)s
 WHERE {_IN_SPACE} AND branch = ''::text AND doc = %(doc)s AND gone_n IS NULL
"""
    for name in INDEXES
}

_RECOUNT = f"""
UPDATE namespaces AS known
   SET docs = told.docs, words = told.words
  FROM (SELECT count(*) AS docs, coalesce(sum(length), 0::numeric)::bigint AS words
          FROM (SELECT max(words) AS length
                  FROM terms
                 WHERE {_IN_SPACE} AND branch = ''::text AND gone_n IS NULL
                 GROUP BY doc) AS standing) AS told
 WHERE {_IN_SPACE} AND branch = ''::text
"""

# A word that stands in no text any more is somebody's word, too.
_SAME_TERM = " AND ".join(
    f"terms.{name} = term_counts.{name}" for name in ("tenant", "ns", "branch", "term", "part")
)
_FORGET_COUNTS = f"""
DELETE FROM term_counts
 WHERE {_IN_SPACE} AND NOT EXISTS (SELECT 1 FROM terms WHERE {_SAME_TERM})
"""
_COUNT_AGAIN = f"""
UPDATE term_counts
   SET docs = (SELECT count(*) FROM terms WHERE {_SAME_TERM} AND gone_n IS NULL)
 WHERE {_IN_SPACE}
"""


async def _delete(db: Cursor, space: dict[str, Any], cut: Cut) -> dict[str, int]:
    if cut.numbers is None:
        counts = {name: await _count(db, statement, space) for name, statement in _ALL.items()}
    else:
        asked = space | {"numbers": list(cut.numbers), "docs": list(cut.docs)}
        counts = {name: await _count(db, statement, asked) for name, statement in _SOME.items()}
        found = await (await db.execute(_SELECT_LEFT, asked)).fetchall()
        left: dict[int, int | None] = dict(found)
        gone = space | {"docs": [each for each in cut.docs if each not in left]}
        for name, statement in _SOME_INDEXED.items():
            counts[name] = await _count(db, statement, gone)
        for doc, gone_n in left.items():
            if gone_n is not None:
                for statement in _END_INDEXED.values():
                    await db.execute(statement, space | {"doc": doc, "gone_n": gone_n})
    for statement in (_RECOUNT, _FORGET_COUNTS, _COUNT_AGAIN):
        await db.execute(statement, space)
    return counts


_SELECT_UNFINISHED = """
SELECT id, tenant, kind, left_to_do
  FROM tombstones
 WHERE left_to_do IS NOT NULL
 ORDER BY begun_at, id
"""


async def read_unfinished(db: Cursor) -> Sequence[Tombstone]:
    """Return what has begun and not ended, the oldest first.

    It is what a forgetting asks first: whoever may not do all of it is told so before he begins.
    """
    found = await (await db.execute(rights.LOOK_FORGETTING)).fetchone()
    if grant := rights.missing(found or (), rights.FORGETTING):
        raise StoreUnusable(
            "the user of this database may not forget, and nothing was changed: the owner of the "
            f"tables may, or who has also {grant} TO its user"
        )
    open_ = await (await db.execute(_SELECT_UNFINISHED)).fetchall()
    return [forgetting.tombstone_of(*row) for row in open_]


_LOCK_COUNTS = "SELECT counts FROM tombstones WHERE id = %(id)s FOR UPDATE"
_WRITE_COUNTS = "UPDATE tombstones SET counts = %(counts)s::json WHERE id = %(id)s"
_END = """
UPDATE tombstones
   SET left_to_do = NULL, ended_at = %(now)s
 WHERE id = %(id)s
RETURNING counts
"""


async def end_forgetting(db: Cursor, id_: str, now: int) -> Mapping[str, int]:
    """Say that nothing is left to do; return what is counted."""
    row = await (await db.execute(_END, {"id": id_, "now": now})).fetchone()
    counts: dict[str, int] = orjson.loads(row[0]) if row else {}
    return counts


async def _add(db: Cursor, id_: str, more: Mapping[str, int]) -> None:
    row = await (await db.execute(_LOCK_COUNTS, {"id": id_})).fetchone()
    counts = forgetting.added(orjson.loads(row[0]) if row else {}, more)
    await db.execute(_WRITE_COUNTS, {"id": id_, "counts": orjson.dumps(counts).decode()})


async def _count(db: Cursor, statement: str, given: dict[str, Any]) -> int:
    """Execute a statement; return how many rows it has changed."""
    return (await db.execute(statement, given)).rowcount


def _space(tombstone: Tombstone, cut: Cut) -> dict[str, Any]:
    space = Space(tombstone.tenant, cut.ns)
    return {"tenant": space.tenant, "ns": space.ns, "part": space.part}


def _tree(root: RunId) -> dict[str, Any]:
    return forgetting.bounds(root) | {"part": part_of(root)}
