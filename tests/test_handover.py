"""A run passes from holder to holder at any moment, and none is lost or driven by two."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import Client, Context, PromiseState, RunStatus, WorkerOptions, connect, durable
from substrate.engine.run.committer import Committer
from substrate.engine.run.execution import Execution
from substrate.engine.run.services import Services, ignore_event
from substrate.engine.run.threads import Threads
from substrate.engine.worker.drive import drive
from substrate.engine.worker.driven import DrivenRun
from substrate.values.errors import LeaseLost
from substrate.values.ids import RunId
from substrate.values.records import JsonText, NewRun
from tests.crew import Outside, blocks, worker_process
from tests.runs import QUICK, reached
from tests.stores import OWNER, Database, database, eventually, opened
from tests.troubled import troubled

IMPATIENT = WorkerOptions(
    lease=QUICK.lease, poll=QUICK.poll, shutdown_grace=timedelta(milliseconds=50)
)

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


@pytest.fixture
def db(store_url):
    with database(store_url) as opened:
        yield opened


async def work(what: str = "work") -> str:
    calls[what] += 1
    return what


@durable
async def quick(ctx: Context) -> str:
    return await ctx.step(work)


@durable
async def waits(ctx: Context) -> Any:
    await ctx.step(work)
    return await ctx.receive("go")


async def given_back(client: Client, run_id: str) -> bool:
    """Whether the run is ready again, without a crash against it."""
    run = await client.get(run_id)
    return (run.status, run.crashes, run.lease_owner) == (RunStatus.READY, 0, None)


async def test_a_start_that_meets_the_end(store_url):
    """A run that is started while its worker ends is given back: nobody waits for its lease."""
    async with troubled(store_url) as (client, store):
        held = store.hold("start")
        async with client.work([quick], options=QUICK) as worker:
            starting = asyncio.create_task(client.start(quick, id="run"))
            await eventually(lambda: store.held["start"])
            closing = asyncio.create_task(worker.close())
            await eventually(lambda: worker.is_stopping)
            held.set()
            await asyncio.gather(starting, closing)
            assert await given_back(client, "run")

    assert calls.total() == 0


async def test_a_claim_that_meets_the_end(store_url):
    """Runs that are claimed while their worker ends are given back too."""
    async with troubled(store_url) as (client, store):
        await client.start(quick, id="run")
        held = store.hold("claim")
        async with client.work([quick], options=QUICK) as worker:
            await eventually(lambda: store.held["claim"])
            closing = asyncio.create_task(worker.close())
            await eventually(lambda: worker.is_stopping)
            held.set()
            await closing
            assert await given_back(client, "run")

    assert calls.total() == 0


async def test_a_start_whose_caller_gives_up(store_url):
    """A run whose start() was cancelled after it had been committed is driven all the same."""
    async with troubled(store_url) as (client, store):
        store.hold("start")
        async with client.work([quick], options=QUICK):
            starting = asyncio.create_task(client.start(quick, id="run"))
            await eventually(lambda: store.held["start"])
            starting.cancel()
            assert await client.result("run") == "work"

    assert calls == {"work": 1}


async def test_strays_are_given_back(store_url):
    """A run that is its worker's and that nobody drives is given back, and ends after all."""
    new = NewRun(RunId("run"), "quick", 1, "default", JsonText("{}"), "", seed=1)
    async with connect(store_url) as client, client.work([quick], options=QUICK) as worker:
        await client.store.start(new, worker.lines[0].owner)
        assert await client.result("run") == "work"
        run = await client.get("run")

    assert (run.crashes, run.epoch) == (0, 2)


async def test_a_start_whose_answer_is_late(store_url):
    """A run whose start has committed and not returned yet is no stray, however long that takes."""
    async with troubled(store_url) as (client, store):
        held = store.hold("start")
        async with client.work([quick], options=QUICK):
            starting = asyncio.create_task(client.start(quick, id="run"))
            await eventually(lambda: store.calls["owned_runs"] > 40)
            held.set()
            await starting
            assert await client.result("run") == "work"
            run = await client.get("run")

    assert (run.epoch, calls.total()) == (1, 1)


async def test_a_run_taken_away(store_url, db: Database):
    """A run that its worker has lost is taken anew, and the former driver writes nothing more."""
    async with connect(store_url) as client, client.work([waits], options=QUICK):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        db.rows("UPDATE runs SET status = 'ready', lease_owner = NULL WHERE id = 'run'")
        await eventually(lambda: db.value("SELECT epoch FROM runs WHERE id = 'run'") == 2)
        await client.signal("run", "go", "late")
        assert await client.result("run") == "late"

    assert calls == {"work": 1}


