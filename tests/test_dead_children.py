"""A child that would be dead waits for a person where its parent does; else its parent is told."""

import os
from pathlib import Path
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Misuse,
    RunCancelled,
    RunDead,
    RunEnded,
    RunFailed,
    RunPaused,
    RunStatus,
    connect,
    durable,
)
from substrate.values.records import Owner, PromiseState
from tests.crew import Outside
from tests.runs import QUICK, reached
from tests.stores import crash

BAD = "bad/answers/1"


@durable
async def answers(ctx: Context, what: int) -> int:
    return int(await ctx.receive("go")) + what


@durable
async def asks(ctx: Context, on_dead: str) -> Any:
    return [await ctx.spawn(answers, 2, queue="bad", on_dead=on_dead), "asked"]


@durable
async def catches(ctx: Context) -> Any:
    try:
        return await ctx.spawn(answers, 2, queue="bad")
    except RunDead as error:
        return f"{error.run_id} is dead"


async def kill_workers(client: Client, id_: str, times: int = 3) -> None:
    """Let the child of a run crash its workers so often."""
    await reached(client, id_, "answers.0")
    for number in range(times):
        await crash(client.store, Owner(f"doomed-{os.urandom(4).hex()}-{number}"), BAD)


async def test_a_parent_waits_for_a_person(store_url):
    """A child whose parent waits is paused, not dead; resumed, it ends, and its parent goes on."""
    async with connect(store_url) as client, client.work([asks], options=QUICK) as worker:
        await client.start(asks, "wait", id="run")
        await kill_workers(client, "run")
        child = await client.get("run#answers.0")
        promise = await client.store.promise(child.id)
        with pytest.raises(RunPaused, match="its workers ended 3 times in a row"):
            await client.result(child.id)
        await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED

        resumed = await client.resume(child.id)
        await client.signal(child.id, "go", 40)
        async with client.work([answers], queue="bad", options=QUICK):
            assert await client.result("run") == [42, "asked"]

    assert (child.status, child.crashes) == (RunStatus.PAUSED, 3)
    assert (promise.state, promise.settled_at) == (PromiseState.PENDING, None)
    assert (resumed.status, resumed.crashes) == (RunStatus.READY, 0)


async def test_it_may_die_again(store_url):
    """Resumed, a child has as many crashes as before until it is paused again."""
    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, "wait", id="run")
        await kill_workers(client, "run")
        await client.resume("run#answers.0")
        await kill_workers(client, "run", 2)
        assert (await client.get("run#answers.0")).status is RunStatus.READY
        await kill_workers(client, "run", 1)
        assert (await client.get("run#answers.0")).status is RunStatus.PAUSED


async def test_it_is_discarded(store_url):
    """Given up by a person, it is cancelled, and its parent is told so."""
    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, "wait", id="run")
        await kill_workers(client, "run")
        await client.discard("run#answers.0")
        with pytest.raises(RunFailed, match="it was discarded") as failed:
            await client.result("run")

    assert failed.value.failure.type == "RunCancelled"


async def test_its_parent_is_cancelled(store_url):
    """A cancelled parent does not wait: its child is cancelled with it, and nothing is open."""
    async with (
        connect(store_url) as client,
        client.work([asks], options=QUICK),
    ):
        await client.start(asks, "wait", id="run")
        await kill_workers(client, "run")
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")
        async with client.work([answers], queue="bad", options=QUICK):
            with pytest.raises(RunCancelled):
                await client.result("run#answers.0")
        rows = await client.journal("run")

    assert {row.state for row in rows} == {PromiseState.CANCELLED}


async def test_a_parent_that_was_told(store_url):
    """A child whose parent was told that it is dead is not resumed, and the refusal says why."""
    async with connect(store_url) as client, client.work([catches], options=QUICK):
        await client.start(catches, id="run")
        await kill_workers(client, "run")
        assert await client.result("run") == "run#answers.0 is dead"
        told = r"is dead, and its parent 'run' was told so and has gone on, so that outcome stands"
        with pytest.raises(RunEnded, match=told):
            await client.resume("run#answers.0")


async def test_neither_word(store_url):
    """What `on_dead` does not know is refused, and both words are named."""
    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, "shrug", id="run")
        with pytest.raises(RunFailed, match="on_dead='shrug' is neither 'raise' nor 'wait'") as no:
            await client.result("run")

    assert no.value.failure.type == Misuse.__name__


@durable
async def stumbles(ctx: Context, folder: str) -> None:
    if not Outside(Path(folder)).notes["mended"]:
        raise OSError("the other side is away")


async def book(folder: str) -> None:
    Outside(Path(folder)).note("booked")


@durable
async def books(ctx: Context, folder: str) -> None:
    await ctx.step(book, folder, effect="once", undo=stumbles)
    raise ValueError("all for nothing")


@durable
async def hopes(ctx: Context, folder: str) -> str:
    try:
        await ctx.spawn(books, folder, on_dead="wait")
    except RunFailed as error:
        return f"{error.failure.type}: {error.failure.message}"
    return "booked"


async def test_an_undo_that_fails(store_url, tmp_path):
    """A child that cannot be undone waits as well; mended and resumed, it is undone and fails."""
    hopes_on = [hopes, books, stumbles]
    async with connect(store_url) as client, client.work(hopes_on, options=QUICK):
        await client.start(hopes, str(tmp_path), id="run")
        await reached(client, "run", "books.0")
        with pytest.raises(RunPaused, match="could not be undone: OSError: the other side"):
            await client.result("run#books.0")
        assert not (await client.get("run")).status.has_ended

        Outside(tmp_path).note("mended")
        await client.resume("run#books.0")
        assert await client.result("run") == "ValueError: all for nothing"
        rows = await client.journal("run#books.0")

    assert [row.key for row in rows if row.state is PromiseState.PENDING] == []
