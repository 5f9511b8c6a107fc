"""How a run stood at any change number can be read from its rows: what was done, what was open."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from substrate import Client, Context, Promise, Retry, RunFailed, connect, durable
from substrate.values.records import OWN_KEY
from tests.runs import QUICK
from tests.stores import eventually

gates: dict[str, asyncio.Event] = {}
running: set[str] = set()
seen: list[tuple[int, frozenset[str]]] = []
failures: list[str] = []


async def work(name: str) -> str:
    """Be at work until the test opens the gate."""
    running.add(name)
    try:
        await gates.setdefault(name, asyncio.Event()).wait()
    finally:
        running.discard(name)
    if name in failures:
        failures.remove(name)
        raise ValueError(name)
    return name


@durable
async def child(ctx: Context) -> str:
    return await ctx.step(work, "inside", name="inside")


@durable
async def busy(ctx: Context) -> list[object]:
    """Do several things at once, one of them twice, and then one more."""
    again = Retry(max_attempts=2, initial=timedelta(milliseconds=1))
    first = await ctx.gather(
        ctx.step(work, "a", name="a"),
        ctx.step(work, "b", name="b", retry=again),
        ctx.step(work, "c", name="c"),
        ctx.spawn(child),
        ctx.receive("go", str),
    )
    return [*first, await ctx.step(work, "d", name="d")]


def open_at(journal: Sequence[Promise], seq: int) -> set[str]:
    """Return the keys of what was open at a change number."""
    return {
        row.key
        for row in journal
        if row.key != OWN_KEY and row.began <= seq and (row.seq > seq or not row.is_settled)
    }


async def settle(client: Client, key: str) -> int:
    """Open a gate, and return the change number at which the step has its outcome."""
    gates[key].set()

    async def seq() -> int:
        rows = {row.key: row for row in await client.journal("busy")}
        row = rows.get(f"{key}.0")
        return row.seq if row is not None and row.is_settled else 0

    return int(await eventually(seq))


async def begun(*names: str) -> None:
    """Return when these are at work."""
    await eventually(lambda: running >= set(names))


async def test_what_was_open(store_url: str) -> None:
    """At each change number, open is what had begun by then and had no outcome yet."""
    gates.clear()
    failures[:] = ["b"]
    async with connect(store_url) as client:
        async with client.work([busy, child], options=QUICK):
            await client.start(busy, id="busy")
            await begun("a", "b", "c", "inside")
            a = await settle(client, "a")
            gates["b"].set()  # fails once, and is tried again at once
            b = await settle(client, "b")
            await client.signal("busy", "go", "on")
            await eventually(lambda: _state(client, "go.0"))
        # Another worker takes it from here: what was open is called again where that may be.
        before = await client.journal("busy")
        async with client.work([busy, child], options=QUICK):
            await begun("inside")
            gates["c"].set()
            gates["inside"].set()
            await begun("d")
            d = await settle(client, "d")
            await client.result("busy")
        journal = await client.journal("busy")

    # The first call of c left no row. The one that has the outcome began in the second worker.
    assert open_at(journal, a) == {"b.0", "child.0", "go.0"}
    assert open_at(journal, b) == {"child.0", "go.0"}
    assert open_at(journal, before[-1].seq) == {"c.0", "child.0"}
    assert open_at(journal, d - 1) == {"d.0"}
    assert open_at(journal, d) == set()
    earlier = {row.key: row.began for row in before}
    assert {row.key: row.began for row in journal if row.key in earlier} == earlier
    assert all(0 <= row.began <= row.seq for row in journal)


@durable
async def take_back(ctx: Context, name: str) -> None:
    await ctx.step(work, f"{name} again", name="again")
    await ctx.step(work, f"{name} at last", name="last")


@durable
async def regrets(ctx: Context) -> None:
    await ctx.step(work, "paid", name="paid", undo=take_back)
    raise ValueError("off")


async def test_an_undo_began_before_its_steps(store_url: str) -> None:
    """An undo is open from its call to its end, while its own steps are made."""
    gates.clear()
    async with connect(store_url) as client, client.work([regrets, take_back], options=QUICK):
        for name in ("paid", "paid again", "paid at last"):
            gates[name] = asyncio.Event()
            gates[name].set()
        await client.start(regrets, id="run")
        with pytest.raises(RunFailed):
            await client.result("run")
        journal = {row.key.rpartition("/")[2]: row for row in await client.journal("run")}
    undo = max(journal.values(), key=lambda row: row.seq if row.key != OWN_KEY else 0)
    again, last = journal["again.0"], journal["last.0"]
    assert undo.began < again.seq < last.seq < undo.seq


async def _state(client: Client, key: str) -> bool:
    return any(row.key == key and row.is_settled for row in await client.journal("busy"))
