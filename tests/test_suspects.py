"""What may kill workers is driven one at a time, and keeps nobody else waiting for long."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from substrate import Client, Context, RunDead, RunStatus, WorkerOptions, connect, durable
from substrate.engine.worker.suspects import PATIENCE_S, TURN_S
from tests.crew import Outside, chain, kills, worker_process
from tests.runs import reached
from tests.stores import database, eventually

QUICK = WorkerOptions(poll=timedelta(milliseconds=20), shutdown_grace=timedelta(0))
begun: dict[str, float] = {}
may_end: set[bool] = set()


@pytest.fixture(autouse=True)
def _afresh():
    begun.clear()
    may_end.clear()


async def hold(what: str) -> str:
    """Take long."""
    begun[what] = time.monotonic()
    await eventually(lambda: may_end, 30)
    return what


@durable
async def holds(ctx: Context) -> str:
    return await ctx.step(hold, ctx.run_id)


@durable
async def waits(ctx: Context) -> str:
    begun[ctx.run_id] = time.monotonic()
    return str(await ctx.receive("go"))


@asynccontextmanager
async def suspects(url: str, function: object, count: int) -> AsyncIterator[Client]:
    """Start so many runs that have crashed twice."""
    async with connect(url) as client:
        for i in range(count):
            await client.start(function, id=f"suspect-{i}")
        with database(url) as db:
            db.rows("UPDATE runs SET crashes = 2 WHERE status = 'ready'")
        yield client


async def test_one_at_a_time(store_url):
    """A suspect in a long call is driven alone for its turn; then the next has its own."""
    async with suspects(store_url, holds, 3) as client:
        await client.start(holds, id="fresh")
        async with client.work([holds], options=QUICK):
            await eventually(lambda: len(begun) == 4, 20)
            may_end.add(True)
            for i in range(3):
                assert await client.result(f"suspect-{i}") == f"suspect-{i}"

    first, *later = sorted(begun[f"suspect-{i}"] for i in range(3))
    gaps = [after - before for before, after in zip([first, *later], later, strict=False)]
    assert min(begun.values()) == first
    assert begun["fresh"] - first >= TURN_S * 0.9
    assert min(gaps) >= TURN_S * 0.9


async def test_the_next_comes_at_once(store_url):
    """When a suspect has recorded something, the next need not wait."""
    may_end.add(True)
    async with suspects(store_url, holds, 20) as client, client.work([holds], options=QUICK):
        for i in range(20):
            await client.result(f"suspect-{i}")

    assert max(begun.values()) - min(begun.values()) < 20 * TURN_S / 2


async def test_one_that_waits_holds_nobody_up(store_url):
    """Suspects that only wait for what is elsewhere are suspended at once, one after the other."""
    async with (
        suspects(store_url, waits, 20) as client,
        client.work([waits, holds], options=QUICK),
    ):
        for i in range(20):
            await reached(client, f"suspect-{i}", "go.0")

        async def are_suspended() -> bool:
            runs = await client.list()
            return {run.status for run in runs} == {RunStatus.SUSPENDED}

        await eventually(are_suspended)
        assert {run.crashes for run in await client.list()} == {0}


async def test_beside_others(store_url):
    """A worker that drives others leaves a suspect to an idle one, and takes it on in the end."""
    async with connect(store_url) as client, client.work([holds], options=QUICK):
        await client.start(holds, id="busy")
        await eventually(lambda: "busy" in begun)
        began = time.monotonic()
        async with connect(store_url) as other:
            await other.start(holds, id="suspect", queue="elsewhere")
        with database(store_url) as db:
            db.rows(
                "UPDATE runs SET crashes = 2, queue = 'default', lane = 'default/holds/1'"
                " WHERE id = 'suspect'"
            )
        await eventually(lambda: "suspect" in begun)
        may_end.add(True)
        await client.result("suspect")

    assert begun["suspect"] - began >= PATIENCE_S * 0.9


async def test_an_idle_worker_takes_it_at_once(store_url):
    """Where another worker has nothing to do, a suspect does not wait for a busy one."""
    async with connect(store_url) as client, client.work([holds], options=QUICK):
        await client.start(holds, id="busy")
        await eventually(lambda: "busy" in begun)
        async with (
            suspects(store_url, waits, 1) as other,
            other.work([waits, holds], options=QUICK),
        ):
            began = time.monotonic()
            await eventually(lambda: "suspect-0" in begun)
            assert time.monotonic() - began < PATIENCE_S / 2
        may_end.add(True)
        await client.result("busy")


async def test_a_run_that_kills_a_crowd(store_url, tmp_path: Path):
    """A run that kills its workers is dead after a few of them, and all beside it are done."""
    outside = Outside(tmp_path)
    async with connect(store_url) as client:
        for i in range(12):
            await client.start(chain, str(tmp_path), 3, id=f"innocent-{i}")
        await client.start(kills, str(tmp_path), id="guilty")
        guilty = asyncio.create_task(client.result("guilty"))
        while not guilty.done():
            with worker_process(store_url) as worker:
                await eventually(lambda worker=worker: guilty.done() or not worker.is_alive, 30)
        with worker_process(store_url):
            for i in range(12):
                assert await client.result(f"innocent-{i}") == 3
        with pytest.raises(RunDead):
            await guilty

    assert 3 <= outside.notes["killed"] <= 4
