"""The watcher of the examples, whose mornings pass in processes that are killed in the middle.

The test owns the time: each process stands in one morning, and is told which.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from substrate import Client, RunStatus, WorkerOptions
from substrate.store.connect import open_store
from substrate.testing import ManualClock, Side, kill_at_commit
from tests.processes import driven

RUN = "notices"
DAY_S = 24 * 60 * 60
LIMITS = WorkerOptions(lease=timedelta(milliseconds=500), poll=timedelta(milliseconds=20))


@dataclass(frozen=True, slots=True)
class Watcher:
    """A fork in a folder, the database of its runs, and the page that it watches."""

    folder: Path
    url: str
    page: str

    def wake(self, day: int, boundary: int = 0, side: Side = Side.BEFORE) -> int:
        """Be a worker on one morning until the run sleeps; return the exit code."""
        return driven(_wake, self, day, boundary, side)


def _wake(watcher: Watcher, day: int, boundary: int, side: Side) -> None:
    """Be the process."""
    os.chdir(watcher.folder)
    sys.path.insert(0, str(watcher.folder))
    for name in [each for each in os.environ if each.endswith("_API_KEY")]:
        del os.environ[name]
    asyncio.run(_work(watcher, day, boundary, side))


async def _work(watcher: Watcher, day: int, boundary: int, side: Side) -> None:
    from agent.watch import watch

    clock = ManualClock()
    clock.advance(day * DAY_S)
    store = await open_store(watcher.url, clock)
    client = Client(kill_at_commit(store, boundary, side))
    await client.start(watch.of(watcher.page), id=RUN)
    async with client.work([watch], options=LIMITS) as worker:
        await worker.run_until_idle()
        while not await sleeps(client, day):  # the lease of who was killed is not over yet
            await asyncio.sleep(0.02)
            await worker.run_until_idle()
    await store.close()


async def sleeps(client: Client, day: int) -> bool:
    """Whether the run waits for the next morning: each is a generation of its own."""
    key = f"g{day}/sleep.0" if day else "sleep.0"
    is_suspended = (await client.get(RUN)).status is RunStatus.SUSPENDED
    return is_suspended and any(
        each.key == key and not each.is_settled for each in await client.journal(RUN)
    )
