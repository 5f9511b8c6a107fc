"""What model calls know of their models: what is left, who fails, and what other workers heard.

There is one `ModelLimits` for each store, on the store's clock: all runs of a client share it, and
the store passes it on to other processes. A call outside of a run shares one with the other such
calls of its event loop.

Invariant: nothing here outlives the store, or the loop, to which it belongs.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

from substrate.models.limits.breaker import Breakers
from substrate.models.limits.limiter import RateLimiter
from substrate.models.limits.shared import Sharing
from substrate.store.store import Store
from substrate.values.clock import Clock, OffsetClock


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits and the health of all models that are asked together."""

    #: Makes a call wait until its model's limits allow it.
    limiter: RateLimiter
    #: Say which models are passed over for a while.
    breakers: Breakers
    #: Reads from the store what other processes heard, and writes what this one heard.
    sharing: Sharing

    @classmethod
    def on(cls, clock: Clock) -> Self:
        """Return limits of which nothing was heard yet, on a clock."""
        limiter = RateLimiter(clock)
        return cls(limiter, Breakers(clock), Sharing(limiter))

    @classmethod
    def of(cls, store: Store) -> "ModelLimits":
        """Return the limits that all runs of a store's client share."""
        # The value must not refer to the store, or neither would ever go.
        return _of_stores.get(store) or _of_stores.setdefault(store, cls.on(store.clock))

    @classmethod
    def of_this_loop(cls) -> "ModelLimits":
        """Return the limits that calls outside of runs share, while this event loop runs."""
        loop = asyncio.get_running_loop()
        return _of_loops.get(loop) or _of_loops.setdefault(loop, cls.on(OffsetClock()))

    def unblock(self, places: Iterable[str]) -> None:
        """Let models be asked at once: a person knows that they answer again."""
        for place in places:
            self.limiter.unblock(place)
            self.breakers.succeeded(place)


@asynccontextmanager
async def shared_limits(store: Store) -> AsyncIterator[ModelLimits]:
    """Give the limits of a store's client for one model call.

    What other processes heard is read before the call; what this one heard is written after it,
    also where it raises `ModelError`.
    """
    limits = ModelLimits.of(store)
    async with limits.sharing.around(store):
        yield limits


_of_stores: WeakKeyDictionary[Store, ModelLimits] = WeakKeyDictionary()
_of_loops: WeakKeyDictionary[AbstractEventLoop, ModelLimits] = WeakKeyDictionary()
