"""A transactional step and its outcome are one commit in the store's own database."""

import threading
from collections import Counter
from typing import Any

import pytest

from substrate import Context, Retry, RunFailed, WorkerOptions, connect, durable
from tests.runs import QUICK
from tests.stores import database

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _afresh():
    calls.clear()


def withdraw(tx: Any, account: str, cents: int) -> int:
    calls["withdraw"] += 1
    tx.execute(f"UPDATE accounts SET cents = cents - {cents:d} WHERE name = '{account}'")
    ((left,),) = tx.execute("SELECT cents FROM accounts")
    if left < 0:
        raise ValueError("not enough")
    return left


@durable
async def pays(ctx: Context, cents: int) -> Any:
    return await ctx.step(withdraw, "ann", cents, effect="transactional")


@pytest.fixture
def accounts(store_url):
    """An account with 100 cents, in the store's own database."""
    with database(store_url) as db:
        db.rows("CREATE TABLE accounts (name text, cents bigint)")
        db.rows("INSERT INTO accounts VALUES ('ann', 100)")
        yield lambda: db.value("SELECT cents FROM accounts")


async def test_it_is_committed_with_its_outcome(store_url, accounts):
    """What it wrote is there, its result is recorded, and a replay does not call it again."""
    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, 30, id="run")
        assert await client.result("run") == 70
        (row,) = [p for p in await client.journal("run") if p.key == "withdraw.0"]
    assert accounts() == 70
    assert calls["withdraw"] == 1
    assert (row.effect, row.value) == ("transactional", "70")


async def test_what_it_raises_undoes_it(store_url, accounts):
    """A function that raises leaves nothing behind, and its failure is recorded."""
    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, 130, id="run")
        with pytest.raises(RunFailed, match="not enough"):
            await client.result("run")
    assert accounts() == 100


async def test_it_may_be_tried_again(store_url, accounts):
    """Since an attempt that failed wrote nothing, any error may be retried."""

    def flaky(tx: Any) -> str:
        calls["flaky"] += 1
        tx.execute("UPDATE accounts SET cents = cents - 10")
        if calls["flaky"] < 3:
            raise OSError("not yet")
        return "written"

    @durable
    async def retries(ctx: Context) -> str:
        retry = Retry(max_attempts=3, initial=QUICK.poll)
        return await ctx.step(flaky, effect="transactional", retry=retry)

    async with connect(store_url) as client, client.work([retries], options=QUICK):
        await client.start(retries, id="run")
        assert await client.result("run") == "written"
    assert accounts() == 90


async def test_many_at_once(store_url, accounts):
    """Steps of many runs, side by side, each count once."""

    def take_one(tx: Any) -> None:
        tx.execute("UPDATE accounts SET cents = cents - 1")

    @durable
    async def takes(ctx: Context) -> None:
        await ctx.gather(*(ctx.step(take_one, effect="transactional") for _ in range(5)))

    async with connect(store_url) as client, client.work([takes], options=QUICK):
        for i in range(10):
            await client.start(takes, id=f"run{i}")
        for i in range(10):
            await client.result(f"run{i}")
    assert accounts() == 50


SHORT = WorkerOptions(lease=1, poll=0.02, shutdown_grace=5)


def dwell(tx: Any, seconds: float) -> str:
    """Hold the transaction open, as a step does that computes between two statements."""
    calls["dwell"] += 1
    tx.execute("INSERT INTO accounts VALUES ('dwelt', 0)")
    threading.Event().wait(seconds)
    return "written"


@durable
async def dwells(ctx: Context, seconds: float) -> str:
    return await ctx.step(dwell, seconds, effect="transactional")


async def test_one_that_takes_as_long_as_a_short_lease(store_url, accounts):
    """It ends before it could cost the lease for which heartbeats cannot be written, once."""
    async with connect(store_url) as client, client.work([dwells], options=SHORT):
        await client.start(dwells, 0.9, id="run")
        if store_url.startswith("postgres"):  # there heartbeats go their own way
            assert await client.result("run") == "written"
        else:
            with pytest.raises(RunFailed, match=r"0\.5 s, half of a worker's lease of 1 s"):
                await client.result("run")
        run = await client.get("run")

    assert (calls["dwell"], run.epoch) == (1, 1)
    with database(store_url) as db:
        dwelt = db.value("SELECT count(*) FROM accounts WHERE name = 'dwelt'")
    assert dwelt == (1 if store_url.startswith("postgres") else 0)


async def test_the_lease_of_another_process_counts(sqlite_url, tmp_path):
    """A transaction is no longer than half of the lease of any worker of the file."""
    async with connect(sqlite_url) as client, connect(sqlite_url) as other:
        with database(sqlite_url) as db:
            db.rows("CREATE TABLE accounts (name text, cents bigint)")
        async with other.work([pays], options=SHORT), client.work([dwells], options=QUICK):
            await client.start(dwells, 0.9, id="run")
            with pytest.raises(RunFailed, match=r"a worker's lease of 1 s"):
                await client.result("run")


async def test_many_after_another_cost_no_lease(store_url, accounts):
    """Transactions that leave each other no gap leave one to each heartbeat that is due."""
    limits = WorkerOptions(lease=2.5, poll=0.02, shutdown_grace=5)
    async with connect(store_url) as client, client.work([dwells], options=limits):
        for i in range(12):
            await client.start(dwells, 0.4, id=f"run/{i}")
        for i in range(12):
            assert await client.result(f"run/{i}") == "written"
        epochs = {run.epoch for run in await client.list()}

    assert (epochs, calls["dwell"]) == ({1}, 12)
