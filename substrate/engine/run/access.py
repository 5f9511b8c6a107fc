"""How a run asks the database: again until it answers, and no more once it answers with an error.

An outage costs a run its time and nothing else. An error that is not about a row of the run's own
has it given up here: it goes on elsewhere or later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.services import Services
from substrate.store.store import Store
from substrate.values.errors import (
    CheckpointRefused,
    LeaseLost,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import JsonText, Promise, ReceivedSignal, Run

T = TypeVar("T")

_PAUSE = 0.2  # seconds before an unreachable database is asked again


class StoreAccess:
    """What one run reads, and the patience with which it reads and writes."""

    def __init__(self, run_id: RunId, services: Services, lifecycle: Lifecycle) -> None:
        self._run_id = run_id
        self._services = services
        self._lifecycle = lifecycle

    @property
    def _store(self) -> Store:
        return self._services.store

    async def retry_until_reachable(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the database until it answers; give the run up when it answers with an error.

        Raises `CheckpointRefused` where it rejects a row: it would do so again, and whoever wrote
        the row is told.
        """
        while True:
            try:
                return await call()
            except StoreUnreachable as error:
                self.complain("wait for the database", error)
                await asyncio.sleep(_PAUSE)
            except CheckpointRefused:  # a `StoreError` as well, and the caller's to deal with
                raise
            except StoreError as error:
                self.give_up(error)

    def complain(self, what: str, error: StoreError) -> None:
        """Tell of trouble with the database, which other runs most likely have as well."""
        self._services.troubles.make(f"run {self._run_id} and perhaps others {what}", error)

    def give_up(self, error: StoreError) -> NoReturn:
        """Shut the run: the database answers with an error, and another worker may fare better."""
        self.complain("go on elsewhere or later", error)
        self._lifecycle.shut_and_raise(Shutdown(f"the database fails: {error}"))

    def lost(self) -> NoReturn:
        """Shut the run: the fence did not hold, so another worker has it."""
        message = f"run {self._run_id!r} belongs to another worker now"
        self._lifecycle.shut_and_raise(LeaseLost(message))

    async def run(self) -> Run | None:
        """Return the run's row as it stands now."""
        return await self.retry_until_reachable(lambda: self._store.get(self._run_id))

    async def journal(self, generation_seq: int) -> Sequence[Promise]:
        """Return what the run has recorded in the generation that began at this change number."""
        return await self.retry_until_reachable(
            lambda: self._store.journal(self._run_id, generation_seq)
        )

    async def promises(self, ids: Sequence[PromiseId]) -> Mapping[str, Promise]:
        """Return those of these promises that there are, by id."""
        if not ids:
            return {}
        return await self.retry_until_reachable(lambda: self._store.promises(ids))

    async def settled_of(self, ids: Sequence[PromiseId]) -> dict[PromiseId, Promise]:
        """Return those of these promises that have been settled, by id."""
        found = await self.promises(ids)
        return {each.id: each for each in found.values() if each.is_settled}

    async def inbox(self, name: str, after: int, limit: int) -> Sequence[ReceivedSignal]:
        """Return the oldest signals of a name above an n that nobody has taken, `limit` at most."""
        self._lifecycle.check_open()
        read = self._store.inbox
        return await self.retry_until_reachable(
            lambda: read(self._run_id, name, after=after, limit=limit)
        )

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return what the promises whose id begins so have used, in this run and below it."""
        return await self.retry_until_reachable(lambda: self._store.usages(prefix, skipping))

    async def known_lanes(self) -> frozenset[str] | None:
        """Return what living workers know; see `Store.known_lanes`."""
        return await self.retry_until_reachable(self._store.known_lanes)

    async def has_open_runs(self, prefix: str) -> bool:
        """Return whether a run below this one whose id begins so has not ended."""
        return await self.retry_until_reachable(lambda: self._store.has_open_runs(prefix))
