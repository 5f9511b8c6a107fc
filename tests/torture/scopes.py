"""A living process whose workers are cut off by cancel scopes, again and again.

This is what a server does to a worker that it runs beside its requests: the task is cancelled by a
timeout, or by an anyio scope, which cancels at every turn of the loop, while it opens, works or
closes. The process lives on, so nothing is a crash, and nothing may be left behind in it.
"""

import asyncio
import random
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio

from substrate import Client, Context, OutcomeUnknown, WorkerOptions, connect, durable
from tests.crew import Outside
from tests.leftovers import left_open
from tests.stores import database
from tests.torture.tally import CRASHES, LEFT_BEHIND, LEFT_OPEN, LOST, ONCE_TWICE, Tally

LIMITS = WorkerOptions(
    lease=timedelta(seconds=2),
    poll=timedelta(milliseconds=20),
    shutdown_grace=timedelta(seconds=0.2),
)
STEPS = 6


async def look(folder: str, what: str) -> str:
    """Do something that may be done again."""
    Outside(Path(folder)).note(f"look {what}")
    await asyncio.sleep(0.03)
    return what


async def send(folder: str, what: str) -> str:
    """Do something that may be done once."""
    Outside(Path(folder)).note(f"send {what}")
    await asyncio.sleep(0.01)
    return what


@durable
async def task(ctx: Context, folder: str) -> int:
    for i in range(STEPS):
        await ctx.step(look, folder, f"{ctx.run_id} {i}")
        with suppress(OutcomeUnknown):
            await ctx.step(send, folder, f"{ctx.run_id} {i}", effect="once")
    return STEPS


async def cut_off_in_scopes(url: str, folder: Path, runs: int, cuts: int, tally: Tally) -> None:
    """Open workers in scopes that end at any moment, so often; then let one work in peace."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(5)
    async with connect(url) as client:
        for i in range(runs):
            await client.start(task, str(folder), id=f"scope/{i}")
        before = _helpers()
        for _ in range(cuts):
            work = _work(client)
            seconds = chance.choice([0.0, 0.002, 0.02, 0.3]) * chance.uniform(0.5, 1.5)
            if chance.random() < 0.5:
                with anyio.move_on_after(seconds):
                    await work
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await work
            tally.counts["workers cut off"] += 1
        await asyncio.sleep(1)
        if left := _helpers() - before:
            tally.fault(LEFT_BEHIND, sorted(thread.name for thread in left))
        with database(url) as db:
            if owners := db.rows("SELECT incarnation FROM workers"):
                tally.fault(LEFT_BEHIND, f"{len(owners)} workers are registered")
            if crashed := db.rows("SELECT id FROM runs WHERE crashes > 0"):
                tally.fault(CRASHES, crashed)
        async with client.work([task], options=LIMITS):
            for i in range(runs):
                await _compare(client, f"scope/{i}", tally)
    for what, times in Outside(folder).notes.items():
        if what.startswith("send ") and times > 1:
            tally.fault(ONCE_TWICE, what)
        elif what.startswith("look "):
            tally.counts["pure repeated"] += times - 1
    for id_ in left_open(url):
        tally.fault(LEFT_OPEN, id_)
    tally.counts["runs"] += runs


async def _work(client: Client) -> None:
    async with client.work([task], options=LIMITS):
        await asyncio.sleep(3600)


async def _compare(client: Client, id_: str, tally: Tally) -> None:
    try:
        async with asyncio.timeout(60):
            await client.result(id_)
    except Exception as error:  # noqa: BLE001 - counted
        tally.fault(LOST, f"{id_}: {type(error).__name__}: {error}")


def _helpers() -> set[threading.Thread]:
    """Return the threads of workers. Those of an open SQLite file are its client's."""
    ours = {each for each in threading.enumerate() if each.name.startswith("ostinato-")}
    return {each for each in ours if not each.name.startswith("ostinato-sqlite")}
