"""Decides which workers are dead, in Postgres. `recovery` takes their runs back.

A worker is dead when it was struck off, or when its lease has lapsed: by the database's clock where
nobody knows better. A process that has seen it beat measures the time since then on a clock that
nobody sets, for a database's host may set its own by hours.

It is dead before that only where nothing else explains what is seen: its heartbeat's backend is
gone, in two looks `PATIENCE` apart, with no beat between them and no restart of the server since.
Behind a pooler a backend outlives its client, so there the heartbeat registers none and the lease
decides. Nor is a cut connection a death: a process that looks and misses a worker of its own leaves
that one to its lease.

Dead in this sense only means that its runs are taken back, which the fence makes safe: a process
that was cut off may live, in the middle of a call. Known to have *ended* is only one whose lock on
a file of this host is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from substrate.store import life_lock
from substrate.store.postgres.connections import NOW
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId
from substrate.values.records import Owner

PATIENCE = 0.4
"""Seconds for which a worker's backend must have been missing."""

SERVER_START = "(extract(epoch FROM pg_postmaster_start_time()) * 1000::numeric)::bigint"
"""When the server was started, in milliseconds, as SQL."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """What one look shows of an owner of runs."""

    owner: Owner
    lease_until: int
    lease_ms: int
    has_lapsed: bool
    """Whether it is over by the database's clock."""
    is_missing: bool
    is_gone: bool = False
    """Whether its process is known to have ended, not merely its lease."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A worker's last sign of life: when it was first seen, and whether one before it was."""

    lease_until: int
    since: float
    was_awaited: bool


class Suspicions:
    """Remembers the last sign of life of each worker, and which are missing, and since when."""

    def __init__(self) -> None:
        self._missing: dict[tuple[Owner, int], float] = {}
        self._signs: dict[Owner, _Sign] = {}

    def dead_among(self, seen: Sequence[WorkerSeen], now: float) -> Sequence[WorkerSeen]:
        """Return those that are dead; `now` is in seconds of a clock that only goes forward.

        A beat moves the lease's end, and so ends a suspicion.
        """
        missing = [(one.owner, one.lease_until) for one in seen if one.is_missing]
        self._missing = {who: self._missing.get(who, now) for who in missing}
        given_up = {who for who, since in self._missing.items() if now - since >= PATIENCE}
        self._signs = {one.owner: self._sign_of(one, now) for one in seen}
        return [
            one
            for one in seen
            if (one.owner, one.lease_until) in given_up or self._has_lapsed(one, now)
        ]

    def _sign_of(self, one: WorkerSeen, now: float) -> _Sign:
        known = self._signs.get(one.owner)
        if known is None or known.lease_until != one.lease_until:
            return _Sign(one.lease_until, now, known is not None)
        return known

    def _has_lapsed(self, one: WorkerSeen, now: float) -> bool:
        sign = self._signs[one.owner]
        is_over = now - sign.since >= one.lease_ms / 1000
        return is_over or (one.has_lapsed and not sign.was_awaited)


_SELECT_OWNERS = """
SELECT DISTINCT lease_owner
  FROM runs
 WHERE lease_owner IS NOT NULL AND id <> ALL (%(ids)s::text[])
"""

_SELECT_WORKERS = f"""
SELECT incarnation, lease_until, beat_at, lease_until < {NOW},
       backend_pid IS NOT NULL AND server_start = {SERVER_START}
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = backend_pid)
  FROM workers
"""


async def look(db: Cursor, without: Sequence[RunId] = ()) -> Sequence[WorkerSeen]:
    """Return how the workers stand, and the owners of runs that are no workers any more.

    Owners come first: a worker is registered before it owns a run. So an owner that is seen here,
    and is not among the workers a moment later, has been struck off or has left.
    """
    cursor = await db.execute(_SELECT_OWNERS, {"ids": list(without)})
    owners = {owner for (owner,) in await cursor.fetchall()}
    cursor = await db.execute(_SELECT_WORKERS)
    seen = [
        WorkerSeen(owner, until, until - beat_at, has_lapsed, is_missing)
        for owner, until, beat_at, has_lapsed, is_missing in await cursor.fetchall()
    ]
    strangers = sorted(owners - {one.owner for one in seen})
    return [*seen, *(WorkerSeen(owner, 0, 0, True, False) for owner in strangers)]


_LEAVE_TO_LEASE = """
UPDATE workers
   SET backend_pid = NULL
 WHERE incarnation = ANY (%s)
"""


async def leave_to_lease(db: Cursor, owners: Sequence[Owner]) -> None:
    """Let the lease decide over these workers until their next beat, which names a new backend."""
    await db.execute(_LEAVE_TO_LEASE, (owners,))


def with_evidence(dead: Sequence[WorkerSeen]) -> Sequence[WorkerSeen]:
    """Return them with what is known of their processes: on this host, whether they have ended."""
    found = []
    for one in dead:
        file = life_lock.host_file(one.owner)
        found.append(replace(one, is_gone=file is not None and life_lock.is_free(file)))
    return found


def remove_locks(dead: Sequence[WorkerSeen]) -> None:
    """Remove the locks of processes that have ended, once their runs have been taken back."""
    for one in dead:
        if one.is_gone and (file := life_lock.host_file(one.owner)):
            life_lock.remove(file)
