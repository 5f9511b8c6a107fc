"""Runs that cannot go on because their own rows are broken, and hold no other run up.

A statement over many runs is refused as a whole for one row that cannot be changed: a counter at
its end, a value that another program has put there. Then it is done for half of them at a time,
until the broken one is found. That one is logged, once, and left out for a while, so that the
next statement over many is one statement again.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from substrate.values.clock import uptime
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId

T = TypeVar("T")

LEFT_OUT_FOR = 60.0
"""For how many seconds a run with a broken row is not tried again."""

log = logging.getLogger("ostinato")


class Stuck:
    """The runs that one store leaves out, and until when. `now` counts in seconds."""

    def __init__(self, now: Callable[[], float] = uptime) -> None:
        self._now = now
        self._until: dict[RunId, float] = {}
        self._logged: dict[RunId, str] = {}

    @property
    def ids(self) -> list[RunId]:
        """The runs that are left out now."""
        if self._until:
            now = self._now()
            self._until = {run_id: end for run_id, end in self._until.items() if end > now}
        return list(self._until)

    def note(self, run_id: RunId, why: object) -> None:
        """Leave a run out for a while; log why, unless that was logged of it before."""
        self._until[run_id] = self._now() + LEFT_OUT_FOR
        if self._logged.get(run_id) != str(why):
            self._logged[run_id] = str(why)
            log.error(
                "run %.200r cannot go on, and the others do: %s; look at its row in `runs`, put"
                " it right or delete it; it is tried again each minute",
                run_id,
                why,
            )

    async def whole_or_apart(
        self,
        whole: Callable[[], Awaitable[Sequence[T]]],
        ids: Callable[[], Awaitable[Sequence[RunId]]],
        act: Callable[[Sequence[RunId]], Awaitable[Sequence[T]]],
    ) -> Sequence[T]:
        """Do something for many runs at once, or `apart` for these where that is refused."""
        # Not while the error is at hand: it keeps a cursor, and that a snapshot of the database.
        with suppress(CheckpointRefused):
            return await whole()
        return await self.apart(await ids(), act)

    async def together_or_each(
        self, act: Callable[["Stuck | None"], Awaitable[Sequence[T]]]
    ) -> Sequence[T]:
        """Do something for many runs in one transaction; where that is refused, once more.

        `act` is given this the second time: then it does what it can for each run by itself, and
        notes here which were refused.
        """
        with suppress(CheckpointRefused):
            return await act(None)
        return await act(self)

    async def apart(
        self, ids: Sequence[RunId], act: Callable[[Sequence[RunId]], Awaitable[Sequence[T]]]
    ) -> Sequence[T]:
        """Do for ever fewer runs what was refused for all of them; return what came of it."""
        if not ids:
            return []
        try:
            return await act(ids)
        except CheckpointRefused as error:
            why = str(error)
        if len(ids) == 1:
            self.note(ids[0], why)
            return []
        middle = len(ids) // 2
        return [*await self.apart(ids[:middle], act), *await self.apart(ids[middle:], act)]
