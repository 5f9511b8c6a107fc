"""The database fails, is away or comes back, and no run is lost, failed or done twice by that."""

import asyncio
import os
import signal
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, RunStatus, WorkerOptions, connect, durable
from substrate.engine.run.log_once import TroubleLog
from substrate.values.codec import decode
from substrate.values.errors import CheckpointRefused, StepFailed, StoreUnreachable, StoreUnusable
from tests.postgres import postgres, server_pid
from tests.runs import QUICK, keys, reached
from tests.stores import eventually
from tests.troubled import TroubledStore, troubled

calls: Counter[str] = Counter()
SHORT = WorkerOptions(lease=timedelta(milliseconds=300), poll=timedelta(milliseconds=20))


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def work(what: str) -> str:
    calls[what] += 1
    return what


@durable
async def chain(ctx: Context, steps: int) -> Any:
    for i in range(steps):
        await ctx.step(work, f"step {i}")
    return await ctx.receive("go")


@pytest.mark.parametrize("limits", [WorkerOptions(), SHORT], ids=["in time", "past the lease"])
async def test_the_server_is_killed(limits):
    """Postgres is killed under a working run: it ends when the server is back, nothing repeated."""
    steps = 300
    with postgres() as dsn:
        async with connect(dsn) as client, client.work([chain], options=limits):
            await client.start(chain, steps, id="run")
            await eventually(lambda: calls.total() > 20)
            os.kill(server_pid(dsn), signal.SIGKILL)
            await eventually(lambda: calls.total() >= steps)
            await patiently(lambda: client.signal("run", "go", "done", dedup="1"))
            assert await client.result("run") == "done"
            rows = await client.journal("run")
            run = await client.get("run")

    done_at_first = {decode(row.value or "") for row in rows if row.epoch == 1 and row.value}
    assert calls.keys() == {f"step {i}" for i in range(steps)}
    assert {calls[what] for what in done_at_first & calls.keys()} == {1}
    assert calls.total() - steps <= run.epoch - 1
    assert run.crashes == 0


async def patiently(call: Any) -> Any:
    """Ask until the database answers."""

    async def answer() -> bool:
        try:
            await call()
        except StoreUnreachable:
            return False
        return True

    await eventually(answer)


async def swallowing(ctx: Context) -> str:
    """Take a step, and go on whatever becomes of it."""
    try:
        await ctx.step(work, "first")
    except Exception:  # noqa: BLE001 - what careless code does
        calls["swallowed"] += 1
    return await ctx.step(work, "second")


async def in_a_call(ctx: Context) -> str:
    """Do the same inside a call."""
    return await ctx.call(careless)


async def in_a_branch(ctx: Context) -> str:
    """Do the same inside a branch."""
    (result,) = await ctx.gather(ctx.call(careless))
    return result


@durable
async def careless(ctx: Context) -> str:
    return await swallowing(ctx)


@pytest.mark.parametrize("function", [swallowing, in_a_call, in_a_branch])
async def test_a_database_that_fails_is_no_error_of_the_step(sqlite_url, function):
    """Code that catches every exception does not see a failing database: the run goes on later."""
    run = durable(function)
    async with troubled(sqlite_url) as (client, store), client.work([run], options=QUICK):
        store.break_off("commit", StoreUnusable("the disk is full"))
        await client.start(run, id="run")
        await eventually(lambda: store.calls["commit"])
        await eventually(lambda: store.calls["release"])
        recorded = await keys(client, "run")
        store.mend()
        assert await client.result("run") == "second"
        assert (await client.get("run")).crashes == 0

    assert recorded == ["run"]
    assert calls["swallowed"] == 0
    assert calls["second"] == 1


async def test_a_row_that_is_refused_is_a_failure(sqlite_url):
    """A result that the database refuses rejects its step: it is no call for ever again."""

    class Refusing(TroubledStore):
        async def commit(self, batch: Any, *, wait: bool = False) -> Any:
            if any("poison" in (checkpoint.promise.value or "") for checkpoint in batch):
                raise CheckpointRefused("the row is refused")
            return await self._store.commit(batch, wait=wait)

    @durable
    async def tastes(ctx: Context) -> list[str]:
        told = [await ctx.step(work, "wholesome")]
        try:
            await ctx.step(work, "poison")
        except StepFailed as error:
            told.append(f"{error.type}: {error.message}")
        return told

    @durable
    async def ends(ctx: Context) -> str:
        return "poison"

    async with troubled(sqlite_url) as (client, store):
        client.store = Refusing(store._store)
        async with client.work([tastes, ends], options=QUICK):
            await client.start(tastes, id="run")
            await client.start(ends, id="end")
            assert await client.result("run") == [
                "wholesome",
                "CheckpointRefused: the row is refused",
            ]
            await eventually(lambda: failed(client, "end"))

    assert calls == {"wholesome": 1, "poison": 1}


async def failed(client: Any, run_id: str) -> bool:
    """Whether the run has failed."""
    return (await client.get(run_id)).status is RunStatus.FAILED


