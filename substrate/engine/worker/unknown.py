"""Runs that nobody drives, since no worker knows their function, or not in their version.

They lose nothing, and go on as soon as a worker comes that knows it. But nobody would hear of them
if it were not said: once for each lane, by every worker of the database.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta

from substrate.store.store import Store
from substrate.values.ids import lane_of, parts_of_lane
from substrate.values.records import Run, RunStatus

log = logging.getLogger("ostinato")

_EVERY_S = 2.0


class UnknownFunctions:
    """Says which lanes have runs that are ready and that no worker knows.

    A lane is said when it was so at two looks: a worker that comes may need a moment to tell.
    """

    def __init__(self, store: Store, lease: timedelta) -> None:
        self._store = store
        self._every = min(_EVERY_S, lease.total_seconds() / 5)
        self._next = 0.0
        self._suspected: frozenset[str] = frozenset()
        self._said: set[str] = set()

    async def look(self, now_s: float) -> None:
        """Look, if it is time for it, and say what is new."""
        if now_s < self._next:
            return
        self._next = now_s + self._every
        fresh = frozenset(await self._store.ready_lanes()) - self._said
        known = await self._store.known_lanes() if fresh else None
        # None: a live worker has told nothing yet, and may know any lane.
        unknown = frozenset() if known is None else fresh - known
        for lane in sorted(unknown & self._suspected):
            queue, function, version = parts_of_lane(lane)
            log.warning(
                "runs of %s v%s wait for a worker of queue %r that knows it, and there is none; "
                "give the function to work([…]), or start the code that has it",
                function,
                version,
                queue,
            )
            self._said.add(lane)
        # Only what this look has found as well is said at the next.
        self._suspected = unknown


async def missing_worker(store: Store, run: Run) -> str | None:
    """Return the function and version that no worker knows and that a run waits for, else None."""
    return (await missing_workers(store, [run])).get(run.id)


async def missing_workers(store: Store, runs: Iterable[Run]) -> Mapping[str, str]:
    """Return the function and version of each run that waits for a worker which knows it."""
    ready = [run for run in runs if run.status is RunStatus.READY]
    known = await store.known_lanes() if ready else None
    if known is None:
        return {}
    unknown = (run for run in ready if lane_of(run.queue, run.function, run.version) not in known)
    return {run.id: f"{run.function} v{run.version}" for run in unknown}
