"""What a provider told one process of its limits, the others keep as well: through the store.

Only what is tight is written: a model that asked for quiet, or one with less than a quarter of a
limit left; at most once a second, unless it was refused. Before a call the rows are read, at most
once a second. So a call costs nothing more where nothing is tight but that one read, which all
calls of a second share.

Invariants: only what this process heard itself is written, so nothing goes round in circles. What
is read makes a call wait, never hurry. A database that does not answer fails no call: what was paid
for is kept. Ages are measured by the store's clock, so the hosts' need not agree.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from substrate.models.limits.limiter import RateLimiter
from substrate.store.store import Store
from substrate.values.codec import decode, encode
from substrate.values.errors import ModelError, StoreError
from substrate.values.records import JsonText

EVERY_MS = 1_000
"""How often rows are read, and what is tight is written, at most."""

FRESH_MS = 900_000
"""What is older than this is not read any more."""

_LONGEST_MS = 24 * 3600 * 1000
"""The longest wait that a row is believed to ask for."""

log = logging.getLogger("ostinato")


class Sharing:
    """What a process has read and written of limits."""

    __slots__ = ("_limiter", "_process", "_read_at", "_reported", "_written_at")

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._process = uuid4().hex
        self._read_at = 0
        self._written_at: dict[str, int] = {}
        self._reported: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def around(self, store: Store) -> AsyncIterator[None]:
        """Read before a model call what others heard, and write after it what this one heard."""
        await _quietly(store, self.read)
        try:
            yield
        except ModelError:  # a refusal says most; any other error says nothing of limits
            await _quietly(store, self.write)
            raise
        await _quietly(store, self.write)

    async def read(self, store: Store) -> None:
        """Merge what other processes wrote, unless that was just done."""
        now = store.clock.now_ms()
        # Below 0 the clock was set back: then it is read at once, not when it has caught up.
        if 0 <= now - self._read_at < EVERY_MS:
            return
        self._read_at = now
        for model, row, written_at in await store.rate_limits(now - FRESH_MS):
            record = _record_in(row)
            if record is None:
                self._report_once(model, row)
            elif record.pop("by") != self._process:
                self._limiter.merge(model, record, max(now - written_at, 0))

    async def write(self, store: Store) -> None:
        """Write what this process heard that is tight."""
        now = store.clock.now_ms()
        for model, record in self._limiter.unshared():
            is_refused = record["quiet_ms"] > 0
            if is_refused or now - self._written_at.get(model, 0) >= EVERY_MS:
                # Noted before the write: a call that comes meanwhile need not write the same.
                self._limiter.mark_shared(model)
                self._written_at[model] = now
                row = JsonText(encode({**record, "by": self._process}))
                await store.write_rate_limit(model, row)

    def _report_once(self, model: str, row: str) -> None:
        if (model, row) not in self._reported:
            self._reported.add((model, row))
            log.warning("the row of %s in `rate_limits` is not read: %.200s; delete it", model, row)


async def _quietly(store: Store, act: Callable[[Store], Awaitable[None]]) -> None:
    try:
        await act(store)
    except StoreError as error:
        log.info("limits are not shared just now: %s", error)


def _record_in(row: str) -> dict[str, Any] | None:
    """Return what a row says of a limit; None for a row that the kit has not written."""
    try:
        record: dict[str, Any] = decode(row)
        is_one = isinstance(record["by"], str) and 0 <= record["quiet_ms"] <= _LONGEST_MS
        is_one = is_one and all(_is_limit(*each) for each in record["limits"].values())
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        return None
    return record if is_one else None


def _is_limit(left: float, whole: float, rate: float) -> bool:
    """Whether a limit, and what is owed to it, comes back in time."""
    return -whole <= left <= whole and 0 < whole <= rate * _LONGEST_MS
