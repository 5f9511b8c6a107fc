"""Who waits for a SQLite file that somebody else has locked may stop waiting at any moment."""

import asyncio
from time import monotonic

import pytest

from substrate import Context, connect, durable
from tests.runs import QUICK
from tests.stores import database


def pay(tx: object) -> None:
    """Do nothing."""


@durable
async def job(ctx: Context) -> str:
    await ctx.step(pay, effect="transactional")
    return "done"


async def test_a_call_is_left_at_once(sqlite_url):
    """A call that waits for the lock ends when it is cancelled, and has done nothing."""
    async with connect(sqlite_url) as client:
        await client.start(job, id="known")
        for wait in (
            lambda: client.start(job, id="run"),
            lambda: client.signal("known", "go"),
            lambda: client.cancel("known"),
        ):
            with database(sqlite_url) as db:
                db.rows("BEGIN IMMEDIATE")
                began = monotonic()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await wait()
                assert monotonic() - began < 5
                db.rows("ROLLBACK")

        assert [run.id for run in await client.list()] == ["known"]
        assert (await client.get("known")).cancel_requested is False
        async with client.work([job], options=QUICK):
            assert await client.result("known") == "done"


async def test_others_in_the_same_process_have_their_turn(sqlite_url):
    """Who stops waiting lets the next one wait, who is served as soon as the lock is free."""
    async with connect(sqlite_url) as client:
        with database(sqlite_url) as db:
            db.rows("BEGIN IMMEDIATE")
            first, second = (asyncio.create_task(client.start(job, id=f"run/{i}")) for i in (1, 2))
            await asyncio.sleep(0.1)
            first.cancel()
            await asyncio.wait([first], timeout=5)
            assert first.cancelled()
            assert not second.done()
            db.rows("ROLLBACK")
        assert (await asyncio.wait_for(second, 5)).id == "run/2"