@pytest.mark.parametrize("method", ["inbox", "journal", "recover", "owned_runs", "claim"])
async def test_a_database_that_is_away(sqlite_url, method):
    """Whatever was asked of a database that is away is asked again, and no run notices."""
    async with troubled(sqlite_url) as (client, store):
        async with client.work([chain], options=QUICK):
            await client.start(chain, 2, id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go", "done")
        store.break_off(method, StoreUnreachable("nobody answers"))
        before = store.calls[method]
        async with client.work([chain], options=QUICK):
            await eventually(lambda: store.calls[method] > before + 2)
            store.mend()
            assert await client.result("run") == "done"
        run = await client.get("run")

    assert calls == {"step 0": 1, "step 1": 1}
    assert (run.crashes, run.epoch) == (0, 2)


async def test_the_worker_outlives_its_own_faults(sqlite_url, caplog):
    """An exception that nobody foresaw in the tick is logged, and the worker goes on."""
    async with troubled(sqlite_url) as (client, store), client.work([chain], options=QUICK):
        store.break_off("owned_runs", ZeroDivisionError("a fault"))
        await eventually(lambda: "the worker stumbled" in caplog.text)
        store.mend()
        await client.start(chain, 1, id="run")
        await client.signal("run", "go", "done")
        assert await client.result("run") == "done"


async def test_the_end_of_a_worker_without_a_database(sqlite_url):
    """A worker ends in time though the database does not answer; its lease lapses by itself."""
    async with troubled(sqlite_url) as (client, store):
        async with client.work([chain], options=QUICK):
            await client.start(chain, 1, id="run")
            await reached(client, "run", "go.0")
            for method in ("release", "owned_runs", "claim", "recover", "commit"):
                store.break_off(method, StoreUnreachable("nobody answers"))
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began
        store.mend()
        async with client.work([chain], options=QUICK):
            await client.signal("run", "go", "done")
            assert await client.result("run") == "done"

    assert took < 3
    assert calls == {"step 0": 1}


async def test_a_worker_that_can_write_nothing_claims_nothing(sqlite_url, caplog):
    """When its committer has ended by a fault, a worker gives its runs back and leaves the rest."""
    async with (
        connect(sqlite_url) as other,
        troubled(sqlite_url) as (client, store),
        client.work([chain], options=QUICK),
    ):
        store.break_off("commit", ZeroDivisionError("a fault"))
        await client.start(chain, 1, id="run")
        await eventually(lambda: store.calls["release"])
        claims = (await other.get("run")).epoch
        looks = store.calls["owned_runs"]
        await eventually(lambda: store.calls["owned_runs"] > looks + 10)
        left = await other.get("run")
        async with other.work([chain], options=QUICK):
            await other.signal("run", "go", "done")
            assert await other.result("run") == "done"

    assert (left.status, left.epoch, left.crashes) == (RunStatus.READY, claims, 0)
    assert "the committer has stopped" in caplog.text


async def test_trouble_that_lasts_is_told_once(sqlite_url, caplog):
    """However many ticks fail, the log tells of it once, again when it changes, and of its end."""
    caplog.set_level("INFO", "ostinato")
    async with troubled(sqlite_url) as (client, store), client.work([chain], options=QUICK):
        for reason in ("nobody answers", "the disk is full"):
            store.break_off("recover", StoreUnreachable(reason))
            ticks = store.calls["recover"]
            await eventually(lambda ticks=ticks: store.calls["recover"] > ticks + 10)
        store.mend()
        await eventually(lambda: "that is over" in caplog.text)

    assert [line for line in caplog.messages if "does not answer" in line] == [
        "the database does not answer as it should: nobody answers",
        "the database does not answer as it should: the disk is full",
        "the database does not answer as it should: that is over",
    ]


async def test_one_cause_is_told_once_by_all(sqlite_url, caplog):
    """Whatever meets a cause first tells of it; the tick and every run that meet it too do not."""
    runs = [f"run-{i}" for i in range(8)]
    async with troubled(sqlite_url) as (client, store), client.work([chain], options=QUICK):
        for name in ("commit", "release", "recover"):
            store.break_off(name, StoreUnusable("the disk is full"))
        for run_id in runs:
            await client.start(chain, 3, id=run_id)
        await eventually(lambda: store.calls["commit"] >= 8 and store.calls["recover"] > 50)
        store.mend()
        for run_id in runs:
            await client.signal(run_id, "go", 1)
            assert await client.result(run_id) == 1

    assert len([line for line in caplog.messages if "the disk is full" in line]) == 1


def test_trouble_that_stays_is_told_each_minute(caplog):
    """Trouble that stays for long is told once a minute, with how often it has been seen since."""
    now = 0.0
    troubles = TroubleLog(now=lambda: now)
    for i in range(1000):
        troubles.report("away" if i % 2 == 0 else "no heartbeat", "nobody answers")
        troubles.resolved("away")  # whoever finds now and then that it works makes no more lines
        now += 0.25

    assert (
        caplog.messages
        == ["away: nobody answers"]
        + ["away: nobody answers (239 times more since the last report)"] * 4
    )
