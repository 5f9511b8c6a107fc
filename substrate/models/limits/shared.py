"""What a provider told one process of its limits, the others keep as well: through the store.

Only what is tight is told: a model that asked for quiet, or one with less than a quarter of a limit
left; at most once a second, unless it was refused. It is read at most once a second, before a call.
So a call costs nothing more where nothing is tight but that one read, which all calls of a second
share.

Invariants: only what this process heard itself is told on, so nothing goes round in circles. What
is learned makes a call wait, never hurry. A database that does not answer fails no call: what was
paid for is kept. Ages are measured by the store's clock, so the hosts' need not agree.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from substrate.models.limits.limiter import QUOTA, RateLimiter
from substrate.store.store import Store
from substrate.values.codec import decode, encode
from substrate.values.errors import ModelError, StoreError
from substrate.values.records import JsonText

EVERY_MS = 1_000
FRESH_MS = 900_000
"""What is older than this is not read any more."""

_LONGEST_MS = 24 * 3600 * 1000
"""What a row may make a call wait for; it says nothing where it says more."""

Act = Callable[[Store], Awaitable[None]]

log = logging.getLogger("ostinato")


def _read(told: str) -> dict[str, Any] | None:
    """Return what a row says of a limit; None where nothing here has written that."""
    try:
        record: dict[str, Any] = decode(told)
        is_one = isinstance(record["by"], str) and 0 <= record["quiet_ms"] <= _LONGEST_MS
        is_one = is_one and all(_is_limit(*each) for each in record["limits"].values())
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        return None
    return record if is_one else None


def _is_limit(left: float, whole: float, rate: float) -> bool:
    """Whether a limit, and what is owed to it, comes back in time."""
    return -whole <= left <= whole and 0 < whole <= rate * _LONGEST_MS


class Sharing:
    """What a process has told and learned of limits."""

    __slots__ = ("_learned_at", "_me", "_quota", "_told_at", "_unread")

    def __init__(self, quota: RateLimiter) -> None:
        self._quota = quota
        self._me = uuid4().hex
        self._learned_at = 0
        self._told_at: dict[str, int] = {}
        self._unread: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def around(self, store: Store) -> AsyncIterator[None]:
        """Learn what others were told before a model call, and tell what it has told us."""
        await self._quietly(store, self.learn)
        try:
            yield
        except ModelError:
            await self._quietly(store, self.tell)
            raise
        await self._quietly(store, self.tell)

    async def learn(self, store: Store) -> None:
        """Take in what others were told, unless that was just done."""
        now = store.clock.now_ms()
        if 0 <= now - self._learned_at < EVERY_MS:
            return
        self._learned_at = now
        for model, told, told_at in await store.rate_limits(now - FRESH_MS):
            record = _read(told)
            if record is None:
                self._complain(model, told)
            elif record.pop("by") != self._me:
                self._quota.learn(model, record, max(now - told_at, 0))

    async def tell(self, store: Store) -> None:
        """Write down what was heard that is tight."""
        now = store.clock.now_ms()
        for model, record in self._quota.news():
            is_refused = record["quiet_ms"] > 0
            if is_refused or now - self._told_at.get(model, 0) >= EVERY_MS:
                self._quota.told(model)
                self._told_at[model] = now
                await store.write_rate_limit(model, JsonText(encode({**record, "by": self._me})))

    def forget(self) -> None:
        """Forget what was told and learned, so that both are done again at once."""
        self._learned_at = 0
        self._told_at.clear()

    def _complain(self, model: str, told: str) -> None:
        """Say once of a row that it says nothing of a limit."""
        if (model, told) not in self._unread:
            self._unread.add((model, told))
            log.warning("the row of %s in `limits` is not read: %.200s; delete it", model, told)

    async def _quietly(self, store: Store, act: Act) -> None:
        try:
            await act(store)
        except StoreError as error:
            log.info("limits are not shared just now: %s", error)


SHARING = Sharing(QUOTA)
"""What this process has told and learned."""
