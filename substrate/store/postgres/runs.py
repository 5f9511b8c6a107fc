"""The life of a run in Postgres: started, claimed, given back, reopened.

Each function is one transaction.
"""

from collections.abc import Sequence

from substrate.store import refusals, rows, sql
from substrate.store.blobs import digest_in, load, offload_input
from substrate.store.postgres.blobs import insert_blobs, read_blobs
from substrate.store.postgres.fenced_commit import LOCK
from substrate.store.postgres.promises import insert_settled, read_promise
from substrate.store.postgres.session import Cursor
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId, part_of, promise_id
from substrate.values.records import UNWIND_KEY, Fence, NewRun, OwnedRun, Owner, Promise, Run

_INSERT_RUN = """
-- created: nothing where the id is known, and then the promise below is not written either
WITH created AS (
    INSERT INTO runs (id, part, tenant, root_id, function, version, queue, lane, rank, status,
                      epoch, lease_owner, wake_version, need, due_at, deadline_at, crashes,
                      cancel_requested, last_seq, seed, generation, generation_seq, exited_epoch,
                      created_at, generation_at)
    VALUES (%(id)s, %(part)s, %(tenant)s, %(root_id)s, %(function)s, %(version)s, %(queue)s,
            %(lane)s, %(rank)s, %(status)s, %(epoch)s, %(lease_owner)s, 0, 0, %(due_at)s,
            %(deadline_at)s, 0, false, 1, %(seed)s, 0, 0, 0, %(created_at)s,
            %(created_at)s)
        ON CONFLICT (id, part) DO NOTHING
    RETURNING id, part, tenant, function, created_at
)
INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, fingerprint, input,
                      epoch, created_at)
SELECT id, part, tenant, id, %(key)s, 1, 'run', function, 'pending', %(fingerprint)s,
       %(input)s::json, 0, created_at
  FROM created
RETURNING id
"""


async def insert_run(db: Cursor, new: NewRun, now: int, owner: Owner | None) -> Run | None:
    """Create the run and the promise of its outcome; None when the id is known."""
    run = rows.first_run(new, now, owner)
    light, blobs = offload_input(new)
    if not blobs:
        cursor = await db.execute(_INSERT_RUN, rows.first_rows(light, run))
        return run if await cursor.fetchone() else None
    async with db.connection.transaction():
        cursor = await db.execute(_INSERT_RUN, rows.first_rows(light, run))
        if await cursor.fetchone() is None:
            return None
        await insert_blobs(db, blobs)
    return run


_SELECT_RUN = f"""
SELECT {rows.RUN_COLUMNS}
  FROM runs
 WHERE id = %s AND part = %s
"""


async def read_run(db: Cursor, run_id: RunId) -> Run | None:
    """Return the run, or None."""
    cursor = await db.execute(_SELECT_RUN, (run_id, part_of(run_id)))
    row = await cursor.fetchone()
    return rows.run(row) if row else None


async def existing_run(db: Cursor, run_id: RunId) -> Run:
    """Return the run, or raise `RunNotFound`."""
    run = await read_run(db, run_id)
    if run is None:
        raise RunNotFound(f"there is no run {run_id!r}; `runs` lists those there are")
    return run


_READY = """
SELECT id
  FROM runs
 WHERE lane = %(lane)s AND status = 'ready' AND id <> ALL (%(ids)s::text[])
 ORDER BY rank
 LIMIT %(limit)s
"""


async def ready_runs(db: Cursor, lane: str, limit: int, without: Sequence[RunId]) -> list[RunId]:
    """Return the next runs of a lane that a claim would take."""
    cursor = await db.execute(_READY, {"lane": lane, "limit": limit, "ids": list(without)})
    return [row[0] for row in await cursor.fetchall()]


_CLAIM = f"""
-- picked: the lowest ranks, without those that another worker is claiming at this moment
WITH picked AS MATERIALIZED (
    SELECT id, part
      FROM runs
     WHERE lane = %(lane)s AND status = 'ready' AND {{among}}
     ORDER BY rank
     LIMIT %(limit)s
       FOR NO KEY UPDATE SKIP LOCKED

-- claimed: the new epoch fences off whoever had the run before
), claimed AS (
    UPDATE runs
       SET status = 'running', epoch = epoch + 1, lease_owner = %(owner)s
     WHERE id = ANY (ARRAY(SELECT id FROM picked)) AND part = ANY (ARRAY(SELECT part FROM picked))
    RETURNING {rows.RUN_COLUMNS}, part, rank
)
SELECT {rows.RUN_COLUMNS},
       -- what the present generation was begun with: its own row, the first one's is the run's
       (SELECT input
          FROM promises
         WHERE part = claimed.part
           AND id = CASE WHEN claimed.generation = 0 THEN claimed.id
                         ELSE claimed.id || '#g'::text || claimed.generation::text END)
  FROM claimed
 ORDER BY rank
"""

_CLAIM_NEXT = _CLAIM.format(among="id <> ALL (%(ids)s::text[])")
_CLAIM_THESE = _CLAIM.format(
    among="id = ANY (%(ids)s::text[]) AND part = ANY (%(parts)s::integer[])"
)


