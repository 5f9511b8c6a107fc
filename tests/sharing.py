"""Runs that share a namespace, for tests to kill at any commit of any of them."""

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Client, Context, WorkerOptions, durable
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.crew import note_reached
from tests.processes import driven

LIMITS = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=40),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)


@durable
async def listener(ctx: Context, namespace: str) -> list[str]:
    """Follow what a child says, two texts; return them as they came."""
    child = await ctx.spawn(talker, namespace).start()
    memory, heard, n = ctx.memory(namespace), list[str](), 0
    while len(heard) < 2:
        await memory.changed(n)
        news = await memory.changes(n)
        heard += [change.text for change in news.changes]
        n = news.n
    await child
    return [*heard, *await ctx.call(agreed, namespace)]


@durable
async def agreed(ctx: Context, namespace: str) -> list[str]:
    """Let two children vote, and wait for what comes of it; then wait for what nobody votes on."""
    memory = ctx.memory(namespace)
    await memory.declare("is", "sources")
    voters = [await ctx.spawn(voter, namespace, name).start() for name in ("ann", "bob")]
    motion = await memory.outcome("release")
    for each in voters:
        await each
    await memory.propose("nothing", 1, voters=["ann"], timeout=0.02)
    over = await memory.outcome("nothing")
    facts = await memory.facts("release", "is")
    return [motion.state, motion.value, over.state, *(f"{f.object} {f.dispute}" for f in facts)]


@durable
async def voter(ctx: Context, namespace: str, name: str) -> None:
    memory = ctx.memory(namespace)
    await memory.propose("release", "ship", voters=["ann", "bob"])
    await memory.vote("release", "ship", voter=name)
    await memory.remember("release", "is", f"good for {name}", confidence=0.5)


@durable
async def talker(ctx: Context, namespace: str) -> None:
    for text in ("one", "two"):
        await ctx.sleep(0.06)  # the listener waits by then, and is let go
        await ctx.memory(namespace).say(text, "t")


FUNCTIONS = (listener, talker, agreed, voter)
RESULT = ["t: one", "t: two", "passed", "ship", "expired"]


@dataclass(frozen=True, slots=True)
class Case:
    """One run of `listener`: its database, its id, and a folder of its own."""

    url: str
    run_id: str
    folder: Path

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int | None:
        """Drive the run in a process of its own; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    os.chdir(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store: Any = kill_at_commit(await open_store(case.url), boundary, moment)
    client = Client(store)
    async with client.work(FUNCTIONS, options=LIMITS):
        await client.start(listener, f"acme/{case.run_id}", id=case.run_id)
        *told, fact = await client.result(case.run_id)
        assert told == RESULT, told
        # Who has said it last is not told before; that it is decided, and once, is.
        assert fact in ("good for ann decided", "good for bob decided"), fact
    await store.close()
    note_reached(case.folder, store)
