"""A store on whose way trouble can be put: answers held back, methods that fail."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from substrate import Client
from substrate.store.connect import open_store
from substrate.store.store import Store


class TroubledStore:
    """A store like any other, until one of its methods is held or broken."""

    def __init__(self, store: Store) -> None:
        self.clock = store.clock
        self.calls: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self._store = store
        self._held: dict[str, asyncio.Event] = {}
        self._broken: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._store, name)
        is_asked = callable(method) and name != "heartbeat"
        return partial(self._call, name, method) if is_asked else method

    def hold(self, name: str) -> asyncio.Event:
        """Hold back the answers of a method, which has committed, until the event is set."""
        return self._held.setdefault(name, asyncio.Event())

    def break_off(self, name: str, error: Exception) -> None:
        """Let a method fail with this error before it does anything, until it is mended."""
        self._broken[name] = error

    def mend(self) -> None:
        """Let every method work again."""
        self._broken.clear()

    async def _call(
        self, name: str, method: Callable[..., Awaitable[Any]], *a: Any, **k: Any
    ) -> Any:
        self.calls[name] += 1
        if name in self._broken:
            raise self._broken[name]
        answer = await method(*a, **k)
        if name in self._held:
            self.held[name] += 1
            await self._held[name].wait()
        return answer


@asynccontextmanager
async def troubled(url: str) -> AsyncIterator[tuple[Client, TroubledStore]]:
    """Open a client whose store can be troubled."""
    store = TroubledStore(await open_store(url))
    try:
        yield Client(store), store
    finally:
        await store.close()
