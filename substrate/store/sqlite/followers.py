"""Followers in SQLite: runs that wait for the next change of a namespace.

Who begins to wait and who changes the namespace come one after the other, so either the one finds
the change, or the other the one who waits. Each function runs inside one transaction that its
caller opened.
"""

from collections.abc import Sequence

import apsw

from substrate.store import sql
from substrate.store.memory_rows import COUNTER_FIELDS, SPACE_COLUMNS, space_of
from substrate.values.ids import RunId, part_of
from substrate.values.memory import Space

_IN_SPACE = " AND ".join(f"{name} = :{name}" for name in SPACE_COLUMNS)

_FOLLOW_SPACE = f"""
INSERT INTO namespaces (tenant, ns, branch, part, {", ".join(COUNTER_FIELDS)})
VALUES (:tenant, :ns, :branch, :part, 0, 0, 0, 0, 0, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET followed = 1
RETURNING last_n
"""

# One that is due stays so: another wait of the same run may be what it is due for.
_INSERT_FOLLOWER = """
INSERT INTO followers (tenant, ns, branch, run_id, part, run_part, is_due)
VALUES (:tenant, :ns, :branch, :run_id, :part, :run_part, 0)
    ON CONFLICT (tenant, ns, branch, run_id, part) DO UPDATE
   SET is_due = followers.is_due
"""

_HAS_COME = f"""
SELECT last_n
  FROM namespaces
 WHERE {_IN_SPACE} AND last_n > :after
"""


def follow(db: apsw.Connection, space: Space, run_id: RunId, after: int) -> int:
    """Return how far a namespace has come; if not beyond this, wake the run when it does."""
    asked = space_of(space) | {"run_id": run_id, "run_part": part_of(run_id), "after": after}
    if come := db.execute(_HAS_COME, asked).fetchone():
        return int(come[0])
    ((last_n,),) = db.execute(_FOLLOW_SPACE, asked)
    db.execute(_INSERT_FOLLOWER, asked)
    return int(last_n)


_DUE_FOLLOWERS = """
SELECT DISTINCT run_id
  FROM followers
 WHERE is_due = 1 AND run_id NOT IN (SELECT value FROM json_each(:ids))
 ORDER BY run_id
 LIMIT :limit
"""


def due_followers(db: apsw.Connection, limit: int, without: Sequence[RunId]) -> Sequence[RunId]:
    """Return the runs for which a namespace has changed."""
    asked = {"limit": limit, "ids": sql.id_list(without)}
    return [row[0] for row in db.execute(_DUE_FOLLOWERS, asked)]


# What it follows is looked at when it is driven, so the run is woken, and told nothing.
_WAKE_FOLLOWERS = f"""
UPDATE runs
   SET wake_version = {sql.NEXT_WAKE},
       rank = CASE WHEN status = 'suspended' AND epoch > 0 THEN :now ELSE rank END,
       status = CASE WHEN status = 'suspended' AND epoch > 0 THEN 'ready' ELSE status END
 WHERE {sql.AMONG_THESE}
   AND status IN ('ready', 'running', 'suspended', 'paused')
RETURNING id
"""

_DELETE_FOLLOWERS = """
DELETE FROM followers
 WHERE is_due = 1 AND run_id IN (SELECT value FROM json_each(:ids))
"""


def wake_followers(db: apsw.Connection, ids: Sequence[RunId], now: int) -> Sequence[RunId]:
    """Wake those of these runs for which a namespace has changed; return which."""
    asked = {"now": now, **sql.these(ids)}
    woken = [row[0] for row in db.execute(_WAKE_FOLLOWERS, asked)]
    db.execute(_DELETE_FOLLOWERS, asked)
    return woken
