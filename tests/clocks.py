"""Time that a test owns."""

import asyncio


class ManualClock:
    """A clock that stands still until it is moved. It keeps which waits were asked for."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.asked: list[float] = []
        self._now_ms = now_ms
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        """Return the time it was last moved to."""
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved so far."""
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

    @property
    def next_s(self) -> float:
        """How far to move it for the next of those that wait."""
        return max(min(due_ms for due_ms, _ in self._sleepers) - self._now_ms, 1) / 1000

    def move(self, seconds: float) -> None:
        """Move it forward, and wake whoever has waited long enough."""
        self._now_ms += round(seconds * 1000)
        for due_ms, woken in self._sleepers:
            if due_ms <= self._now_ms:
                woken.set()
