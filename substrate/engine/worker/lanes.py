"""The lanes of a worker, each a queue, a function and a version; each is the first in its turn."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from substrate.store.store import Store
from substrate.values.ids import RunId, lane_of
from substrate.values.records import Claim, Owner


class Lanes:
    """What a worker claims from: its lanes; with `only`, that run and those below it alone."""

    def __init__(
        self,
        store: Store,
        functions: Iterable[tuple[str, int]],
        *,
        queue: str,
        only: RunId | None,
    ) -> None:
        self._store = store
        self._lanes = deque(lane_of(queue, name, version) for name, version in functions)
        self._only = only

    @property
    def names(self) -> Sequence[str]:
        """The lanes, the first in turn first."""
        return list(self._lanes)

    def takes(self, lane: str, run_id: str) -> bool:
        """Whether a run of this id would be claimed from the lane."""
        is_below = self._only is None or run_id == self._only
        return lane in self._lanes and (is_below or run_id.startswith(f"{self._only}#"))

    async def claim(self, owner: Owner, free: Callable[[], int], claims: list[Claim]) -> None:
        """Add to the claims as many ready runs as there is room for, which may change meanwhile.

        What was claimed is in the list also where a later lane fails: it has to be driven.
        """
        if free() <= 0:
            return
        for lane in await self._lanes_to_ask():
            if free() <= len(claims):
                break
            claims += await self._claim_from(lane, free() - len(claims), owner)
        self._lanes.rotate(-1)  # every lane is first in its turn

    async def count_ready(self, limit: int) -> int:
        """Return how many runs there are that would be claimed; `limit` at most."""
        if self._only is None:
            return await self._store.count_ready(self.names, limit)
        return await self._store.count_ready_below(self._only, self.names, limit)

    async def _lanes_to_ask(self) -> Sequence[str]:
        """Return the lanes that are worth a claim: one question for all of them."""
        return self.names if self._only else await self._store.lanes_with_ready(self.names)

    async def _claim_from(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        if self._only is None:
            return await self._store.claim(lane, limit, owner)
        return await self._store.claim_below(self._only, lane, limit, owner)
