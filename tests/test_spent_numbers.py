"""A run whose row has no next number is paused and named; no other run's commit fails for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    RunDead,
    RunFailed,
    RunPaused,
    RunStatus,
    connect,
    durable,
)
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId
from tests.runs import QUICK as SLOWER
from tests.runs import reached
from tests.stores import Database, database, eventually, opened

QUICK = replace(SLOWER, idle_timeout=timedelta(0))
LAST = 9_007_199_254_740_991
ENDS = [("last_seq", LAST), ("epoch", 2_000_000_000)]
MENDED = """
UPDATE runs
   SET last_seq = (SELECT max(seq) FROM promises WHERE run_id = runs.id), epoch = 9, generation = 0
 WHERE id = 'run'
"""
calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def act(what: str) -> str:
    calls.append(what)
    return what


@durable
async def child(ctx: Context, what: str) -> str:
    answer: str = await ctx.receive("go", str)
    if answer == "fail":
        raise ValueError(answer)
    return answer


@durable
async def takes_back(ctx: Context, what: str) -> None:
    await ctx.step(act, f"undid {what}")


@durable
async def parent(ctx: Context, what: str) -> str:
    await ctx.step(act, what, effect="once", undo=takes_back)
    return await ctx.spawn(child, what)


FAMILY = [parent, child, takes_back]


@asynccontextmanager
async def family_waiting(url: str) -> AsyncIterator[Client]:
    """Let a parent come to where its child waits for a signal, with nobody to drive them then."""
    async with connect(url) as client:
        async with client.work(FAMILY, options=QUICK):
            await client.start(parent, "a", id="run")
            await reached(client, "run", "child.0")
            await reached(client, "run#child.0", "go.0")

            async def both_wait() -> bool:
                runs = [await client.get(id_) for id_ in ("run", "run#child.0")]
                return all(run.status is RunStatus.SUSPENDED for run in runs)

            await eventually(both_wait)
        yield client


def put(db: Database, column: str, value: int, run: str = "run") -> None:
    db.rows(f"UPDATE runs SET {column} = :value WHERE id = :id", value=value, id=run)


async def paused(client: Client, run: str = "run", column: str = "last_seq") -> None:
    """See that a run is paused over its row of `runs`, and has not crashed."""
    with pytest.raises(RunPaused, match=f"the row '{run}' of runs has the {column} "):
        await client.result(run)
    found = await client.get(run)
    assert (found.status, found.crashes, found.lease_owner) == (RunStatus.PAUSED, 0, None)


async def test_a_wake_version_at_its_end(store_url):
    """After the last wake version comes the first: signals, children and cancels wake as ever."""
    async with family_waiting(store_url) as client:
        for run in ("run", "run#child.0"):
            with database(store_url) as db:
                put(db, "wake_version", 2_000_000_000, run)
        async with client.work(FAMILY, options=QUICK):
            await client.signal("run#child.0", "go", "x")
            assert await client.result("run") == "x"
    assert calls == ["a"]


async def test_cancelled_and_due_at_the_end(store_url):
    """A cancel wakes a run whose wake version is the last one, and so does its time."""

    @durable
    async def sleeper(ctx: Context) -> str:
        await ctx.sleep(0.3)
        return "slept"

    async with family_waiting(store_url) as client:
        async with client.work([sleeper], options=QUICK):
            await client.start(sleeper, id="sleeper")
            await reached(client, "sleeper", "sleep.0")
        with database(store_url) as db:
            db.rows("UPDATE runs SET wake_version = 2000000000")
        async with client.work([*FAMILY, sleeper], options=QUICK):
            assert await client.result("sleeper") == "slept"
            assert (await client.cancel("run")).cancel_requested
            with pytest.raises(RunFailed):
                await client.result("run")
    assert calls == ["a", "undid a"]


@pytest.mark.parametrize("answer", ["x", "fail"])
async def test_a_parent_without_a_next_number(store_url, answer):
    """A child ends as it does, and its parent is paused; put right, that goes on with the child."""
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            put(db, "last_seq", LAST)
        async with client.work(FAMILY, options=QUICK):
            await client.signal("run#child.0", "go", answer)
            if answer == "x":
                assert await client.result("run#child.0") == "x"
            else:
                with pytest.raises(RunFailed, match="ValueError: fail"):
                    await client.result("run#child.0")
            await paused(client)
            assert calls == ["a"]
            assert (await client.get("run#child.0")).crashes == 0
            with database(store_url) as db:
                db.rows(MENDED)
            await client.resume("run")
            if answer == "x":
                assert await client.result("run") == "x"
            else:
                with pytest.raises(RunFailed, match="ValueError: fail"):
                    await client.result("run")


async def test_a_child_of_it_is_paused_and_discarded(store_url):
    """A child that is paused, and one that is given up, are so whatever their parent's row says."""
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            put(db, "last_seq", LAST)
            db.rows("UPDATE promises SET input = 'null' WHERE id = 'run#child.0'")
            db.rows("UPDATE runs SET status = 'ready' WHERE id = 'run#child.0'")
        async with client.work(FAMILY, options=QUICK):
            with pytest.raises(RunPaused, match="its input has another form"):
                await client.result("run#child.0")
        assert (await client.discard("run#child.0")).status is RunStatus.CANCELLED
        await paused(client)
        with pytest.raises(CheckpointRefused, match="the row 'run' of runs has the last_seq"):
            await client.resume("run")
        with pytest.raises(CheckpointRefused, match="the row 'run' of runs has the last_seq"):
            await client.discard("run")


