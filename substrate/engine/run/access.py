"""Database access for one run: an unreachable database is retried, an error is not.

An outage costs a run its time and nothing else. When the database answers with an error that is
not about one of the run's own rows, this worker gives the run up: it continues elsewhere or later.
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
from substrate.values.gates import Rule
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import JsonText, Kind, Promise, ReceivedSignal, Run

T = TypeVar("T")

_ALL = 1_000_000  # so many children may be open at once
_PAUSE = 0.2  # seconds before an unreachable database is asked again


class StoreAccess:
    """The reads of one run, and the retry loop that its reads and writes share."""

    def __init__(self, run_id: RunId, services: Services, lifecycle: Lifecycle) -> None:
        self._run_id = run_id
        self._services = services
        self._lifecycle = lifecycle

    @property
    def _store(self) -> Store:
        return self._services.store

    async def retry_until_reachable(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until the database answers; give the run up when it answers an error.

        Raises `CheckpointRefused` when the database rejects a row. A retry would be rejected too,
        so the caller that wrote the row has to handle it.
        """
        while True:
            try:
                return await call()
            except StoreUnreachable as error:
                self.log_trouble("wait for the database", error)
                await asyncio.sleep(_PAUSE)
            except CheckpointRefused:  # also a `StoreError`, but the caller handles it
                raise
            except StoreError as error:
                self.shut_for_store(error)

    def log_trouble(self, consequence: str, error: StoreError) -> None:
        """Log an error of the database, which most likely affects other runs as well."""
        message = f"run {self._run_id} and perhaps others {consequence}"
        self._services.troubles.report(message, error)

    def shut_for_store(self, error: StoreError) -> NoReturn:
        """Shut the run: the database answers with an error, and another worker may fare better."""
        self.log_trouble("go on elsewhere or later", error)
        self._lifecycle.shut_and_raise(Shutdown(f"the database fails: {error}"))

    def lost(self) -> NoReturn:
        """Shut the run: its fence did not match, so another worker owns the run."""
        message = f"run {self._run_id!r} belongs to another worker now"
        self._lifecycle.shut_and_raise(LeaseLost(message))

    async def run(self) -> Run | None:
        """Return the run's current row."""
        return await self.retry_until_reachable(lambda: self._store.get(self._run_id))

    async def journal(self, generation_seq: int) -> Sequence[Promise]:
        """Return what the run has recorded in the generation that began at this change number."""
        return await self.retry_until_reachable(
            lambda: self._store.journal(self._run_id, generation_seq)
        )

    async def journal_of(self, run_id: RunId) -> Sequence[Promise]:
        """Return what another run has recorded."""
        return await self.retry_until_reachable(lambda: self._store.journal(run_id))

    async def promises(self, ids: Sequence[PromiseId]) -> Mapping[str, Promise]:
        """Return the promises that exist among these ids, by id."""
        if not ids:
            return {}
        return await self.retry_until_reachable(lambda: self._store.promises(ids))

    async def settled_of(self, ids: Sequence[PromiseId]) -> dict[PromiseId, Promise]:
        """Return the settled promises among these ids, by id."""
        found = await self.promises(ids)
        return {each.id: each for each in found.values() if each.is_settled}

    async def inbox(self, name: str, after: int, limit: int) -> Sequence[ReceivedSignal]:
        """Return the oldest untaken signals of a name with `n` above `after`, at most `limit`."""
        self._lifecycle.check_open()
        read = self._store.inbox
        return await self.retry_until_reachable(
            lambda: read(self._run_id, name, after=after, limit=limit)
        )

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return the recorded usage of the promises whose id has this prefix, with their ids."""
        return await self.retry_until_reachable(lambda: self._store.usages(prefix, skipping))

    async def rules(self) -> Sequence[Rule]:
        """Return the standing rules."""
        self._lifecycle.check_open()
        return await self.retry_until_reachable(self._store.gates.rules)

    async def known_lanes(self) -> frozenset[str] | None:
        """Return the lanes that living workers serve; see `Store.known_lanes`."""
        return await self.retry_until_reachable(self._store.known_lanes)

    async def has_open_runs(self, prefix: str) -> bool:
        """Return whether any descendant run whose id has this prefix has not ended."""
        return await self.retry_until_reachable(lambda: self._store.has_open_runs(prefix))

    async def open_children(self, prefix: str) -> Sequence[Promise]:
        """Return the promises of the children below an id's prefix that have not ended."""
        return await self.retry_until_reachable(
            lambda: self._store.open_promises(prefix, Kind.CHILD, _ALL)
        )
