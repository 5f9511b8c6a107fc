"""Trees of runs, roots with children and grandchildren, on workers that are killed all the time.

A killed worker takes parents and children with it. All of them are innocent, so none may be dead,
and none may be told that another is.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Client, Context, OutcomeUnknown, RunStatus, WorkerOptions, connect, durable
from substrate.values.errors import StoreUnreachable
from tests.crew import Outside, WorkerProcess
from tests.leftovers import left_open
from tests.processes import Process
from tests.torture.tally import BURIED, LEFT_OPEN, LOST, ONCE_TWICE, Tally

BREADTH, DEPTH, STEPS = 2, 2, 4
WORKERS = 3
PAUSE_S = (0.05, 0.5)
LIMITS = WorkerOptions(
    concurrency=16,
    lease=timedelta(seconds=2),
    poll=timedelta(milliseconds=50),
    idle_timeout=timedelta(seconds=0.2),
)


async def look(folder: str, what: str) -> str:
    """Do something that may be done again."""
    Outside(Path(folder)).note(f"look {what}")
    await asyncio.sleep(0.05)
    return what


async def send(folder: str, what: str) -> str:
    """Do something that may be done once."""
    Outside(Path(folder)).note(f"send {what}")
    return what


@durable
async def member(ctx: Context, folder: str, depth: int) -> int:
    """Return how many runs there are in this tree."""
    for number in range(STEPS):
        await ctx.step(look, folder, f"{ctx.run_id} {number}")
    with suppress(OutcomeUnknown):
        await ctx.step(send, folder, ctx.run_id, effect="once")
    if depth == 0:
        return 1
    children = [ctx.spawn(member, folder, depth - 1) for _ in range(BREADTH)]
    below = await ctx.gather(*children)
    await ctx.step(look, folder, f"{ctx.run_id} again")
    return 1 + sum(below)


def size(depth: int = DEPTH) -> int:
    """Return how many runs a tree has."""
    return sum(BREADTH**level for level in range(depth + 1))


async def family_storm(url: str, folder: Path, roots: int, seconds: float, tally: Tally) -> None:
    """Kill workers for so long, or until all is done; then let them work, and compare."""
    folder.mkdir(parents=True, exist_ok=True)
    async with connect(url) as client:
        for i in range(roots):
            await client.start(member, str(folder), DEPTH, id=f"family/{i}")
        with killed_all_the_time(url, tally) as kill:
            loop = asyncio.get_running_loop()
            ends_at, chance = loop.time() + seconds, random.Random(3)
            while loop.time() < ends_at and not await _are_done(client):
                await asyncio.sleep(chance.uniform(*PAUSE_S))
                await asyncio.to_thread(kill, chance.randrange(WORKERS))
            for i in range(roots):
                await _compare(client, f"family/{i}", tally)
        for run in await client.list(RunStatus.DEAD):
            tally.fault(BURIED, f"{run.id} after {run.crashes} crashes")
    for what, times in Outside(folder).notes.items():
        if what.startswith("send ") and times > 1:
            tally.fault(ONCE_TWICE, what)
        elif what.startswith("look "):
            tally.counts["pure repeated"] += times - 1
    for id_ in left_open(url):
        tally.fault(LEFT_OPEN, id_)
    tally.counts["runs"] += roots
    tally.counts["children"] += roots * (size() - 1)


async def _are_done(client: Client) -> bool:
    runs = await client.list(limit=100_000)
    return all(run.status.has_ended for run in runs)


async def _compare(client: Client, id_: str, tally: Tally) -> None:
    try:
        async with asyncio.timeout(120):
            found = await client.result(id_)
    except Exception as error:  # noqa: BLE001 - counted
        tally.fault(LOST, f"{id_}: {type(error).__name__}: {error}")
    else:
        if found != size():
            tally.fault(LOST, f"{id_}: {found} runs of {size()}")


@contextmanager
def killed_all_the_time(url: str, tally: Tally) -> Iterator[Any]:
    """Keep workers running; yield what kills one of them and starts another in its place."""
    workers = [_worker(url) for _ in range(WORKERS)]

    def kill(place: int) -> None:
        workers[place].kill()
        workers[place] = _worker(url)
        tally.counts["kills"] += 1

    try:
        yield kill
    finally:
        for worker in workers:
            worker.kill()


def _worker(url: str) -> WorkerProcess:
    process = Process(target=_be_worker, args=(url,))
    process.start()
    return WorkerProcess(process)


def _be_worker(url: str) -> None:
    logging.getLogger("ostinato").setLevel(logging.CRITICAL)
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    while True:
        with suppress(StoreUnreachable):
            async with connect(url) as client, client.work([member], options=LIMITS):
                await asyncio.Event().wait()
        await asyncio.sleep(0.1)
