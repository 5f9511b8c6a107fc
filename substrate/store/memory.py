"""What the engine and people ask of the store about memory: written in turns, many at a time.

Writes that wait while others are written go together in the next transaction: the calls of a turn,
and those of other runs of this process. They are taken in the order in which they came, so no
namespace starves, and each settles its own promise under its own run's fence.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from substrate.store import sql
from substrate.store.backend import Backend
from substrate.store.ledger import Adopted, MemoryWrite
from substrate.store.memory_rows import Look
from substrate.store.term_rows import Query, Score, Stood
from substrate.store.uncancelled import to_its_end
from substrate.store.vectors import Vectors
from substrate.store.way_rows import Ways
from substrate.values.errors import CheckpointRefused, StoreError
from substrate.values.ids import RunId
from substrate.values.memory import Counter, Row, Space, TermCount
from substrate.values.records import Fenced, Promise

MOST = 64
"""How many writes go into one transaction."""

_LAST = "\U0010ffff"


@dataclass(slots=True, eq=False)
class _Waiting:
    write: MemoryWrite
    outcome: "asyncio.Future[Promise | Fenced]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Memories:
    """The memory of a store: `Store.memory`."""

    def __init__(self, backend: Backend) -> None:
        self._db = backend.db
        self._sql = backend.sql.memory
        self._terms = backend.sql.terms
        self._ways = backend.sql.ways
        self.vectors: Vectors = Vectors(backend)
        self._followers = backend.sql.followers
        #: Called after a commit of this process for which a run waits: a hint, and no more.
        self.on_followed: set[Callable[[], None]] = set()
        self._turn = asyncio.Lock()
        self._queue: deque[_Waiting] = deque()

    async def write(self, write: MemoryWrite) -> Promise | Fenced:
        """Write what it decides and its promise in one commit; return the promise as it stands.

        Where somebody settled that first, that is what stands, and nothing was written. Whoever is
        cancelled while it is being written is told so when that is over. Raises
        `CheckpointRefused` where the database rejects a row of it, and then nothing of it was
        written, and `StoreUnreachable`, where nobody knows whether it was.
        """
        waiting = _Waiting(write)
        self._queue.append(waiting)
        try:
            async with self._turn:
                await asyncio.sleep(0)  # what begins in the same moment goes along
                while not waiting.outcome.done():
                    await to_its_end(self._write_next())
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
            elif not waiting.outcome.done():  # it is being written in another's turn
                await to_its_end(asyncio.wait([waiting.outcome]))
            if waiting.outcome.done():
                waiting.outcome.exception()  # nobody is left to hear of it
            raise
        return waiting.outcome.result()

    async def adopt(self, adopted: Adopted) -> bool:
        """Write rows that have their numbers already, in one commit; False: none was written."""
        found = await self._db.write(self._sql.adopt_memory, adopted)
        if found is not None and found.is_followed:
            self._tell_followed()
        return found is not None

    async def _write_next(self) -> None:
        """Write those that wait, as many as go together; each is told what became of it."""
        batch = self._of_one_tenant()
        try:
            await self._write_together(batch)
        except BaseException as error:  # noqa: BLE001 - it is raised by each of those that wait
            if isinstance(error, StoreError) and not isinstance(error, CheckpointRefused):
                return _tell(batch, error)
            for each in batch:  # by itself, so that what is refused is refused alone
                await self._write_or_tell([each])

    def _of_one_tenant(self) -> "list[_Waiting]":
        """Take the next writes of the first one's tenant: a transaction sees the rows of one."""
        tenant = self._queue[0].write.wanted.space.tenant if self._queue else ""
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        while self._queue and len(batch) < MOST and len(others) < 4 * MOST:
            each = self._queue.popleft()
            is_same = each.write.wanted.space.tenant == tenant
            (batch if is_same else others).append(each)
        self._queue.extendleft(reversed(others))
        return batch

    async def _write_together(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch; what somebody else has settled, or owns, leaves it, and the rest goes."""
        while batch:
            found = await self._db.write(self._sql.write_memory, [each.write for each in batch])
            if found.is_followed:
                self._tell_followed()
            rest = []
            for each, outcome in zip(batch, found.outcomes, strict=True):
                if outcome is None:
                    rest.append(each)
                else:
                    each.outcome.set_result(outcome)
            batch = rest

    async def _write_or_tell(self, batch: Sequence[_Waiting]) -> None:
        try:
            await self._write_together([each for each in batch if not each.outcome.done()])
        except BaseException as error:  # noqa: BLE001 - as above
            _tell(batch, error)

    def _tell_followed(self) -> None:
        for tell in self.on_followed:
            tell()

    async def follow(self, space: Space, run_id: RunId, after: int) -> int:
        """Return how far a namespace has come; if not beyond a number, wake the run when it does.

        That is once, however much comes: who wants to hear more follows anew. A change that is
        committed after this was is never missed. To follow twice is to follow once.
        """
        counter = await self.counter(space)
        if counter.last_n > after:
            return counter.last_n
        return await self._db.write(self._followers.follow, space, run_id, after)

    async def due_followers(self, limit: int, without: Sequence[RunId] = ()) -> Sequence[RunId]:
        """Return the runs for which a namespace has changed, but these."""
        return await self._db.read(self._followers.due_followers, limit, without)

    async def counter(self, space: Space) -> Counter:
        """Return how far a namespace has come; 0 where nothing was ever written."""
        return await self._db.read(self._sql.read_counter, space) or Counter(space)

    async def number_at(self, space: Space, known_at: int) -> int:
        """Return the last number that a namespace had taken by a moment, in ms; 0: none."""
        return await self._db.scan(self._sql.read_number_at, space, known_at)

    async def counters(
        self, prefix: str = "", limit: int = 1000, tenant: str = ""
    ) -> Sequence[Counter]:
        """Return the namespaces of a tenant whose name begins so, in order."""
        first, end = sql.range_of(prefix) if prefix else ("", _LAST)
        return await self._db.read(self._sql.read_counters, tenant, first, end, limit)

    async def rows(self, look: Look) -> Sequence[Row]:
        """Return rows of one table, in order of their numbers."""
        return await self._db.scan(self._sql.read_rows, look)

    async def ways(self, ways: Ways) -> Sequence[tuple[str, int]]:
        """Return whither links lead, each with the number of the first one that does."""
        return await self._db.scan(self._ways.read_ways, ways)

    async def term_counts(self, space: Space, terms: Sequence[str]) -> Sequence[TermCount]:
        """Return in how many texts each word stands, of those that ever stood in one."""
        return await self._db.read(self._terms.read_term_counts, space, terms)

    async def best(
        self, query: Query, streams: Sequence[tuple[str, int]], limit: int
    ) -> Sequence[Sequence[Stood]]:
        """Return of each word and band the texts in which it tells most, the best first."""
        return await self._db.scan(self._terms.read_best, query, streams, limit)

    async def stood(self, query: Query, wanted: Mapping[str, Sequence[int]]) -> Sequence[Stood]:
        """Return in which of these texts each word stands."""
        return await self._db.scan(self._terms.read_stood, query, wanted)

    async def rank(
        self, query: Query, weights: Mapping[str, float], average: float, limit: int
    ) -> Sequence[Score]:
        """Return the texts in which most is told, the best first, having looked through all."""
        return await self._db.scan(self._terms.rank, query, weights, average, limit)


def _tell(batch: Sequence[_Waiting], error: BaseException) -> None:
    """Let those that still wait raise an error."""
    for each in batch:
        if not each.outcome.done():
            each.outcome.set_exception(error)
