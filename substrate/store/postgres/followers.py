"""Followers in Postgres: runs that wait for the next change of a namespace.

Who begins to wait and who changes the namespace lock its row, so they come one after the other:
either the one finds the change, or the other the one who waits. All lock the namespace first, then
followers, then runs in the order of their ids, so nobody waits in a circle.
"""

from collections.abc import Sequence

from substrate.store import sql
from substrate.store.memory_rows import COUNTER_FIELDS, space_of
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import say_tenant
from substrate.values.ids import RunId, part_of
from substrate.values.memory import Space

_FOLLOW_SPACE = f"""
INSERT INTO namespaces AS known (tenant, ns, branch, part, {", ".join(COUNTER_FIELDS)})
VALUES (%(tenant)s, %(ns)s, %(branch)s, %(part)s, 0, 0, 0, 0, 0, 1)
    ON CONFLICT (tenant, ns, branch, part) DO UPDATE
   SET followed = CASE WHEN known.last_n > %(after)s THEN known.followed ELSE 1 END
RETURNING last_n
"""

# One that is due stays so: another wait of the same run may be what it is due for.
_INSERT_FOLLOWER = """
INSERT INTO followers (tenant, ns, branch, run_id, part, run_part, is_due)
VALUES (%(tenant)s, %(ns)s, %(branch)s, %(run_id)s, %(part)s, %(run_part)s, 0)
    ON CONFLICT (tenant, ns, branch, run_id, part) DO UPDATE
   SET is_due = followers.is_due
"""


async def follow(db: Cursor, space: Space, run_id: RunId, after: int) -> int:
    """Return how far a namespace has come; if not beyond this, wake the run when it does."""
    asked = space_of(space) | {"run_id": run_id, "run_part": part_of(run_id), "after": after}
    async with db.connection.transaction():
        await say_tenant(db, space.tenant)
        found = await (await db.execute(_FOLLOW_SPACE, asked)).fetchone()
        assert found is not None, "it was inserted, or was there"
        if found[0] <= after:
            await db.execute(_INSERT_FOLLOWER, asked)
    return int(found[0])


_DUE_FOLLOWERS = """
SELECT DISTINCT run_id
  FROM followers
 WHERE is_due = 1 AND run_id <> ALL (%(ids)s::text[])
 ORDER BY run_id
 LIMIT %(limit)s
"""


async def due_followers(db: Cursor, limit: int, without: Sequence[RunId]) -> Sequence[RunId]:
    """Return the runs for which a namespace has changed."""
    cursor = await db.execute(_DUE_FOLLOWERS, {"limit": limit, "ids": list(without)})
    return [row[0] for row in await cursor.fetchall()]


_WAKE_FOLLOWERS = f"""
-- due: what others are waking already is left to them
WITH due AS MATERIALIZED (
    SELECT tenant, ns, branch, run_id, part, run_part
      FROM followers
     WHERE is_due = 1 AND run_id = ANY (%(ids)s::text[])
     ORDER BY run_id
       FOR UPDATE SKIP LOCKED

), done AS (
    DELETE FROM followers
     USING due
     WHERE followers.tenant = due.tenant AND followers.ns = due.ns
       AND followers.branch = due.branch AND followers.run_id = due.run_id
       AND followers.part = due.part

-- locked: the runs, in the order in which everybody locks them
), locked AS MATERIALIZED (
    SELECT id, part
      FROM runs
     WHERE id = ANY (ARRAY(SELECT run_id FROM due)) AND part = ANY (ARRAY(SELECT run_part FROM due))
     ORDER BY id
       FOR NO KEY UPDATE
)
-- What it follows is looked at when it is driven, so the run is woken, and told nothing.
UPDATE runs
   SET wake_version = {sql.NEXT_WAKE},
       rank = CASE WHEN status = 'suspended' AND epoch > 0 THEN %(now)s ELSE rank END,
       status = CASE WHEN status = 'suspended' AND epoch > 0 THEN 'ready' ELSE status END
 WHERE id = ANY (ARRAY(SELECT id FROM locked)) AND part = ANY (ARRAY(SELECT part FROM locked))
   AND status IN ('ready', 'running', 'suspended', 'paused')
RETURNING id
"""


async def wake_followers(db: Cursor, ids: Sequence[RunId], now: int) -> Sequence[RunId]:
    """Wake those of these runs for which a namespace has changed; return which."""
    cursor = await db.execute(_WAKE_FOLLOWERS, {"ids": list(ids), "now": now})
    return [row[0] for row in await cursor.fetchall()]
