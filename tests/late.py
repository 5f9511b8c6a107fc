"""Worker processes that are stopped with a call before them, and a world that counts what was done.

Which process is the slow one is said by a file that only the slow one's id is in.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Context, Done, NotDone, OutcomeUnknown, WorkerOptions, connect, durable
from tests.crew import LEASE, Outside, WorkerProcess
from tests.processes import Process

TIMEOUT = 0.4
LIMITS = WorkerOptions(lease=LEASE, poll=timedelta(milliseconds=20), threads=1)


def linger(folder: str) -> None:
    """Keep the thread or the loop of the slow process busy, for as long as it is held."""
    outside = Outside(Path(folder))
    outside.note("lingers")
    while outside.is_held(f"{os.getpid()}"):
        time.sleep(0.005)


async def linger_on_the_loop(folder: str) -> None:
    """Block the event loop."""
    linger(folder)


def charge(folder: str) -> str:
    """Do what must not be done twice."""
    Outside(Path(folder)).note("charge")
    return "charged"


async def charge_on_the_loop(folder: str) -> str:
    """Do it on the loop."""
    return charge(folder)


async def charge_after_a_while(folder: str) -> str:
    """Do it after a wait in the middle of the call."""
    outside = Outside(Path(folder))
    outside.note("lingers")
    while outside.is_held(f"{os.getpid()}"):
        await asyncio.sleep(0.05)
    return charge(folder)


async def look(folder: str) -> Done | NotDone:
    """Say truthfully whether it was done."""
    return Done("found") if Outside(Path(folder)).notes["charge"] else NotDone()


@durable
async def late(ctx: Context, folder: str, where: str) -> list[Any]:
    """Have a charge to make behind something slow; tell what came of it."""
    if where == "in its middle":
        first = ctx.step(asyncio.sleep, 0, name="nothing")
        pays: Any = charge_after_a_while
    elif where == "on the loop":
        first, pays = ctx.step(linger_on_the_loop, folder, effect="once"), charge_on_the_loop
    else:
        first, pays = ctx.step(linger, folder, effect="idempotent"), charge
    paid = ctx.step(pays, folder, effect="once", timeout=TIMEOUT, reconcile=look, name="charge")
    try:
        return await ctx.gather(first, paid)
    except OutcomeUnknown as error:
        return [error.name]


@durable
async def next_one(ctx: Context) -> int:
    """Show which worker is alive."""
    return await ctx.step(os.getpid)


@contextmanager
def late_worker(url: str) -> Iterator[WorkerProcess]:
    """Start a worker process with one thread; it is gone when the block ends."""
    process = Process(target=_be_worker, args=(url,))
    process.start()
    try:
        yield WorkerProcess(process)
    finally:
        process.kill()
        process.join()


def _be_worker(url: str) -> None:
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    async with connect(url) as client, client.work([late, next_one], options=LIMITS):
        await asyncio.Event().wait()


async def charged_behind(url: str, folder: Path, where: str, run_id: str = "run") -> int:
    """Stop a worker before its charge until another has made it; let it go on. Count charges."""
    outside = Outside(folder)
    async with connect(url) as client:
        with late_worker(url) as slow:
            outside.hold(f"{slow.pid}")
            await client.start(late, str(folder), where, id=run_id)
            await outside.noted("lingers")
            await asyncio.sleep(0.1)  # for the intent, where there is one, to be committed
            slow.stop()
            with late_worker(url):
                await outside.noted("charge")
                await client.result(run_id)
            outside.let_go(f"{slow.pid}")
            slow.go_on()
            await client.start(next_one, id=f"{run_id}/next")
            assert await client.result(f"{run_id}/next") == slow.pid
    return outside.notes["charge"]
