"""Many write in one namespace at once: nothing is lost, doubled, or written without its claim."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Context, WorkerOptions, connect, durable
from substrate.store.memory_rows import Look
from substrate.values.memory import Space
from substrate.values.records import Fenced, Promise
from tests.memories import SPACE, Counts, counts, memory_write
from tests.processes import Process
from tests.runs import QUICK
from tests.stores import LANE, OTHER, claimed, database, eventually, opened

LIMITS = WorkerOptions(
    poll=timedelta(milliseconds=40),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)
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


AGENTS, FACTS = 12, 12


def facts_of(agent: int) -> list[tuple[str, str, str]]:
    """Return what an agent says: a third of it others say as well, some of it against them."""
    chosen = random.Random(agent)
    said = []
    for i in range(FACTS):
        if chosen.random() < 0.3:
            said.append((f"shared {chosen.randrange(6)}", "is", chosen.choice(["There", "there"])))
        else:
            said.append((f"own {agent}", f"p{i}", str(chosen.randrange(99))))
    said.append(("the sky", "is_now", f"colour {agent}"))
    return said


@durable
async def agent(ctx: Context, number: int) -> None:
    memory = ctx.memory("acme/shared")
    for subject, predicate, value in facts_of(number):
        policy: Any = "one" if predicate == "is_now" else "many"
        await memory.remember(subject, predicate, value, policy=policy)


def work(url: str, folder: Path) -> None:
    """Drive all agents to their end, in a process that may be killed."""
    os.chdir(folder)
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    async with connect(url) as client, client.work([agent], options=LIMITS):
        for i in range(AGENTS):
            await client.result(f"agent-{i}")


def rows_of(url: str) -> int:
    """Return how many rows of facts there are."""
    with database(url) as db:
        count: int = db.value("SELECT count(*) FROM facts")
    return count


async def test_many_agents_under_kills(
    store_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """Twelve agents in processes that are killed say each fact once, and merge what is alike."""
    async with connect(store_url) as client:
        for i in range(AGENTS):
            await client.start(agent, i, id=f"agent-{i}")
    kills, chosen = 0, random.Random(7)
    workers = [Process(target=work, args=(store_url, tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for said in (10, 40, 80, 120):
        await eventually(lambda said=said: rows_of(store_url) >= said)
        victim = chosen.randrange(2)
        if workers[victim].is_alive():
            kills += 1
            workers[victim].kill()
        workers[victim].join()
        workers[victim] = Process(target=work, args=(store_url, tmp_path))
        workers[victim].start()
    for worker in workers:
        await asyncio.to_thread(worker.join, 60)
        assert worker.exitcode == 0

    expected: dict[tuple[str, str, str], set[int]] = {}
    for i in range(AGENTS):
        for subject, predicate, value in facts_of(i):
            if predicate != "is_now":
                expected.setdefault((subject, predicate, value.lower()), set()).add(i)
    with database(store_url) as db:
        rows = db.rows(
            "SELECT subject, predicate, object, source FROM facts"
            " WHERE gone_n IS NULL AND predicate <> 'is_now'"
        )
        skies = db.value(
            "SELECT count(*) FROM facts WHERE gone_n IS NULL AND predicate = 'is_now'"
            " AND valid_to IS NULL"
        )
    found = Counter((s, p, o.strip('"').lower()) for s, p, o, _ in rows)
    assert found == Counter({fact: len(agents) for fact, agents in expected.items()})
    assert len({(s, p, o.lower(), source.partition("#")[0]) for s, p, o, source in rows}) == len(
        rows
    )
    assert skies == 1
    assert counts(store_url) == Counts(0, 0, 0)
    merged = len(rows) - len(found)
    told = f"{kills} kills, {len(found)} distinct, {merged} merged, {AGENTS - 1} superseded"
    record_property(f"agents of one memory, {store_url.partition(':')[0]}", told)
