"""Forgetting in SQLite: each function runs inside one transaction that its caller opened."""

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import orjson

from substrate.store import forgetting, rows
from substrate.store.memory_rows import FACTS, HISTORY, INDEXES, NOTES, TABLES
from substrate.store.sqlite.promises import load_promises
from substrate.values.forgetting import Cut, Tombstone
from substrate.values.ids import RunId, part_of
from substrate.values.memory import Space
from substrate.values.records import Promise

_SELECT_ROOTS = """
SELECT DISTINCT root_id
  FROM runs
 WHERE tenant = :tenant AND root_id > :after
 ORDER BY root_id
 LIMIT :limit
"""


def read_roots(db: apsw.Connection, tenant: str, after: str, limit: int) -> Sequence[RunId]:
    """Return the roots of trees behind this one, in order."""
    asked = {"tenant": tenant, "after": after, "limit": limit}
    found = db.execute(_SELECT_ROOTS, asked)
    return [RunId(row[0]) for row in found]


def _in_tree(column: str) -> str:
    return f"""part = :part AND ({column} = :root OR ({column} > :below AND {column} < :beyond)
                      OR ({column} >= :branch AND {column} < :last))"""


_SELECT_RUNS = f"""
SELECT id, status
  FROM runs
 WHERE {_in_tree("id")}
 ORDER BY id
"""


def read_open_runs(db: apsw.Connection, root: RunId) -> Sequence[RunId]:
    """Return the runs of a tree that may go on."""
    found = db.execute(_SELECT_RUNS, _tree(root)).fetchall()
    return [RunId(str(id_)) for id_, status in found if status not in forgetting.ENDED]


_SELECT_TREE = f"""
SELECT {rows.PROMISE_COLUMNS}
  FROM promises
 WHERE {_in_tree("id")} AND id > :after
 ORDER BY id
 LIMIT :limit
"""


def read_tree(db: apsw.Connection, root: RunId, after: str, limit: int) -> Sequence[Promise]:
    """Return the promises of a tree behind this id, whole."""
    asked = _tree(root) | {"after": after, "limit": limit}
    return load_promises(db, db.execute(_SELECT_TREE, asked))


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
 WHERE root_id = :root
"""


def read_beside(db: apsw.Connection, root: RunId) -> Sequence[str]:
    """Return what else a tree has of texts."""
    asked = _tree(root)
    found = [
        *db.execute(_SELECT_INBOX, asked),
        *db.execute(_SELECT_GATES, asked),
        *db.execute(_SELECT_RULES, asked),
    ]
    return [text for row in found for text in row if text is not None]


_EMPTY_PROMISES = f"""
UPDATE promises
   SET fingerprint = NULL,
       {", ".join(f"{name} = iif({name} IS NULL, NULL, :mark)" for name in forgetting.TEXTS)}
 WHERE rowid IN (SELECT rowid
                   FROM promises
                  WHERE {_in_tree("id")}
                    AND substr(coalesce({", ".join(forgetting.TEXTS)}, fingerprint, :emptied),
                               1, length(:emptied)) <> :emptied
                  LIMIT :limit)
"""

DELETES = {
    "signals": f"DELETE FROM signals WHERE {_in_tree('run_id')}",
    "gates": f"DELETE FROM gates WHERE {_in_tree('id')}",
    "rules": "DELETE FROM rules WHERE root_id = :root",
    "blobs": "DELETE FROM blobs WHERE root_id = :root AND part = :part",
}


def empty_tree(db: apsw.Connection, id_: str, root: RunId, limit: int) -> bool | None:
    """Take contents out of a tree that has ended; return whether that was all. None if it lives."""
    if read_open_runs(db, root):
        return None
    asked = _tree(root) | {"mark": forgetting.mark(id_), "emptied": forgetting.EMPTIED}
    counts = {"promises": _count(db, _EMPTY_PROMISES, asked | {"limit": limit})}
    is_all = counts["promises"] < limit
    if is_all:
        counts |= {table: _count(db, statement, asked) for table, statement in DELETES.items()}
    _add(db, id_, counts)
    return is_all


_SELECT_NAMESPACE = """
SELECT last_n
  FROM namespaces
 WHERE tenant = :tenant AND ns = :ns AND branch = '' AND part = :part
"""

_INSERT_TOMBSTONE = """
INSERT INTO tombstones (id, tenant, kind, left_to_do, counts, begun_at)
VALUES (:id, :tenant, :kind, :left_to_do, :counts, :now)
"""


def begin_forgetting(db: apsw.Connection, tombstone: Tombstone, now: int) -> bool:
    """Delete what goes of memory, and write the tombstone; False where something has changed."""
    counts: dict[str, int] = {}
    for cut in tombstone.cuts:
        found = db.execute(_SELECT_NAMESPACE, _space(tombstone, cut)).fetchall()
        if (found[0][0] if found else 0) != cut.last_n:
            return False
    for cut in tombstone.cuts:
        gone = _delete(db, _space(tombstone, cut), cut)
        counts = forgetting.added(counts, gone)
    db.execute(_INSERT_TOMBSTONE, forgetting.row_of(tombstone, counts, now))
    return True


_IN_SPACE = "tenant = :tenant AND ns = :ns AND part = :part"
_ALL = {
    name: f"DELETE FROM {name} WHERE {_IN_SPACE}"
    for name in (*(table.name for table in TABLES), *INDEXES, "vectors", "embedders")
}
_SOME = {
    name: f"""
