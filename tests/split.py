"""A store of several lines: several databases behind one store, each with its share of the parts.

What belongs to a tree is asked of the line that it lies on. The kit's stores are one line each;
this one shows that what is above a store needs `lines`, `line_of` and `on_line`, and no more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, cast

from substrate.store.connect import open_store
from substrate.store.postgres import PostgresBackend
from substrate.store.store import Store
from substrate.values.ids import PARTS, part_of
from substrate.values.records import Run, RunStatus

ANSWER_WAIT = 1.0
"""After how many seconds a line on a server is given up that answers nothing."""


class SplitStore:
    """Several stores as one; the first has the first parts."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self.lines = range(len(stores))
        self.clock = stores[0].clock

    def line_of(self, part: int) -> int:
        return part * len(self.stores) // PARTS

    def on_line(self, line: int) -> Store:
        return self.stores[line]

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(about: Any, *rest: Any, **named: Any) -> Any:
            store = self.stores[self.line_of(part_of(_id_in(about)))]
            return await getattr(store, name)(about, *rest, **named)

        return ask

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        found = await asyncio.gather(*(store.list(status, limit) for store in self.stores))
        return [run for runs in found for run in runs][:limit]

    async def known_lanes(self) -> frozenset[str] | None:
        # Asked where a run has waited for long: on a busy machine, too.
        found = await asyncio.gather(*(store.known_lanes() for store in self.stores))
        known = [lanes for lanes in found if lanes is not None]
        return frozenset().union(*known) if len(known) == len(found) else None

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self.stores))


def _id_in(about: Any) -> str:
    """Return the id of a run or a promise in what a store is asked about."""
    while not isinstance(about, str):
        if isinstance(about, Sequence):
            about = about[0]
        else:
            about = getattr(about, "fence", None) or getattr(about, "run_id", None) or about.id
    return about


@asynccontextmanager
async def split(*urls: str) -> AsyncIterator[Store]:
    """Open a store of so many lines for the block."""
    async with AsyncExitStack() as stack:
        stores = [await _opened(url) for url in urls]
        for store in stores:
            stack.push_async_callback(store.close)
        yield cast(Store, SplitStore(stores))


async def _opened(url: str) -> Store:
    if url.startswith("sqlite:"):
        return await open_store(url)
    backend = PostgresBackend(url, answer_wait=ANSWER_WAIT)
    await backend.open()
    return Store(backend)


def ids_on(line: int, lines: int = 2, name: str = "run") -> Iterator[str]:
    """Yield ids of runs that lie on one of so many lines."""
    ids = (f"{name}/{number}" for number in count())
    return (id_ for id_ in ids if part_of(id_) * lines // PARTS == line)
