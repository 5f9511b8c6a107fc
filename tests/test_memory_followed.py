"""A namespace is followed: whoever waits for what is new is woken, and misses nothing.

The room is `substrate.engine.context.memory_follow`.
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, Misuse, WorkerOptions, connect, durable
from substrate.values.ids import RunId
from substrate.values.memory import Space
from tests.memories import memory_write
from tests.runs import QUICK
from tests.stores import claimed, database, eventually, opened

NS = "acme/news"
AT_ONCE = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=20),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)


@durable
async def follower(ctx: Context, most: int) -> list[str]:
    """Return what was said in the namespace, so many texts, as they came."""
    memory, heard, n = ctx.memory(NS), list[str](), 0
    while len(heard) < most:
        await memory.changed(n)
        news = await memory.changes(n, limit=7)
        heard += [change.text for change in news.changes]
        n = news.n
    return heard


@durable
async def speaker(ctx: Context, texts: int) -> None:
    for i in range(texts):
        await ctx.memory(NS).say(f"{ctx.run_id} {i}", "s")


@pytest.mark.parametrize("options", [QUICK, AT_ONCE], ids=["warm", "suspended"])
async def test_nothing_is_missed(store_url, options):
    """Many who follow hear all that is said, each once and in order, and wait without a place."""
    async with connect(store_url) as client, client.work([follower, speaker], options=options):
        for i in range(5):
            await client.start(follower, 60, id=f"f-{i}")
        for i in range(3):
            await client.start(speaker, 20, id=f"s-{i}")
        heard = [await client.result(f"f-{i}") for i in range(5)]
    assert sorted(heard[0]) == sorted(f"s: s-{i} {k}" for i in range(3) for k in range(20))
    assert all(each == heard[0] for each in heard)
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM followers") == 0


async def test_one_wake_up(store_url):
    """However much comes while nobody looks, a follower is woken once, and its row is gone."""
    async with opened(store_url) as store, connect(store_url) as client:
        async with client.work([follower], options=AT_ONCE):
            await client.start(follower, 20, id="f")
            with database(store_url) as db:
                await eventually(lambda: db.value("SELECT status FROM runs") == "suspended")
        before = await store.get(RunId("f"))
        async with client.work([speaker], options=QUICK):
            await client.start(speaker, 20, id="s")
            await client.result("s")
        after = await store.get(RunId("f"))
        assert before is not None
        assert after is not None
        assert (after.wake_version - before.wake_version, after.status) == (1, "ready")
        assert await store.wake_followers() == 0
        async with client.work([follower], options=AT_ONCE):
            assert len(await client.result("f")) == 20
        keys = [row.key for row in await client.journal("f")]
    # What has come by then is read in pieces, and nothing is waited for between them.
    assert [key for key in keys if key.startswith("changes")] == [
        "changes.0",
        "changes.1",
        "changes.2",
    ]


async def test_without_followers_nothing_is_written(store_url):
    """A namespace that nobody follows, or that has just changed, has no follower to look for."""
    async with connect(store_url) as client, client.work([speaker, follower], options=QUICK):
        await client.start(speaker, 2, id="s")
        await client.result("s")
        with database(store_url) as db:
            assert db.rows("SELECT followed FROM namespaces") == [(0,)]
            await client.start(follower, 3, id="f")
            await eventually(lambda: db.rows("SELECT followed FROM namespaces") == [(1,)])
            await client.start(speaker, 1, id="t")
            await client.result("f")
            assert db.rows("SELECT followed FROM namespaces") == [(0,)]


@durable
async def impatient(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    first = await memory.changed(0, timeout=timedelta(milliseconds=30))
    winner = await ctx.race(memory.changed(0), ctx.sleep(timedelta(milliseconds=30)))
    await memory.say("now", "s")
    return [first, winner.index, await memory.changed(0, timeout=0), await memory.changed(0)]


@pytest.mark.parametrize("options", [QUICK, AT_ONCE], ids=["warm", "suspended"])
async def test_a_wait_ends_in_time(store_url, options):
    """Where nothing comes in time the number is the one that was given; a race may be lost."""
    async with connect(store_url) as client, client.work([impatient], options=options):
        await client.start(impatient, id="i")
        assert await client.result("i") == [0, 1, 1, 1]


@durable
async def two_waits(ctx: Context) -> list[int]:
    memory = ctx.memory(NS)
    return list(await ctx.gather(memory.changed(0), memory.changed(2), ctx.memory("b").changed(0)))


@durable
async def hint(ctx: Context) -> None:
    await ctx.memory("b").say("a", "s")


async def test_several_waits_of_one_run(store_url):
    """Waits of one run for several numbers and namespaces end each with its own."""
    async with (
        connect(store_url) as client,
        client.work([two_waits, speaker, hint], options=AT_ONCE),
    ):
        await client.start(two_waits, id="w")
        with database(store_url) as db:
            await eventually(lambda: db.value("SELECT count(*) FROM followers") == 2)
        await client.start(speaker, 3, id="s")
        await client.result("s")
        await client.start(hint, id="h")
        first, second, third = await client.result("w")
    assert first in (1, 2, 3)
    assert (second, third) == (3, 1)


@durable
async def mistaken(ctx: Context) -> list[str]:
    told = []
    for since in (-1, True, 1.0, "1", None):
        try:
            ctx.memory(NS).changed(since)  # type: ignore[arg-type]
        except Misuse as error:
            told.append(str(error))
    return told


async def test_what_is_no_number(store_url):
    """What is no number of a namespace is refused before anything is recorded."""
    async with connect(store_url) as client, client.work([mistaken], options=QUICK):
        await client.start(mistaken, id="m")
        assert len(await client.result("m")) == 5


async def test_who_follows_while_it_changes(store_url):
    """A follower that comes while others write is either told what has come, or woken by it."""
    async with opened(store_url) as store:
        claim = await claimed(store, "w")
        said = {"text": "a", "speaker": "b", "trust": "user", "ns": NS}

        async def write() -> None:
            for i in range(40):
                await store.memory.write(memory_write(claim.fence, f"say.{i}", "say", **said))

        async def follow() -> None:
            n = 0
            while n < 40:
                found = await store.memory.follow(Space("", NS), RunId("f"), n)
                if found == n:
                    await eventually(lambda: is_due(store_url))
                    await store.wake_followers()
                n = found

        await asyncio.gather(write(), follow())


def is_due(url: str) -> bool:
    with database(url) as db:
        return db.value("SELECT count(*) FROM followers WHERE is_due = 1 OR run_id IS NULL") > 0


@durable
async def closes(ctx: Context) -> list[Any]:
    """Say six facts, retract all of them at once, and read that three at a time."""
    memory = ctx.memory(NS)
    for i in range(6):
        await memory.remember("Anna", "likes", f"thing {i}")
    await memory.retract("Anna", "likes")
    await memory.say("that was all", "s")
    told, n, last = list[Any](), 0, 8
    while n < last:
        news = await memory.changes(n, limit=3)
        told.append([(change.kind, change.is_gone) for change in news.changes])
        n = news.n
    return told


async def test_what_goes_together_is_told_together(store_url):
    """What one write has closed has one number, and comes whole, however few are asked for."""
    async with connect(store_url) as client, client.work([closes], options=QUICK):
        await client.start(closes, id="c")
        *first, gone, last = await client.result("c")
    assert [each for some in first for each in some] == [["fact", False]] * 6
    assert gone == [["fact", True]] * 6
    assert last == [["said", False]]


async def test_a_wait_that_is_due_stays_due(store_url):
    """Another wait of the same run, for something later, takes no wake-up away."""
    async with opened(store_url) as store:
        claim = await claimed(store, "w")
        said = {"text": "a", "speaker": "b", "trust": "user", "ns": NS}
        assert await store.memory.follow(Space("", NS), claim.run.id, 0) == 0
        await store.memory.write(memory_write(claim.fence, "say.0", "say", **said))
        assert await store.memory.follow(Space("", NS), claim.run.id, 100) == 1
        assert await store.memory.due_followers(9) == [claim.run.id]
        assert await store.wake_followers() == 1
        assert await store.memory.due_followers(9) == []
