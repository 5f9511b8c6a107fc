"""When a line ticks, and how much of it: all at each poll, and at once what a hint is about.

A *hint* says that something was done for a run, so that nobody waits for the next poll. Correctness
rests on the whole ticks alone: a hint may be lost, or be about nothing.

Invariant: a hint that comes while a tick is under way is for the next one; none is acted on twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick is to do."""

    #: All there is to do.
    is_whole: bool
    #: Look at our own runs.
    is_to_check: bool
    #: Claim ready runs.
    is_to_claim: bool
    #: Those who wait for it to have passed.
    awaited: Sequence[asyncio.Future[None]]


class Ticks:
    """The hints of a line, and the moment of its next whole tick."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self._soon = asyncio.Event()
        self._is_to_check = self._is_to_claim = self._is_to_tick = False
        self._awaited: list[asyncio.Future[None]] = []
        self._next_whole = 0.0
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def check_soon(self, *, claims: bool = False) -> None:
        """Say that something was done for a run of ours; with `claims`, one may be ready too."""
        self._is_to_claim = self._is_to_claim or claims
        self._is_to_check = True
        self._soon.set()

    def claim_soon(self) -> None:
        """Say that there may be a run to claim."""
        self._is_to_claim = True
        self._soon.set()

    def tick_soon(self) -> None:
        """Say that there may be anything to do."""
        self._is_to_tick = True
        self._soon.set()

    async def ticked(self) -> None:
        """Return when a whole tick has passed from now on, also in vain."""
        tick = asyncio.get_running_loop().create_future()
        self._awaited.append(tick)
        self.tick_soon()
        await tick

    def begin(self) -> Tick:
        """Take the hints there are, before they are acted on; return what the tick is to do."""
        self._soon.clear()
        awaited, self._awaited = self._awaited, []
        is_whole = self._is_to_tick or self._now() >= self._next_whole
        checks, claims = is_whole or self._is_to_check, is_whole or self._is_to_claim
        self._is_to_check = self._is_to_claim = self._is_to_tick = False
        return Tick(is_whole, checks, claims, awaited)

    def end(self, tick: Tick) -> None:
        """Take note that a tick has passed, well or in vain."""
        for each in tick.awaited:
            if not each.done():
                each.set_result(None)
        if tick.is_whole:  # from its end: a database that is slow has its pause, too
            self._next_whole = self._now() + self._poll_s

    async def next(self) -> None:
        """Return when the next tick is to begin."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._next_whole - self._now(), 0.0)):
                await self._soon.wait()
