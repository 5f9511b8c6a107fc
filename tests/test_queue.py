"""Workers in several processes share a queue, and one that is killed costs nothing but its moment.

What each step did is counted outside the database, in a file that every process appends to.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg

from substrate import Context, RunStatus, WorkerOptions, connect, durable
from tests.processes import Process

RUNS, STEPS = 200, 5
LIMITS = WorkerOptions(
    concurrency=8, lease=timedelta(milliseconds=900), poll=timedelta(milliseconds=30)
)


def append(path: str, line: str) -> None:
    """Append a line; a small append is whole, whoever else writes."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


async def do(path: str, run: int, step: int) -> int:
    """Take a moment, and be counted."""
    await asyncio.sleep(0.002)
    append(path, f"{run}/{step}")
    return step


@durable
async def job(ctx: Context, path: str, run: int) -> int:
    """Take a few steps."""
    for step in range(STEPS):
        await ctx.step(do, path, run, step)
    return run


def work(url: str) -> None:
    """Be a worker process until killed."""

    async def forever() -> None:
        async with connect(url) as client, client.work([job], options=LIMITS):
            await asyncio.Event().wait()

    asyncio.run(forever())


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition, with a limit."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


OWNERS = "SELECT count(DISTINCT lease_owner) FROM runs WHERE lease_owner IS NOT NULL"


def lines(path: Path) -> list[str]:
    """Return what was counted so far."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def stopped_with_a_run(worker: Process, url: str) -> bool:
    """Stop one of two workers; return whether both have runs then, else let it go on."""
    os.kill(worker.pid or 0, signal.SIGSTOP)
    if count(url, OWNERS) == 2:
        return True
    os.kill(worker.pid or 0, signal.SIGCONT)
    return False


async def test_killed_worker_of_a_shared_queue(
    postgres_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of two processes on 200 runs one is killed: all end, and no committed step is repeated."""
    counted = tmp_path / "steps.txt"
    async with connect(postgres_url) as client:
        for run in range(RUNS):
            await client.start(job, str(counted), run, id=f"job/{run}")
        workers = [Process(target=work, args=(postgres_url,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        try:
            await until(lambda: len(lines(counted)) > RUNS * STEPS // 4, 30)
            await until(lambda: stopped_with_a_run(workers[0], postgres_url), 30)
            workers[0].kill()
            workers[0].join()
            committed = committed_steps(postgres_url)
            made = Counter(lines(counted))
            results = [await client.result(f"job/{run}") for run in range(RUNS)]
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
        assert results == list(range(RUNS))
        assert len(await client.list(RunStatus.DONE, RUNS + 1)) == RUNS
    calls = Counter(lines(counted))
    assert set(calls) == {f"{run}/{step}" for run in range(RUNS) for step in range(STEPS)}
    repeated = {step for step, times in calls.items() if times > 1}
    assert repeated.isdisjoint(committed), "a committed step ran again"
    assert len(repeated) <= LIMITS.concurrency
    taken_over = count(postgres_url, "SELECT count(*) FROM runs WHERE epoch > 1")
    assert taken_over > 0
    record_property(
        "shared queue, one of two workers killed",
        f"{RUNS} of {RUNS} runs done, {made.total()} steps before the kill, {taken_over} runs "
        f"taken over, {len(repeated)} steps repeated (in flight), committed and repeated 0",
    )


def committed_steps(url: str) -> set[str]:
    """Return the steps whose outcome is recorded, read with plain SQL."""
    with psycopg.connect(url) as database:
        found = database.execute(
            "SELECT run_id, key, state, value FROM promises WHERE kind = 'step'"
        ).fetchall()
    return {f"{run_id.split('/')[1]}/{value}" for run_id, _, _, value in found}


def count(url: str, query: str) -> int:
    """Return a count."""
    with psycopg.connect(url) as database:
        found = database.execute(query.encode()).fetchone()
    return int(found[0]) if found else 0
