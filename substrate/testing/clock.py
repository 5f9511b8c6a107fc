"""Time that a test owns: `ManualClock` stands still until it is moved.

Given to `connect`, it lets a test drive ten days of waiting in milliseconds.
"""

import asyncio


class ManualClock:
    """A clock that stands still until it is moved. It keeps which waits were asked for.

    Give it to `substrate.connect`: then timers, timeouts and deadlines go by it, and leases by the
    database's time all the same. It begins at `now_ms`, milliseconds since 1970 UTC.

    Example:
        >>> clock = ManualClock()
        >>> before = clock.now_ms()
        >>> clock.advance(60)
        >>> clock.now_ms() - before
        60000
    """

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        #: For how many seconds each wait was asked, in order.
        self.asked: list[float] = []
        self._now_ms = now_ms
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        """Return the time it was last moved to."""
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved so far: by that many `seconds`."""
        if seconds <= 0:
            return
        self.asked.append(seconds)
        woken = asyncio.Event()
        sleeper = (self._now_ms + seconds * 1000, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(sleeper)

    @property
    def sleepers(self) -> int:
        """How many wait for it to be moved."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move it forward by so many `seconds`, and wake whoever has waited long enough."""
        self._now_ms += round(seconds * 1000)
        for due_ms, woken in self._sleepers:
            if due_ms <= self._now_ms:
                woken.set()
