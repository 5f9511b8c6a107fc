"""Nothing stays pending under a run that has ended, in whichever way it has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.values.records import Owner, PromiseState
from tests.leftovers import left_open
from tests.runs import reached
from tests.stores import crash, eventually

LIMITS = WorkerOptions(
    poll=timedelta(milliseconds=20), shutdown_grace=timedelta(0), idle_timeout=timedelta(seconds=20)
)
LANE = "default/opens/1"


async def hold() -> None:
    """Never come to an end."""
    await asyncio.sleep(3600)


async def break_off() -> None:
    """Fail a little later."""
    await asyncio.sleep(0.2)
    raise OSError("broken off")


@durable
async def rests(ctx: Context) -> Any:
    return await ctx.receive("go")


@durable
async def opens(ctx: Context, how: str) -> str:
    await ctx.spawn(rests, name="forgotten").start()
    everything = [
        ctx.step(hold),
        ctx.step(hold, effect="once"),
        ctx.step(hold, effect="idempotent"),
        ctx.sleep(3600),
        ctx.receive("never"),
        ctx.spawn(rests),
        ctx.call(deeper),
    ]
    if how == "races":
        await ctx.race(*everything, ctx.sleep(0.2))
        return "done"
    if how == "fails":
        await ctx.race(*everything, ctx.step(break_off))
    await ctx.gather(*everything)
    return "never"


@durable
async def deeper(ctx: Context) -> None:
    await ctx.race(ctx.sleep(3600), ctx.receive("deep"))


async def cancel(client: Client) -> None:
    await client.cancel("run")


async def nothing(_: Client) -> None:
    """Let it end by itself."""


ENDINGS: dict[str, tuple[str, Callable[[Client], Awaitable[None]], RunStatus]] = {
    "done": ("races", nothing, RunStatus.DONE),
    "failed": ("fails", nothing, RunStatus.FAILED),
    "cancelled": ("waits", cancel, RunStatus.CANCELLED),
    "timed out": ("times out", nothing, RunStatus.FAILED),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_run_that_ends(store_url: str, ending: str):
    """Steps with an intent, timers, waits and calls are closed by the run's end."""
    how, then, status = ENDINGS[ending]
    timeout = timedelta(seconds=0.6) if how == "times out" else None
    async with connect(store_url) as client, client.work([opens, rests, deeper], options=LIMITS):
        await client.start(opens, how, id="run", timeout=timeout)
        await reached(client, "run", "hold.1")
        await then(client)

        async def has_ended() -> bool:
            return (await client.get("run")).status.has_ended

        await eventually(has_ended)
        assert (await client.get("run")).status is status
        await client.cancel("run")  # and so its children
        await eventually(lambda: all_ended(client))
    assert left_open(store_url) == []
    assert await pending(store_url) == []


async def all_ended(client: Client) -> bool:
    """Whether the run and its children have ended."""
    ids = ["run", "run#forgotten.0", "run#rests.0"]
    return all([(await client.get(id_)).status.has_ended for id_ in ids])


async def pending(url: str) -> list[str]:
    """Return what is pending in the run and below it."""
    async with connect(url) as client:
        ids = ["run", "run#forgotten.0", "run#rests.0"]
        rows = [row for id_ in ids for row in await client.journal(id_)]
    return [row.id for row in rows if row.state is PromiseState.PENDING]


async def test_a_dead_run_that_is_discarded(store_url):
    """Dead, a run keeps open what it would go on with; given up, all of that is closed.

    Of a `once` call that was under way nobody knows whether it happened.
    """
    async with connect(store_url) as client:
        async with client.work([opens, rests, deeper], options=LIMITS):
            await client.start(opens, "waits", id="run")
            await reached(client, "run", "hold.1")
            await reached(client, "run", "deeper.0/deep.0")
        for number in range(3):
            await crash_run(client, number)
        assert (await client.get("run")).status is RunStatus.DEAD
        kept = {row.key for row in await client.journal("run") if not row.is_settled}
        assert {"hold.1", "sleep.0", "never.0", "rests.0"} <= kept
        assert left_open(store_url) == []

        seq = (await client.get("run")).last_seq
        await client.discard("run")

        rows = {row.key: row for row in await client.journal("run")}
        after = [row.seq for row in rows.values() if row.seq > seq]
    assert left_open(store_url) == []
    assert {key for key, row in rows.items() if not row.is_settled} == {"forgotten.0", "rests.0"}
    assert rows["hold.1"].state is PromiseState.REJECTED
    assert "OutcomeUnknown" in (rows["hold.1"].error or "")
    assert {rows[key].state for key in ("sleep.0", "never.0", "deeper.0/deep.0")} == {
        PromiseState.CANCELLED
    }
    assert after == sorted(set(after))


async def crash_run(client: Client, number: int) -> None:
    """Let a worker die that has the run, once it can be claimed."""
    await client.signal("run", "wake_up", dedup=str(number))
    await crash(client.store, Owner(f"doomed-{number}"), LANE)


async def test_a_paused_run_that_is_discarded(store_url):
    """So is what a paused run waited for."""
    async with connect(store_url) as client:
        async with client.work([opens, rests, deeper], options=LIMITS):
            await client.start(opens, "waits", id="run")
            await reached(client, "run", "hold.1")

        @durable(name="opens")
        async def differs(ctx: Context, how: str) -> None:
            await ctx.step(hold, name="sleep")

        async with client.work([differs], options=LIMITS):

            async def is_paused() -> bool:
                return (await client.get("run")).status is RunStatus.PAUSED

            await client.signal("run", "wake_up")
            await eventually(is_paused)
        await client.discard("run")
        rows = await client.journal("run")
    assert left_open(store_url) == []
    assert {row.kind for row in rows if not row.is_settled} <= {"child"}
