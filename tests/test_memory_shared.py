"""Many write in one namespace at once: nothing is lost, doubled, or written without its claim."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from substrate import Context, connect, durable
from substrate.store.memory_rows import Look
from substrate.values.memory import Space
from substrate.values.records import Fenced, Promise
from tests.crowd import Crowd, found, speak
from tests.memories import SPACE, Counts, counts, memory_write
from tests.runs import QUICK
from tests.stores import LANE, OTHER, claimed, database, opened

SAID = {"speaker": "b", "trust": "user"}


async def test_a_claim_that_is_over_writes_nothing(store_url):
    """A stale claim writes no row; what is written beside it in one transaction is written."""
    async with opened(store_url) as store:
        stale = await claimed(store, "stale")
        good = await claimed(store, "good")
        await store.release([stale.fence])
        (fresh,) = await store.claim(LANE, 1, OTHER)
        assert fresh.run.id == "stale"
        writes = [
            memory_write(good.fence, "say.0", "say", text="one", **SAID),
            memory_write(stale.fence, "say.0", "say", text="two", **SAID),
            memory_write(fresh.fence, "say.1", "say", text="three", **SAID),
            memory_write(good.fence, "say.2", "say", text="four", **SAID),
        ]
        ends = await asyncio.gather(*map(store.memory.write, writes))
        rows = await store.memory.rows(Look(Space("", SPACE), "history", {}))
    assert [type(end) for end in ends] == [Promise, Fenced, Promise, Promise]
    assert [row.body for row in rows] == ["one", "three", "four"]
    assert counts(store_url) == Counts(0, 0, 0)


async def test_one_promise_is_written_once(store_url):
    """Who writes a promise that has its outcome gets that one, and changes no row."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        first, second = (
            memory_write(claim.fence, "say.0", "say", text=text, **SAID) for text in ("a", "b")
        )
        other = memory_write(claim.fence, "say.1", "say", text="c", **SAID)
        one = await store.memory.write(first)
        again, beside = await asyncio.gather(*map(store.memory.write, (second, other)))
        rows = await store.memory.rows(Look(Space("", SPACE), "history", {}))
    assert isinstance(one, Promise)
    assert isinstance(again, Promise)
    assert isinstance(beside, Promise)
    assert again.value == one.value
    assert [row.body for row in rows] == ["a", "c"]


async def test_who_is_cancelled_leaves_the_others(store_url):
    """A write whose caller is gone is made whole or not at all, and those beside it are made."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        for cut in range(12):
            tasks = [
                asyncio.create_task(
                    store.memory.write(
                        memory_write(claim.fence, f"w.{cut}.{i}", "say", text=f"{cut}.{i}", **SAID)
                    )
                )
                for i in range(4)
            ]
            for _ in range(cut):
                await asyncio.sleep(0)
            tasks[cut % 4].cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            left = [end for i, end in enumerate(ends) if i != cut % 4]
            assert all(isinstance(end, Promise) for end in left), ends
        rows = await store.memory.rows(Look(Space("", SPACE), "history", {}))
    assert len(rows) >= 36
    assert counts(store_url) == Counts(0, 0, 0)


@durable
async def crosswise(ctx: Context, first: str, second: str) -> None:
    for i in range(10):
        await ctx.gather(
            ctx.memory(first).append_note("log", f"{ctx.run_id} {i}"),
            ctx.memory(second).append_note("log", f"{ctx.run_id} {i}"),
        )


async def test_two_namespaces_in_both_orders(store_url):
    """Who writes the same namespaces, each in its own order, is never in the other's way."""
    async with connect(store_url) as one, connect(store_url) as two:
        for i in range(6):
            names = ("a/x", "b/y") if i % 2 else ("b/y", "a/x")
            await one.start(crosswise, *names, id=f"run-{i}")
        async with one.work([crosswise], options=QUICK), two.work([crosswise], options=QUICK):
            for i in range(6):
                await one.result(f"run-{i}")
    with database(store_url) as db:
        bodies = db.rows("SELECT body FROM notes WHERE gone_n IS NULL")
    assert [len(body.splitlines()) for (body,) in bodies] == [60, 60]
    assert [set(Counter(body.splitlines()).values()) for (body,) in bodies] == [{1}, {1}]


async def test_many_agents_under_kills(
    store_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """Agents in processes that are killed leave what follows from what they say, and no more.

    It is counted: how many facts there are, how many of them several have said, where they
    disagree, and by which rule that is decided. `make memory` does the same with 10,000 facts.
    """
    crowd = Crowd(agents=10, total=300, seed=7)
    killed = await speak(crowd, store_url, tmp_path, processes=2, kills=4)
    assert found(store_url) == crowd.table()
    assert counts(store_url) == Counts(0, 0, 0)
    told = ", ".join(f"{name} {count}" for name, count in crowd.table().items())
    record_property(f"a crowd, {store_url.partition(':')[0]}", f"{killed} kills, {told}")
