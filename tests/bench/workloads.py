"""The durable functions that are measured, and the clocks in them."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from substrate import Context, durable
from substrate.store.store import Store
from substrate.testing import Side, kill_this_process
from substrate.testing.crash import KillingStore
from substrate.values.records import Claim, Owner

PAYLOAD = {"text": "x" * 180}
"""About 200 bytes as JSON."""

marks: dict[str, list[float]] = {}
"""Seconds, by what was measured: filled by the functions below, read by the benchmark."""


def mark(name: str, seconds: float) -> None:
    """Keep one measurement."""
    marks.setdefault(name, []).append(seconds)


async def work(i: int) -> dict[str, Any]:
    """Give back 200 bytes."""
    return PAYLOAD


def work_plainly(i: int) -> int:
    """Give back nearly nothing, from a thread."""
    return i


async def work_barely(i: int) -> int:
    """Give back nearly nothing."""
    return i


class Gate:
    """Holds runs until all of them are there, so that what is timed is their steps."""

    def __init__(self) -> None:
        self.waiting = 0
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        """Wait for the gate to open."""
        self.waiting += 1
        await self.opened.wait()


gates: dict[str, Gate] = {}
"""Gates by the name of what is measured; a run whose name has none goes straight through."""


@durable
async def sequential(ctx: Context, steps: int, name: str) -> int:
    """Take steps one after another, and time each."""
    if name in gates:
        await gates[name].pass_through()
    for i in range(steps):
        began = time.perf_counter()
        await ctx.step(work, i)
        mark(name, time.perf_counter() - began)
    return steps


@durable
async def fan_out(ctx: Context, steps: int, kind: str) -> float:
    """Take steps side by side, and time them all."""
    began = time.perf_counter()
    await ctx.map(work_plainly if kind == "plain" else work_barely, range(steps))
    mark(f"fan-out {kind}", time.perf_counter() - began)
    return 0


@durable
async def resumable(ctx: Context, steps: int) -> int:
    """Take steps, then wait to be resumed, then note when the first new step begins."""
    for i in range(steps):
        await ctx.step(work, i)
    await ctx.receive("go")
    await ctx.step(note_arrival, name="arrival")
    return steps


@durable
async def empty(ctx: Context) -> int:
    """Do nothing."""
    return 0


async def note_arrival() -> float:
    """Note the moment of the first new step."""
    mark("arrival", time.perf_counter())
    return 0


class Timed(KillingStore):
    """A store that notes when a claim was made, and counts commits."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, 0, Side.BEFORE, kill_this_process, with_heartbeats=False)

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`."""
        began = time.perf_counter()
        claimed = await super().claim(lane, limit, owner)
        if claimed:
            mark("claimed", began)
        return claimed