async def test_a_run_claimed_anew_by_the_same_worker(store_url, db: Database):
    """A worker that claims a run it still drives lets go of it first."""
    async with (
        troubled(store_url) as (client, store),
        client.work([waits], options=QUICK) as worker,
    ):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        former = worker.execution_of(RunId("run"))
        held = store.hold("owned_runs")
        await eventually(lambda: store.held["owned_runs"])
        db.rows("UPDATE runs SET status = 'ready', lease_owner = NULL WHERE id = 'run'")
        held.set()
        await eventually(lambda: worker.execution_of(RunId("run")) is not former)
        await client.signal("run", "go", "once")
        assert await client.result("run") == "once"

    assert isinstance(former.lifecycle.interrupt, LeaseLost)


async def test_a_lapsed_lease_and_a_tick_that_hangs(store_url):
    """When the lease lapses every run is let go of, though the tick waits for the database."""
    async with (
        troubled(store_url) as (client, store),
        client.work([waits], options=QUICK) as worker,
    ):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        held = store.hold("owned_runs")
        await eventually(lambda: store.held["owned_runs"])
        worker.give_leases_up()
        await eventually(lambda: worker.running == 0)
        held.set()


async def test_a_worker_that_was_struck_off(store_url, db: Database):
    """A worker that the others gave up comes back as another, and goes on with what is left."""
    async with connect(store_url) as client, client.work([waits], options=QUICK) as worker:
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        first = worker.lines[0].owner
        db.rows("DELETE FROM workers")
        await eventually(lambda: worker.lines[0].owner != first)
        await client.signal("run", "go", "still here")
        assert await client.result("run") == "still here"

    assert calls == {"work": 1}


async def test_no_step_is_begun_under_a_lapsed_lease(store_url):
    """Once the lease has lapsed nothing more is called, before anybody else has said so."""
    lease = {"holds": True}

    async def lapse() -> None:
        lease["holds"] = False

    @durable
    async def two(ctx: Context) -> None:
        await ctx.step(lapse)
        await ctx.step(work)

    async with opened(store_url) as store:
        new = NewRun(RunId("run"), "two", 1, "default", JsonText("{}"), "", seed=1)
        _, claim = await store.start(new, OWNER)
        assert claim is not None
        committer = Committer(store)
        services = Services(
            store,
            committer,
            store.clock,
            Threads(1),
            ignore_event,
            lambda: lease["holds"],
            lease_s=10,
            warm_s=20,
        )
        await drive(DrivenRun(Execution(claim, services)), two)
        await committer.close()
        keys = [promise.key for promise in await store.journal(RunId("run"))]

    assert calls.total() == 0
    assert keys == ["run", "lapse.0"]


async def test_shut_while_a_branch_commits(store_url):
    """A run that is let go of while a branch's commit is on its way does not repeat that branch."""
    async with troubled(store_url) as (client, store):

        @durable
        async def gathers(ctx: Context) -> Any:
            return await ctx.gather(*(ctx.step(work, f"branch {i}") for i in range(5)))

        held = store.hold("commit")
        async with client.work([gathers], options=IMPATIENT) as worker:
            await client.start(gathers, id="run")
            await eventually(lambda: store.held["commit"])
            await worker.close()
            held.set()
            assert await given_back(client, "run")
        async with client.work([gathers], options=QUICK):
            assert await client.result("run") == [f"branch {i}" for i in range(5)]

    assert set(calls.values()) == {1}


async def test_a_plain_step_in_flight_at_the_end(store_url):
    """A worker that ends waits for a plain function in its thread, as long as its grace lasts."""
    began, let_go = threading.Event(), threading.Event()

    def blocks() -> str:
        calls["blocks"] += 1
        began.set()
        let_go.wait(30)
        return "done"

    @durable
    async def plain(ctx: Context) -> str:
        return await ctx.step(blocks)

    async with connect(store_url) as client:
        async with client.work([plain], options=QUICK) as worker:
            await client.start(plain, id="in-time")
            await asyncio.to_thread(began.wait, 30)
            closing = asyncio.create_task(worker.close())
            let_go.set()
            await closing
        settled = (await client.journal("in-time"))[-1]
        began.clear()
        let_go.clear()
        async with client.work([plain], options=IMPATIENT):
            await client.start(plain, id="too-late")
            await asyncio.to_thread(began.wait, 30)
        rows = await client.journal("too-late")
        let_go.set()

        assert (settled.key, settled.state) == ("blocks.0", PromiseState.RESOLVED)
        assert [promise.key for promise in rows] == ["run"]
        assert await given_back(client, "too-late")