async def test_a_child_of_it_that_is_dead(store_url):
    """A child whose worker died once too often is dead, and its parent paused."""
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            put(db, "last_seq", LAST)
            db.rows(
                "UPDATE runs SET status = 'running', lease_owner = 'gone', crashes = 1000000,"
                " losses_seen = 9007199254740991 WHERE id = 'run#child.0'"
            )
        async with opened(store_url) as store:

            async def recovered() -> bool:
                return "run#child.0" in await store.recover()

            await eventually(recovered)
        with pytest.raises(RunDead):
            await client.result("run#child.0")
        await paused(client)


async def test_its_own_row_after_a_crash(store_url, caplog):
    """A dead worker's run that has no next number is taken back as paused, and the others are."""
    async with connect(store_url) as client:
        for id_ in ("run", "other"):
            await client.start(child, "a", id=id_)
        with database(store_url) as db:
            db.rows("UPDATE runs SET status = 'running', lease_owner = 'gone', epoch = 1")
            put(db, "last_seq", LAST)
        async with opened(store_url) as store:
            found: list[str] = []

            async def recovered() -> bool:
                found.extend(await store.recover())
                return sorted(found) == ["other", "run"]

            await eventually(recovered)
        await paused(client)


async def test_a_signal_to_it(store_url):
    """Who sends a signal to it is told which run, row and column it is; put right, it is taken."""
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            put(db, "last_seq", LAST, "run#child.0")
        with pytest.raises(CheckpointRefused, match=r"the row 'run#child\.0' of runs has the last"):
            await client.signal("run#child.0", "go", "x")
        await paused(client, "run#child.0")
        with database(store_url) as db:
            put(db, "last_seq", 2, "run#child.0")
        await client.resume("run#child.0")
        async with client.work(FAMILY, options=QUICK):
            await client.signal("run#child.0", "go", "x")
            assert await client.result("run") == "x"


@durable
async def steps(ctx: Context) -> str:
    return await ctx.step(act, "step")


@durable
async def receives(ctx: Context) -> str:
    return await ctx.receive("early", str)


@durable
async def spawns(ctx: Context) -> str:
    return await ctx.spawn(steps)


@durable
async def listens(ctx: Context) -> str:
    while not await ctx.hear("never"):
        return "heard"
    return "never"


@durable
async def goes_on(ctx: Context, n: int = 0) -> Any:
    return "on" if n else ctx.continue_as(1)


@durable
async def transacts(ctx: Context) -> str:
    return await ctx.step(in_database, "once", effect="transactional")


@durable
async def ends(ctx: Context) -> str:
    return "ended"


def in_database(tx: Any, what: str) -> str:
    calls.append(what)
    return str(tx.execute("SELECT 'tx'")[0][0])


RESULTS: dict[Callable[..., Any], str] = {
    steps: "step",
    receives: "x",
    spawns: "step",
    listens: "heard",
    goes_on: "on",
    transacts: "tx",
    ends: "ended",
}


@pytest.mark.parametrize("column, value", ENDS)
@pytest.mark.parametrize("function", RESULTS, ids=lambda each: each.name)
async def test_its_own_writes(store_url, function, column, value):
    """Whatever such a run writes next, it is paused, and an innocent one beside it goes on."""
    functions = list(RESULTS)
    async with connect(store_url) as client:
        await client.start(function, id="run")
        await client.signal("run", "early", "x")
        await client.start(function, id="innocent")
        await client.signal("innocent", "early", "x")
        with database(store_url) as db:
            put(db, column, value)
        async with client.work(functions, options=QUICK):
            assert await client.result("innocent") == RESULTS[function]
            await paused(client, column=column)
            with database(store_url) as db:
                db.rows(MENDED)
            await client.resume("run")
            assert await client.result("run") == RESULTS[function]


async def test_a_generation_without_a_next(store_url):
    """A run that has had the last generation there may be is paused, and not begun again."""
    async with connect(store_url) as client:
        await client.start(goes_on, id="run")
        with database(store_url) as db:
            put(db, "generation", 2_000_000_000)
            db.rows(
                "INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state,"
                " epoch, created_at, input) SELECT 'run#g2000000000', part, tenant, 'run',"
                " 'g2000000000', 1, 'run', name, 'resolved', 0, created_at, input FROM promises"
            )
        async with client.work([goes_on], options=QUICK):
            await paused(client, column="generation")
        assert await client.get(RunId("run"))