async def claim_runs(
    db: Cursor, lane: str, limit: int, owner: Owner, without: Sequence[RunId]
) -> Sequence[rows.Claimed]:
    """Take ready runs of a lane, with what they were begun with."""
    asked = {"lane": lane, "limit": limit, "owner": owner, "ids": list(without)}
    return await _claimed(db, await db.execute(_CLAIM_NEXT, asked))


async def claim_these(
    db: Cursor, lane: str, ids: Sequence[RunId], owner: Owner
) -> Sequence[rows.Claimed]:
    """Take those of these runs of a lane that are ready, as `claim_runs` does."""
    these = {"ids": list(ids), "parts": sql.parts_of(ids)}
    asked = {"lane": lane, "limit": len(ids), "owner": owner, **these}
    return await _claimed(db, await db.execute(_CLAIM_THESE, asked))


async def _claimed(db: Cursor, cursor: Cursor) -> Sequence[rows.Claimed]:
    found = [(rows.run(row[:-1]), row[-1]) for row in await cursor.fetchall()]
    # One query for the blobs of all claims: most runs have none, and then there is no query at all.
    digests = [digest for _, input_ in found if (digest := digest_in(input_))]
    contents = await read_blobs(db, [run.root_id for run, _ in found], digests) if digests else {}
    return [(run, None if input_ is None else load(input_, contents)) for run, input_ in found]


_SELECT_OWNED_RUNS = """
SELECT id, epoch, wake_version, cancel_requested
  FROM runs
 WHERE lease_owner = %s AND status = 'running'
"""


async def read_owned_runs(db: Cursor, owner: Owner) -> Sequence[OwnedRun]:
    """Return how each running run of the worker stands."""
    cursor = await db.execute(_SELECT_OWNED_RUNS, (owner,))
    return [OwnedRun(*row) for row in await cursor.fetchall()]


_RELEASE = f"""
-- locked: in the order of ids, as a batch of checkpoints locks them: they never wait in a circle.
-- The fence is compared below, with what stands in the row once its lock is held.
WITH locked AS MATERIALIZED (
    SELECT id, status, epoch, lease_owner
      FROM runs
     WHERE id = ANY (%(ids)s) AND part = ANY (%(parts)s)
     {LOCK}
)
UPDATE runs
   SET status = 'ready', lease_owner = NULL, rank = %(now)s, crashes = crashes + %(crash)s
 WHERE part = ANY (%(parts)s)
   AND id = ANY (ARRAY(SELECT id
                         FROM locked
                         JOIN unnest(%(ids)s::text[], %(epochs)s::integer[], %(owners)s::text[])
                              AS ours (id, epoch, owner) USING (id, epoch)
                        WHERE lease_owner = owner AND status = 'running'))
RETURNING id
"""


async def release_runs(
    db: Cursor, fences: Sequence[Fence], now: int, *, is_crash: bool = False
) -> Sequence[RunId]:
    """Give back the runs that still are ours; return which."""
    ours = {
        "ids": [fence.run_id for fence in fences],
        "parts": [fence.part for fence in fences],
        "epochs": [fence.epoch for fence in fences],
        "owners": [fence.owner for fence in fences],
        "now": now,
        "crash": int(is_crash),
    }
    cursor = await db.execute(_RELEASE, ours)
    return [row[0] for row in await cursor.fetchall()]


# Of a child whose parent was told that it is dead, only the undos go on: those that it had begun.
_REOPEN_RUN = """
UPDATE runs
   SET status = 'ready', crashes = 0, ended_at = NULL, expires_at = NULL, rank = %(now)s,
       last_seq = last_seq + %(numbers)s
 WHERE id = %(id)s AND part = %(part)s
   AND (status = 'paused' OR (status IN ('failed', 'dead') AND parent_id IS NULL)
        OR (status = 'dead' AND EXISTS (SELECT 1
                                          FROM promises
                                         WHERE id = %(unwind)s AND part = %(part)s)))
RETURNING last_seq
"""

_REOPEN_OUTCOME = """
UPDATE promises
   SET state = 'pending', value = NULL, error = NULL, settled_at = NULL, seq = %(seq)s
 WHERE id = %(id)s AND part = %(part)s AND run_id = id
"""


async def reopen_run(db: Cursor, run_id: RunId, accepted: Promise | None, now: int) -> Run:
    """Make a paused, failed or dead run ready again; see `Store.resume`."""
    where = {"id": run_id, "part": part_of(run_id)}
    numbers = 1 if accepted is None else 2  # the run's own row changes, and one may join it
    asked = {"now": now, "numbers": numbers, "unwind": promise_id(run_id, UNWIND_KEY)}
    async with db.connection.transaction():
        cursor = await db.execute(_REOPEN_RUN, where | asked)
        reopened = await cursor.fetchone()
        if reopened is None:  # it is in no state to be reopened, or is not there
            run = await existing_run(db, run_id)
            raise RunEnded(refusals.why_not_reopened(run))
        rows.check_remembered(await read_promise(db, run_id))
        last_seq = reopened[0]
        await db.execute(_REOPEN_OUTCOME, where | {"seq": last_seq - numbers + 1})
        if accepted is not None:
            await insert_settled(db, accepted, last_seq)
        return await existing_run(db, run_id)
