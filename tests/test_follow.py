"""Who follows a run, or waits for its result, misses nothing and asks no more than needed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Promise,
    PromiseState,
    RunFailed,
    RunNotFound,
    RunPaused,
    WorkerOptions,
    connect,
    durable,
)
from tests.crew import Outside, chain, worker_process
from tests.runs import QUICK, reached
from tests.troubled import troubled


async def work(number: int) -> int:
    return number


@durable
async def fans(ctx: Context, count: int) -> int:
    await ctx.map(work, range(count))
    await ctx.receive("go")
    for number in range(count):
        await ctx.step(work, number)
    return count


@durable(name="fans")
async def changed(ctx: Context, count: int) -> int:
    await ctx.map(work, range(count + 1, 2 * count))
    return count


@durable
async def fails(ctx: Context) -> None:
    raise ValueError("no")


async def collect(feed: AsyncIterator[Promise]) -> list[Promise]:
    """Follow to the end."""
    return [promise async for promise in feed]


def check_complete(followed: list[Promise], journal: Any) -> None:
    """Assert that the feed came in order, ended as the journal stands, and left out no row."""
    seqs = [promise.seq for promise in followed]
    latest = {promise.key: promise for promise in followed}
    assert seqs == sorted(set(seqs))
    assert sorted(latest.values(), key=lambda promise: promise.seq) == list(journal)


async def test_every_change_comes_in_order(store_url):
    """A feed that starts with the run, one that joins late and one from elsewhere are complete."""
    async with (
        connect(store_url) as other,
        connect(store_url) as client,
        client.work([fans], options=QUICK),
    ):
        await client.start(fans, 50, id="run")
        early = asyncio.create_task(collect(client.follow("run")))
        elsewhere = asyncio.create_task(collect(other.follow("run")))
        await reached(client, "run", "go.0")
        late = asyncio.create_task(collect(client.follow("run")))
        await client.signal("run", "go")
        feeds = await asyncio.gather(early, elsewhere, late)
        journal = await client.journal("run")

    for feed in feeds:
        check_complete(feed, journal)


async def test_a_feed_goes_on_where_it_was_left(store_url):
    """A feed that is taken up with the last seq seen, by another process too, repeats nothing."""
    async with connect(store_url) as client, client.work([fans], options=QUICK):
        await client.start(fans, 10, id="run")
        first: list[Promise] = []
        async for promise in client.follow("run"):
            first.append(promise)
            if promise.key == "go.0":
                break
        await client.signal("run", "go")
        async with connect(store_url) as other:
            second = await collect(other.follow("run", first[-1].seq))
        journal = await client.journal("run")

    check_complete(first + second, journal)


async def test_a_feed_over_a_crash(store_url, tmp_path):
    """A feed goes on when the worker is killed and another takes the run over."""
    outside = Outside(tmp_path)
    outside.hold("run 2")
    async with connect(store_url) as client:
        await client.start(chain, str(tmp_path), 4, id="run")
        following = asyncio.create_task(collect(client.follow("run")))
        with worker_process(store_url) as worker:
            await outside.noted("run 2 begins")
            worker.kill()
        outside.let_go("run 2")
        with worker_process(store_url):
            followed = await following
        check_complete(followed, await client.journal("run"))


async def test_a_feed_ends_with_a_pause(store_url):
    """A feed ends when its run is paused, which it shows; result() raises RunPaused."""
    async with connect(store_url) as client:
        async with client.work([fans], options=QUICK):
            await client.start(fans, 3, id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        async with client.work([changed], options=QUICK):
            followed = await collect(client.follow("run"))
            with pytest.raises(RunPaused):
                await client.result("run")

    assert (followed[-1].key, followed[-1].state) == ("run", PromiseState.PENDING)
    assert followed[-1].error is not None


async def test_who_waits_for_a_paused_run_again(store_url):
    """After a resume, result() waits for what the run comes to then."""
    async with connect(store_url) as client:
        async with client.work([fans], options=QUICK):
            await client.start(fans, 3, id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        async with client.work([changed], options=QUICK):
            with pytest.raises(RunPaused):
                await client.result("run")
        await client.resume("run")
        waiting = asyncio.create_task(client.result("run"))
        async with client.work([fans], options=QUICK):
            assert await waiting == 3


async def test_a_run_that_is_not_there(store_url):
    """Following or waiting for a run that nobody started raises RunNotFound."""
    async with connect(store_url) as client:
        with pytest.raises(RunNotFound, match="no run 'nobody'"):
            await client.result("nobody")
        with pytest.raises(RunNotFound, match="no run 'nobody'"):
            await collect(client.follow("nobody"))


async def test_many_wait_for_one(store_url):
    """Any number may wait for a result, before and after the end, and all are told the same."""
    async with connect(store_url) as client, client.work([fails], options=QUICK):
        await client.start(fails, id="run")
        told = await asyncio.gather(
            *(client.result("run") for _ in range(20)), return_exceptions=True
        )

    assert {type(error) for error in told} == {RunFailed}
    assert {str(error) for error in told} == {"run 'run' failed: ValueError: no"}


async def waited(client: Client, run_id: str) -> None:
    """Wait for a result for a second, in vain."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await client.result(run_id)


async def test_waiting_is_cheap(sqlite_url):
    """Who waits for a run that waits looks a few times a second, not all the time."""
    async with (
        troubled(sqlite_url) as (client, store),
        client.work([fans], options=WorkerOptions()),
    ):
        await client.start(fans, 1, id="here")
        await client.start(fans, 1, id="elsewhere", queue="elsewhere")
        await reached(client, "here", "go.0")
        before = store.calls["get"]
        await asyncio.gather(waited(client, "here"), waited(client, "elsewhere"))
        looks = store.calls["get"] - before

    assert 4 <= looks < 40
