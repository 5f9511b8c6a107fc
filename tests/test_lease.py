"""Workers come and go: no run is lost, no finished step repeated, no dead worker writes."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from substrate import Client, Context, RunDead, RunStatus, WorkerOptions, connect, durable
from substrate.values.codec import decode
from substrate.values.ids import RunId
from substrate.values.records import JsonText, NewRun
from tests.crew import Outside, chain, kills, swallows, worker_process
from tests.runs import QUICK, reached


@pytest.fixture
def outside(tmp_path):
    return Outside(tmp_path)


async def all_end(client: Client, ids: list[str]) -> None:
    """Wait until all these runs are done."""
    for run_id in ids:
        await client.result(run_id)


async def done_at_first(client: Client, ids: list[str]) -> set[str]:
    """Return what was committed by the first worker that each of these runs had."""
    rows = [promise for run_id in ids for promise in await client.journal(run_id)]
    return {decode(row.value or "") for row in rows if row.kind == "step" and row.epoch == 1}


async def claims(client: Client, ids: list[str]) -> Counter[int]:
    """Return how often these runs were claimed."""
    return Counter([(await client.get(run_id)).epoch for run_id in ids])


async def test_a_killed_worker_is_replaced(store_url, outside):
    """The runs of a killed worker end on the survivor, and no committed step is done again."""
    ids = [f"run-{i}" for i in range(20)]
    async with connect(store_url) as client:
        for run_id in ids:
            outside.hold(f"{run_id} 2")
            await client.start(chain, str(outside.folder), 5, id=run_id)
        with (
            worker_process(store_url, concurrency=10) as victim,
            worker_process(store_url, concurrency=10),
        ):
            for run_id in ids:
                await outside.noted(f"{run_id} 2 begins")
            victim.kill()
            for run_id in ids:
                outside.let_go(f"{run_id} 2")
            await all_end(client, ids)
        done = await done_at_first(client, ids)
        claimed = await claims(client, ids)
        crashes = [(await client.get(run_id)).crashes for run_id in ids]

    assert {outside.notes[f"{what} begins"] for what in done} == {1}
    assert {what for what in outside.notes if what.endswith("ends")} == {
        f"{run_id} {i} ends" for run_id in ids for i in range(5)
    }
    assert set(crashes) == {0}
    assert claimed == {1: 10, 2: 10}


async def test_a_zombie_commits_nothing(store_url, outside):
    """A worker that stood still past its lease writes nothing when it wakes, and goes on alive."""
    folder = str(outside.folder)
    async with connect(store_url) as client:
        outside.hold("run 0")
        with worker_process(store_url) as zombie:
            await client.start(chain, folder, 3, id="run")
            await outside.noted("run 0 begins")
            zombie.stop()
            with worker_process(store_url):
                await outside.noted("run 0 begins", times=2)
                outside.let_go("run 0")
                await client.result("run")
            before = await client.journal("run")
            zombie.go_on()
            await client.start(chain, folder, 1, id="next")
            await client.result("next")
            after = await client.journal("run")

    assert before == after
    assert {promise.epoch for promise in after if promise.key != "run"} == {2}
    assert outside.notes["run 1 begins"] == outside.notes["run 2 begins"] == 1


async def test_runs_are_given_back(store_url, outside):
    """A worker that is asked to end gives its runs back: no crash counted, no lease waited for."""
    folder = str(outside.folder)
    long = timedelta(minutes=5)
    async with connect(store_url) as client:
        outside.hold("run 1")
        with worker_process(store_url, lease=long) as worker:
            await client.start(chain, folder, 3, id="run")
            await outside.noted("run 1 begins")
            worker.ask_to_end()
            outside.let_go("run 1")
            assert worker.end() == 0
        given_back = await client.get("run")
        async with asyncio.timeout(10):
            with worker_process(store_url, lease=long):
                await client.result("run")
        run = await client.get("run")

    assert (given_back.status, given_back.crashes, given_back.lease_owner) == ("ready", 0, None)
    assert (run.crashes, run.epoch) == (0, 2)
    assert set(outside.notes.values()) == {1}


async def test_a_worker_that_waits_ends_at_once(store_url):
    """A worker whose runs only wait, in whatever way, does not use its grace period to end."""

    @durable
    async def inside(ctx: Context) -> None:
        await ctx.sleep(0)

    @durable
    async def waits(ctx: Context) -> None:
        await ctx.call(inside)
        await ctx.gather(ctx.receive("never"), ctx.sleep(3600), ctx.receive("nor", timeout=3600))

    @durable
    async def idles(ctx: Context) -> None:
        await ctx.call(inside)
        await asyncio.Event().wait()

    patient = WorkerOptions(shutdown_grace=timedelta(minutes=1))
    async with connect(store_url) as client:
        async with client.work([waits, idles], options=patient):
            await client.start(waits, id="waits")
            await client.start(idles, id="idles")
            await reached(client, "waits", "nor.0")
            await reached(client, "idles", "inside.0")
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began
        runs = [await client.get("waits"), await client.get("idles")]

    assert took < 5
    assert {run.status for run in runs} <= {RunStatus.SUSPENDED, RunStatus.READY}
    assert [run.crashes for run in runs] == [0, 0]


async def test_a_run_that_kills_its_workers(store_url, outside):
    """A run that crashed three workers in a row is dead: result() says so, resume revives it."""
    async with connect(store_url) as client:
        await client.start(kills, str(outside.folder), id="run")
        for times in (1, 2, 3):
            with worker_process(store_url) as worker:
                await outside.noted("killed", times)
                worker.process.join()
        dies = pytest.raises(RunDead, match="its workers ended 3 times in a row")
        with worker_process(store_url), dies:
            await client.result("run")
        dead = await client.get("run")
        revived = await client.resume("run")

    assert (dead.status, dead.crashes) == (RunStatus.DEAD, 3)
    assert (revived.status, revived.crashes) == (RunStatus.READY, 0)
    assert outside.notes == {"killed": 3}


async def test_progress_makes_up_for_a_crash(store_url, outside):
    """A settled promise sets the count of crashes back: a run that gets on never dies of them."""
    folder = str(outside.folder)
    async with connect(store_url) as client:
        await client.start(chain, folder, 5, id="run")
        for i in range(5):
            outside.hold(f"run {i}")
        for i in range(4):
            with worker_process(store_url) as worker:
                await outside.noted(f"run {i} begins")
                outside.let_go(f"run {i}")
                await outside.noted(f"run {i + 1} begins")
                worker.kill()
        outside.let_go("run 4")
        with worker_process(store_url):
            assert await client.result("run") == 5


async def test_swallowed_interrupts_write_nothing(store_url, outside):
    """Code that swallows the interrupt of a worker that ends writes nothing more, nor hangs."""
    async with connect(store_url) as client:
        outside.hold("stubborn 3")
        await client.start(swallows, str(outside.folder), id="run")
        with worker_process(store_url, shutdown_grace=timedelta(milliseconds=100)) as worker:
            await outside.noted("stubborn 3 begins")
            assert worker.end() == 0
        keys = [promise.key for promise in await client.journal("run")]
        run = await client.get("run")

    assert keys == ["run", "act.0", "act.1", "act.2"]
    assert (run.status, run.crashes) == (RunStatus.READY, 0)
    assert outside.notes["swallowed Shutdown"] == 12
    assert outside.notes["stubborn 4 begins"] == 0


async def test_strays_are_given_back(store_url):
    """A run that is its worker's and that nobody drives is given back, and ends after all."""

    @durable
    async def quick(ctx: Context) -> str:
        return "done"

    new = NewRun(RunId("run"), "quick", 1, "default", JsonText("{}"), "", seed=1)
    async with connect(store_url) as client, client.work([quick], options=QUICK) as worker:
        await client.store.start(new, worker.lines[0].owner)
        async with asyncio.timeout(10):
            assert await client.result("run") == "done"
        run = await client.get("run")

    assert (run.crashes, run.epoch) == (0, 2)
