"""How long it takes from the SIGKILL of a worker to the next step, on the worker that survives."""

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from substrate import Context, WorkerOptions, connect, durable
from tests.crew import Outside
from tests.processes import Process
from tests.stores import eventually

STEPS = 100_000


async def beat(folder: str) -> None:
    """Note when a step is called, and by whom."""
    Outside(Path(folder)).note(f"{time.time_ns()} {os.getpid()}")
    await asyncio.sleep(0.005)


@durable
async def beats(ctx: Context, folder: str) -> None:
    for _ in range(STEPS):
        await ctx.step(beat, folder)


async def takeover_ms(url: str, folder: Path, name: str) -> float:
    """Kill the worker that drives a run; return how long until the other calls its next step."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        workers = [_worker(url, stack) for _ in range(2)]
        async with connect(url) as client:
            await client.start(beats, str(folder), id=name)
            await eventually(lambda: len(_beats(folder)) > 5)
            driver = _beats(folder)[-1][1]
            (victim,) = [each for each in workers if each == driver]
            killed = time.time_ns()
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: _beats(folder)[-1][1] != driver)
            await client.cancel(name)
        first = next(at for at, who in _beats(folder) if who != driver)
    return (first - killed) / 1e6


def _beats(folder: Path) -> list[tuple[int, int]]:
    notes = folder / "notes"
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [(int(at), int(who)) for at, who in (line.split() for line in lines)]


def _worker(url: str, stack: ExitStack) -> int:
    process = Process(target=_be_worker, args=(url,))
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)
    assert process.pid is not None
    return process.pid


def _be_worker(url: str) -> None:
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    async with connect(url) as client, client.work([beats], options=WorkerOptions()):
        await asyncio.sleep(timedelta(hours=1).total_seconds())
