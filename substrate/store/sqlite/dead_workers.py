"""Decides which workers are dead, in SQLite. `recovery` takes their runs back.

A worker is dead when it was struck off, when the kernel has freed its lock, or when it has shown no
sign of life for its whole lease. Each process that looks measures that time by itself, on a clock
that nobody sets: a host's time may jump by hours, and then every lease would seem to have lapsed at
once, or none for long.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from substrate.store import sql
from substrate.store.sqlite.heartbeat import is_free
from substrate.values.ids import RunId
from substrate.values.records import Owner


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """What one look shows of an owner of runs."""

    owner: Owner
    host: str
    beat_at: int
    lease_until: int
    is_gone: bool = False
    """Whether its process is known to have ended, whatever its lease."""


_SELECT_OWNERS = """
SELECT DISTINCT lease_owner
  FROM runs
 WHERE lease_owner IS NOT NULL AND id NOT IN (SELECT value FROM json_each(:ids))
"""

_SELECT_WORKERS = """
SELECT incarnation, host, beat_at, lease_until
  FROM workers
"""


def look(db: apsw.Connection, without: Sequence[RunId] = ()) -> Sequence[WorkerSeen]:
    """Return how the workers stand, and the owners of runs that are no workers any more."""
    owners = {owner for (owner,) in db.execute(_SELECT_OWNERS, {"ids": sql.id_list(without)})}
    seen = [WorkerSeen(*row) for row in db.execute(_SELECT_WORKERS)]
    strangers = sorted(owners - {one.owner for one in seen})
    return [*seen, *(WorkerSeen(owner, "", 0, 0) for owner in strangers)]


class Suspicions:
    """Remembers the last sign of life of each worker, and when it was first seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since: dict[tuple[Owner, int], float] = {}

    def dead_among(self, seen: Sequence[WorkerSeen], now: float) -> Sequence[WorkerSeen]:
        """Return those that are dead; `now` is in seconds of a clock that only goes forward.

        Who looks for the first time waits for as long as the lease is: it cannot know what it
        missed. A killed worker it finds at once, since nobody holds its lock.
        """
        signs = [(one.owner, one.lease_until) for one in seen]
        self._since = {sign: self._since.get(sign, now) for sign in signs}
        looked = [replace(one, is_gone=is_free(self._path, one.owner, one.host)) for one in seen]
        return [one for one in looked if one.is_gone or self._has_lapsed(one, now)]

    def _has_lapsed(self, one: WorkerSeen, now: float) -> bool:
        lease_s = (one.lease_until - one.beat_at) / 1000
        return now - self._since[one.owner, one.lease_until] >= lease_s
