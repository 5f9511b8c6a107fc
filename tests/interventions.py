"""Runs in whose lives people and stopping workers intervene, for tests to kill at any commit.

A run is given back in the middle of a step, and cancelled; one fails and is resumed; one is given
up; one has a race whose losers have taken signals. `drive` does what is left of all that in a
process of its own, as often as it is called.
"""

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Client, Context, Run, RunFailed, RunStatus, WorkerOptions, connect, durable
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit, kill_this_process
from substrate.values.records import JsonText
from tests.crew import Outside, note_reached
from tests.processes import driven
from tests.runs import reached
from tests.stores import database

LIMITS = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=40),
    lease=timedelta(milliseconds=300),
    shutdown_grace=timedelta(0),
)
FOREVER_S = 3600
NAMES = "abcdefgh"  # of signals in a race: some that lose it have been taken by then


async def linger(folder: str) -> None:
    """Take longer than any worker lives."""
    Outside(Path(folder)).note("lingers")
    await asyncio.sleep(FOREVER_S)


async def stumble(folder: str) -> str:
    """Fail until it is mended."""
    if not Outside(Path(folder)).notes["mended"]:
        raise OSError("not yet")
    return "mended"


@durable
async def lingers(ctx: Context, folder: str) -> None:
    await ctx.gather(ctx.step(linger, folder), ctx.receive("never"), ctx.sleep(FOREVER_S))


@durable
async def stumbles(ctx: Context, folder: str) -> str:
    if not Outside(Path(folder)).notes["mended"]:
        raise OSError("not yet")
    return await ctx.step(stumble, folder)


@durable
async def races(ctx: Context) -> list[Any]:
    await ctx.sleep(0.1)
    winner = await ctx.race(*(ctx.receive(name) for name in NAMES))
    others = [await ctx.receive(name) for name in NAMES if name != NAMES[winner.place]]
    return [winner.value, *others]


FUNCTIONS = (lingers, stumbles, races)
ENDS = {
    "lingers": RunStatus.CANCELLED,
    "mended": RunStatus.DONE,
    "given-up": RunStatus.CANCELLED,
    "races": RunStatus.DONE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One world of such runs: its database, the prefix of their ids, and a folder."""

    url: str
    name: str
    folder: Path

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int | None:
        """Do what is left in a process of its own; return the exit code."""
        return driven(_drive, self, boundary, moment)

    async def ends(self) -> dict[str, RunStatus]:
        """Return what the runs have come to."""
        async with connect(self.url) as client:
            return {id_: (await client.get(self.id_of(id_))).status for id_ in ENDS}

    def open_rows(self) -> list[Any]:
        """Return the rows of these runs that are pending."""
        with database(self.url) as db:
            return db.rows(
                "SELECT id FROM promises WHERE state = 'pending' AND id LIKE :ours",
                ours=f"{self.name}/%",
            )

    def id_of(self, what: str) -> str:
        """Return the id of a run."""
        return f"{self.name}/{what}"


def _drive(case: Case, boundary: int, moment: Side) -> None:
    os.chdir(case.folder)
    logging.getLogger("ostinato").setLevel(logging.CRITICAL)  # it is told a lot of trouble here
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = kill_at_commit(
        await open_store(case.url), boundary, moment, kill_this_process, with_heartbeats=True
    )
    client = Client(store)
    await _linger(case, client)
    await _mend(case, client)
    await _give_up(case, client)
    await _race(case, client)
    await store.write_rate_limit("model", JsonText('{"n":1}'))
    await store.close()
    note_reached(case.folder, store)


async def _linger(case: Case, client: Client) -> None:
    """Leave a run in the middle of its step, and cancel it."""
    id_ = case.id_of("lingers")
    run = await client.start(lingers, str(case.folder), id=id_)
    if not (run.cancel_requested or run.status.has_ended):
        async with client.work(FUNCTIONS, options=LIMITS):
            await reached(client, id_, "never.0")
            await Outside(case.folder).noted("lingers")
            await asyncio.sleep(LIMITS.lease.total_seconds() / 2)  # the worker beats meanwhile
        await client.cancel(id_)
    await _ended(client, id_)


async def _mend(case: Case, client: Client) -> None:
    id_ = case.id_of("mended")
    await client.start(stumbles, str(case.folder), id=id_)
    if not Outside(case.folder).notes["mended"]:
        await _ended(client, id_, only=id_)
        Outside(case.folder).note("mended")
    if (await client.get(id_)).status is RunStatus.FAILED:
        await client.resume(id_)
    await _ended(client, id_, only=id_)


async def _give_up(case: Case, client: Client) -> None:
    id_ = case.id_of("given-up")
    await client.start(stumbles, str(case.folder / "nowhere"), id=id_)
    if (await _ended(client, id_)).status is RunStatus.FAILED:
        await client.discard(id_)


async def _race(case: Case, client: Client) -> None:
    id_ = case.id_of("races")
    run = await client.start(races, id=id_)
    for name in NAMES:
        if not run.status.has_ended:
            await client.signal(id_, name, name, dedup="1")
    await _ended(client, id_)
    assert sorted(await client.result(id_)) == [*NAMES]


async def _ended(client: Client, id_: str, only: str | None = None) -> Run:
    """Drive until a run has ended; return it."""
    if not (await client.get(id_)).status.has_ended:
        async with client.work(FUNCTIONS, options=LIMITS, only=only):
            with suppress(RunFailed):
                await client.result(id_)
    return await client.get(id_)
