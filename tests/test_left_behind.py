"""What an earlier version of the code had begun is closed when the run ends, in whichever way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from substrate import Client, Context, Durable, PromiseState, RunStatus, connect, durable
from substrate.testing import ManualClock
from substrate.values.codec import decode
from tests.runs import QUICK, reached
from tests.stores import database, eventually

TIMEOUT_S = 60.0
OPEN = [
    "asks.0/never.0",
    "asks.0/sleep.0",
    "go.0",
    "go.1",
    "races.0/a.0",
    "races.0/asks.0/never.0",
    "races.0/asks.0/sleep.0",
    "send.0",
    "sleep.0",
]


@durable
async def asks(ctx: Context) -> Any:
    return await ctx.gather(ctx.receive("never"), ctx.sleep(3600))


@durable
async def races(ctx: Context) -> Any:
    return await ctx.race(ctx.receive("a"), ctx.call(asks))


@durable(name="run")
async def waits(ctx: Context) -> Any:
    """Wait in every way there is."""
    return await ctx.gather(
        ctx.receive("go"),
        ctx.receive("go", timeout=3600),
        ctx.call(asks),
        ctx.call(races),
        ctx.sleep(3600),
    )


@durable(name="run")
async def ends(ctx: Context) -> str:
    """Be a later version of the code, which asks for none of that."""
    return "over"


@durable(name="run")
async def fails(ctx: Context) -> str:
    raise ValueError("off")


@durable(name="run")
async def renews(ctx: Context, generation: int = 0) -> Any:
    return "over" if generation else ctx.continue_as(1)


@durable(name="run")
async def differs(ctx: Context) -> Any:
    return await ctx.step(nothing, name="go")


async def nothing() -> None: ...


@asynccontextmanager
async def waiting(url: str, clock: ManualClock) -> AsyncIterator[Client]:
    """Have a run that waits in every way, let go, and a call of which nobody knows."""
    async with connect(url, clock) as client:
        async with client.work([waits], options=QUICK):
            await client.start(waits, id="run", timeout=TIMEOUT_S)
            for key in OPEN:
                if key != "send.0":
                    await reached(client, "run", key)
        with database(url) as db:
            db.rows(
                "INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state,"
                " effect, epoch, created_at) SELECT 'run#send.0', part, tenant, id, 'send.0', "
                "last_seq + 1, 'step', 'send', 'pending', 'once', epoch, created_at FROM runs"
            )
            db.rows("UPDATE runs SET last_seq = last_seq + 1")
        assert await open_keys(client) == OPEN
        yield client


async def open_keys(client: Client) -> list[str]:
    """Return the keys of what is open, save the run's own promise."""
    rows = [row for row in await client.journal("run") if row.key != "run"]
    return sorted(row.key for row in rows if not row.is_settled)


async def drive(client: Client, function: Durable[..., Any]) -> RunStatus:
    async with client.work([function], options=QUICK):

        async def is_over() -> bool:
            return (await client.get("run")).status in ENDED

        await eventually(is_over)
    return (await client.get("run")).status


async def let_go(client: Client, function: Durable[..., Any]) -> None:
    """Accept that the code does not ask for the call in doubt any more."""
    assert await drive(client, function) is RunStatus.PAUSED
    await client.resume("run", accept="send.0")


async def check_closed(client: Client) -> None:
    """Assert that nothing is open, waits are cancelled, and the call is told to be unknown."""
    assert await open_keys(client) == []
    journal = await client.journal("run")
    rows = {row.key: row for row in journal}
    assert {rows[key].state for key in OPEN if key != "send.0"} == {PromiseState.CANCELLED}
    assert rows["send.0"].state is PromiseState.REJECTED
    assert decode(rows["send.0"].error or "")["type"] == "OutcomeUnknown"
    seqs = [row.seq for row in journal]
    assert len(set(seqs)) == len(seqs)


ENDED = [each for each in RunStatus if each.has_ended or each.awaits_person]
ENDS = {RunStatus.DONE: ends, RunStatus.FAILED: fails}


@pytest.mark.parametrize("status", ENDS)
async def test_a_run_that_ends_by_itself(store_url, status):
    """Done or failed, a run closes what an earlier version of its code had begun.

    Before it is done, a person has to let the call go of which nobody knows.
    """
    async with waiting(store_url, ManualClock()) as client:
        await client.signal("run", "wake_up")
        if status is RunStatus.DONE:
            await let_go(client, ends)
        assert await drive(client, ENDS[status]) is status
        await check_closed(client)


async def test_a_run_that_goes_on_as_another_generation(store_url):
    """The generation that is closed leaves nothing open behind."""
    async with waiting(store_url, ManualClock()) as client:
        await client.signal("run", "wake_up")
        await let_go(client, renews)
        assert await drive(client, renews) is RunStatus.DONE
        await check_closed(client)


async def test_a_run_that_is_cancelled(store_url):
    """Asked to end, a run closes everything, also on a worker that has not driven it."""
    async with waiting(store_url, ManualClock()) as client:
        await client.cancel("run")
        assert await drive(client, waits) is RunStatus.CANCELLED
        await check_closed(client)


async def test_a_run_that_runs_out_of_time(store_url):
    """At its deadline a run closes everything."""
    clock = ManualClock()
    async with waiting(store_url, clock) as client:
        clock.advance(TIMEOUT_S)
        assert await drive(client, waits) is RunStatus.FAILED
        await check_closed(client)


async def test_a_dead_run_keeps_its_questions_open_until_it_is_given_up(store_url):
    """Dead, a run can be reopened and its waits go on; given up, they are closed with it."""
    async with waiting(store_url, ManualClock()) as client:
        with database(store_url) as db:
            db.rows("UPDATE runs SET status = 'dead', lease_owner = NULL")
        assert await open_keys(client) == OPEN
        await client.discard("run")
        assert (await client.get("run")).status is RunStatus.CANCELLED
        await check_closed(client)


async def test_a_paused_run_keeps_its_questions_open_until_it_is_given_up(store_url):
    """Paused by other code, a run keeps what it waits for; given up, that is closed with it."""
    async with waiting(store_url, ManualClock()) as client:
        await client.signal("run", "wake_up")
        assert await drive(client, differs) is RunStatus.PAUSED
        assert set(await open_keys(client)) >= set(OPEN)
        await client.discard("run")
        assert await open_keys(client) == []