DELETE FROM {name}
 WHERE {_IN_SPACE} AND branch = '' AND n IN (SELECT value FROM json_each(:numbers))
"""
    for name in (*(table.name for table in TABLES), "vectors")
}
_SOME_INDEXED = {
    name: f"""
DELETE FROM {name}
 WHERE {_IN_SPACE} AND branch = '' AND doc IN (SELECT value FROM json_each(:docs))
"""
    for name in INDEXES
}

# Of these texts, those that other rows still have; and since when none of those rows stands.
_SELECT_LEFT = f"""
SELECT doc, iif(count(*) = count(gone_n), max(gone_n), NULL)
  FROM ({
    " UNION ALL ".join(
        f"SELECT doc, gone_n FROM {table.name} WHERE {_IN_SPACE} AND branch = ''"
        " AND doc IN (SELECT value FROM json_each(:docs))"
        for table in (NOTES, FACTS, HISTORY)
    )
})
 GROUP BY doc
"""

_END_INDEXED = {
    name: f"""
UPDATE {name}
   SET gone_n = :gone_n
 WHERE {_IN_SPACE} AND branch = '' AND doc = :doc AND gone_n IS NULL
"""
    for name in INDEXES
}

_RECOUNT = f"""
UPDATE namespaces
   SET (docs, words) = (
       SELECT count(*), coalesce(sum(length), 0)
         FROM (SELECT max(words) AS length
                 FROM terms
                WHERE {_IN_SPACE} AND branch = '' AND gone_n IS NULL
                GROUP BY doc))
 WHERE {_IN_SPACE} AND branch = ''
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


def _delete(db: apsw.Connection, space: dict[str, Any], cut: Cut) -> dict[str, int]:
    if cut.numbers is None:
        counts = {name: _count(db, statement, space) for name, statement in _ALL.items()}
    else:
        asked = space | {"numbers": orjson.dumps(list(cut.numbers)).decode()}
        counts = {name: _count(db, statement, asked) for name, statement in _SOME.items()}
        asked = space | {"docs": orjson.dumps(list(cut.docs)).decode()}
        left: dict[int, int | None] = dict(db.execute(_SELECT_LEFT, asked).fetchall())  # type: ignore[arg-type]
        alone = [each for each in cut.docs if each not in left]
        gone = space | {"docs": orjson.dumps(alone).decode()}
        for name, statement in _SOME_INDEXED.items():
            counts[name] = _count(db, statement, gone)
        for doc, gone_n in left.items():
            if gone_n is not None:
                for statement in _END_INDEXED.values():
                    db.execute(statement, space | {"doc": doc, "gone_n": gone_n})
    for statement in (_RECOUNT, _FORGET_COUNTS, _COUNT_AGAIN):
        db.execute(statement, space)
    return counts


_SELECT_UNFINISHED = """
SELECT id, tenant, kind, left_to_do
  FROM tombstones
 WHERE left_to_do IS NOT NULL
 ORDER BY begun_at, id
"""


def read_unfinished(db: apsw.Connection) -> Sequence[Tombstone]:
    """Return what has begun and not ended, the oldest first."""
    found = db.execute(_SELECT_UNFINISHED).fetchall()
    return [forgetting.tombstone_of(*map(str, row)) for row in found]


_SELECT_COUNTS = "SELECT counts FROM tombstones WHERE id = :id"
_WRITE_COUNTS = "UPDATE tombstones SET counts = :counts WHERE id = :id"
_END = "UPDATE tombstones SET left_to_do = NULL, ended_at = :now WHERE id = :id"


def end_forgetting(db: apsw.Connection, id_: str, now: int) -> Mapping[str, int]:
    """Say that nothing is left to do; return what is counted."""
    db.execute(_END, {"id": id_, "now": now})
    return _counts(db, id_)


def _counts(db: apsw.Connection, id_: str) -> dict[str, int]:
    ((text,),) = db.execute(_SELECT_COUNTS, {"id": id_}).fetchall()
    counts: dict[str, int] = orjson.loads(str(text))
    return counts


def _add(db: apsw.Connection, id_: str, more: Mapping[str, int]) -> None:
    counts = forgetting.added(_counts(db, id_), more)
    db.execute(_WRITE_COUNTS, {"id": id_, "counts": orjson.dumps(counts).decode()})


def _count(db: apsw.Connection, statement: str, given: dict[str, Any]) -> int:
    """Execute a statement; return how many rows it has changed."""
    before = db.total_changes()
    db.execute(statement, given)
    return db.total_changes() - before


def _space(tombstone: Tombstone, cut: Cut) -> dict[str, Any]:
    space = Space(tombstone.tenant, cut.ns)
    return {"tenant": space.tenant, "ns": space.ns, "part": space.part}


def _tree(root: RunId) -> dict[str, Any]:
    return forgetting.bounds(root) | {"part": part_of(root)}