async def test_a_plain_step_that_never_returns(store_url, tmp_path):
    """A plain function that does not return keeps neither its worker nor its process."""
    outside = Outside(tmp_path)
    async with connect(store_url) as client:
        await client.start(blocks, str(tmp_path), id="run")
        with worker_process(store_url, shutdown_grace=timedelta(milliseconds=50)) as worker:
            await outside.noted("begin ends")
            assert worker.end() == 0
        assert await given_back(client, "run")


async def test_a_step_that_will_not_be_cancelled(store_url, caplog):
    """A step that swallows its cancellation cannot keep its worker from ending."""
    let_go = asyncio.Event()

    async def stubborn() -> None:
        calls["stubborn"] += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                calls["cancelled"] += 1

    @durable
    async def runs(ctx: Context) -> None:
        await ctx.step(stubborn)

    async with connect(store_url) as client:
        async with client.work([runs], options=IMPATIENT):
            await client.start(runs, id="run")
            await eventually(lambda: calls["stubborn"])
        assert await given_back(client, "run")
        keys = [promise.key for promise in await client.journal("run")]
        let_go.set()

    assert calls["cancelled"] > 0
    assert keys == ["run"]
    assert "ignore their cancellation" in caplog.text


@durable
async def inside(ctx: Context) -> None:
    await ctx.receive("never")


async def directly(ctx: Context) -> None:
    await ctx.call(inside)


async def in_a_branch(ctx: Context) -> None:
    await ctx.gather(ctx.call(inside), ctx.step(work))


@pytest.mark.parametrize("waits_for_ever", [directly, in_a_branch])
async def test_a_task_cancelled_by_a_stranger(store_url, waits_for_ever):
    """A run whose task was cancelled by code that cancels all tasks has not failed: it goes on."""

    @durable
    async def outer(ctx: Context) -> str:
        if not calls["cancelled"]:
            await waits_for_ever(ctx)
        return "went on"

    async with connect(store_url) as client, client.work([outer], options=QUICK):
        await client.start(outer, id="run")
        await reached(client, "run", "inside.0/never.0")
        calls["cancelled"] += 1
        for task in asyncio.all_tasks():
            if task.get_name() == "ostinato-run run":
                task.cancel()
        assert await client.result("run") == "went on"
        keys = [promise.key for promise in await client.journal("run")]

    assert "inside.0" not in keys


async def test_a_cancellation_of_somebody_elses_leaves_the_run(store_url):
    """What asyncio's task groups leave behind on their task does not end the run that used them."""

    async def fails() -> None:
        raise ValueError("in a group")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    @durable
    async def groups(ctx: Context) -> list[str]:
        told = []
        for operation in (ctx.step(grouped), ctx.call(inside)):
            try:
                await operation
            except Exception as error:  # noqa: BLE001 - whatever it is, it is named
                told.append(str(error))
        return told

    @durable
    async def inside(ctx: Context) -> None:
        await grouped()

    async with connect(store_url) as client, client.work([groups], options=QUICK):
        await client.start(groups, id="run")
        told = await client.result("run")

    said = (
        "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): ValueError: in a group"
    )
    assert told == [f"step 'grouped' failed: {said}", f"step 'inside' failed: {said}"]


async def test_two_workers_of_one_client(store_url):
    """A client may have several workers: each run is started and woken by the one that knows it."""

    @durable
    async def other(ctx: Context) -> Any:
        return await ctx.receive("go")

    slow = WorkerOptions(poll=timedelta(seconds=30))
    async with (
        connect(store_url) as client,
        client.work([waits], options=slow),
        client.work([other], queue="second", options=slow),
    ):
        await client.start(waits, id="one")
        await client.start(other, id="two", queue="second")
        await client.signal("one", "go", 1)
        await client.signal("two", "go", 2)
        async with asyncio.timeout(10):
            assert [await client.result("one"), await client.result("two")] == [1, 2]


async def test_more_runs_than_places(store_url):
    """Runs that find no free place wait, and are taken as soon as one is free, in order."""
    order: list[str] = []

    async def note(run_id: str) -> None:
        order.append(run_id)

    @durable
    async def notes(ctx: Context) -> None:
        await ctx.step(note, ctx.run_id)

    one = WorkerOptions(concurrency=1, poll=timedelta(seconds=30))
    async with connect(store_url) as client:
        for i in range(10):
            await client.start(notes, id=f"run/{i}", priority=i)
        async with client.work([notes], options=one), asyncio.timeout(10):
            for i in range(10):
                await client.result(f"run/{i}")

    assert order == [f"run/{i}" for i in range(10)]
