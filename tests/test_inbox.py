"""What may be sent to a run, and what not: by how it stands, by its form; at the same cost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    RunEnded,
    RunFailed,
    RunNotFound,
    RunStatus,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.errors import InvalidId
from substrate.values.ids import RunId
from tests.runs import QUICK, reached
from tests.stores import claimed, opened, received, signal, waiting
from tests.troubled import troubled


@durable
async def waits(ctx: Context) -> Any:
    return await ctx.receive("go")


async def book(what: str) -> str:
    return what


@durable
async def asks_first(ctx: Context, what: str) -> None:
    await ctx.receive("refund")


@durable
async def trip(ctx: Context) -> None:
    await ctx.step(book, "flight", undo=asks_first)
    raise ValueError("off")


async def suspended(client: Client) -> None:
    async with client.work([waits], options=QUICK):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")


async def test_after_a_cancel_nothing_is_taken(store_url):
    """A decision sent to a run that was asked to end is refused, with no worker alive."""
    async with connect(store_url) as client:
        await suspended(client)
        await client.signal("run", "go", "kept", dedup="1")
        await client.cancel("run")
        with pytest.raises(RunEnded, match="'run' was asked to end; it takes no signal 'go'"):
            await client.signal("run", "go", True)
        assert await client.signal("run", "go", "again", dedup="1") is False
        assert len(await client.store.inbox(RunId("run"))) == 1


async def test_below_a_cancelled_run_neither(store_url):
    """A child of a run that was asked to end takes nothing more either."""

    @durable
    async def parent(ctx: Context) -> Any:
        return await ctx.spawn(waits)

    async with connect(store_url) as client:
        async with client.work([parent, waits], options=QUICK):
            await client.start(parent, id="run")
            await reached(client, "run", "waits.0")
            await reached(client, "run#waits.0", "go.0")
        await client.cancel("run")
        with pytest.raises(RunEnded, match="was asked to end"):
            await client.signal("run#waits.0", "go")


async def test_after_its_time_neither(store_url):
    """A run whose time is over takes nothing, also before a worker has ended it."""
    clock = ManualClock()
    async with connect(store_url, clock) as client:
        await client.start(waits, id="run", timeout=60)
        await client.signal("run", "go", dedup="in-time")
        clock.advance(60)
        with pytest.raises(RunEnded, match="'run' has run out of time"):
            await client.signal("run", "go")


async def test_while_it_is_undone(store_url):
    """A run that is being undone takes what one of its undos waits for, and nothing else."""
    functions = [trip, asks_first]
    async with connect(store_url) as client:
        async with client.work(functions, options=QUICK):
            await client.start(trip, id="run")
            await reached(client, "run", "unwind/book.0/0/refund.0")
        with pytest.raises(RunEnded, match="is being undone; it takes no signal 'go'"):
            await client.signal("run", "go")
        await client.signal("run", "refund")
        async with client.work(functions, options=QUICK):
            with pytest.raises(RunFailed, match="off"):
                await client.result("run")
        with pytest.raises(RunEnded, match="'run' is failed"):
            await client.signal("run", "refund")


async def test_a_cancelled_run_takes_what_its_undos_wait_for(store_url):
    """Asked to end, a run still takes the answer that an undo of it waits for."""

    @durable
    async def trip_that_waits(ctx: Context) -> None:
        await ctx.step(book, "flight", undo=asks_first)
        await ctx.receive("go")

    async with connect(store_url) as client:
        async with client.work([trip_that_waits, asks_first], options=QUICK):
            await client.start(trip_that_waits, id="run")
            await reached(client, "run", "go.0")
            await client.cancel("run")
            await reached(client, "run", "unwind/book.0/0/refund.0")
        with pytest.raises(RunEnded, match="was asked to end"):
            await client.signal("run", "go")
        await client.signal("run", "refund")
        async with client.work([trip_that_waits, asks_first], options=QUICK) as worker:
            await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.CANCELLED


BAD_DEDUPS = ["", " ", "a b", "x" * 201, "nul\0", "\ud800", "naïve", "run#1", "a\n", 7, b"x"]


@pytest.mark.parametrize("dedup", BAD_DEDUPS)
async def test_a_dedup_has_the_form_of_an_id(store_url, dedup):
    """What could not be a run's id is no dedup either, on every store and with one error."""
    async with connect(store_url) as client:
        await client.start(waits, id="run")
        with pytest.raises(InvalidId, match="dedup=") as refused:
            await client.signal("run", "go", dedup=dedup)
        assert len(str(refused.value)) < 250
        assert await client.store.inbox(RunId("run")) == []
        assert await client.signal("run", "go", dedup="x" * 200)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "nul\0", "\ud800", "a/b", None])
async def test_a_signals_name_is_a_name(store_url, name):
    """A name that no wait could have is refused by the sender's call, and by the wait's."""

    @durable
    async def hears(ctx: Context) -> Any:
        return await ctx.hear(name)

    async with connect(store_url) as client, client.work([hears], options=QUICK):
        await client.start(hears, id="run")
        with pytest.raises(InvalidId):
            await client.signal("run", name)
        with pytest.raises(RunFailed, match="InvalidId"):
            await client.result("run")


CALLS: dict[str, Callable[[Client, str], Awaitable[Any]]] = {
    "get": lambda client, id_: client.get(id_),
    "journal": lambda client, id_: client.journal(id_),
    "result": lambda client, id_: client.result(id_),
    "signal": lambda client, id_: client.signal(id_, "go"),
    "cancel": lambda client, id_: client.cancel(id_),
    "discard": lambda client, id_: client.discard(id_),
    "resume": lambda client, id_: client.resume(id_),
}


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_no_id_names_no_run(store_url, call):
    """Text that cannot be an id is the id of no run, and never reaches a database."""
    async with connect(store_url) as client:
        for id_ in ("nul\0", "\ud800", "", "a b", "x" * 10_000):
            with pytest.raises(RunNotFound):
                await CALLS[call](client, id_)


@durable
async def takes(ctx: Context, count: int) -> int:
    for _ in range(count):
        await ctx.receive("mail")
    return count


@durable
async def polls(ctx: Context) -> int:
    return len(await ctx.poll("mail"))


async def filled(client: Client, run_id: str, count: int) -> None:
    """Put so many signals into an inbox."""
    for first in range(0, count, 500):
        some = range(first, min(first + 500, count))
        await asyncio.gather(*(client.signal(run_id, "mail", n, f"{n}") for n in some))


async def test_each_take_reads_one_signal(store_url):
    """A wait reads as much of an inbox as it takes, however much is in it."""
    async with troubled(store_url) as (client, store):
        await client.start(takes, 20, id="run")
        await filled(client, "run", 1000)
        read: list[int] = []
        inbox = store._store.inbox

        async def counted(*args: Any, **named: Any) -> Any:
            found = await inbox(*args, **named)
            read.append(len(found))
            return found

        store.inbox = counted
        async with client.work([takes], options=QUICK):
            assert await client.result("run") == 20
    assert read == [1] * 20


async def test_a_poll_takes_ten_thousand(store_url):
    """A poll takes all that has come in one row, read in bounded batches."""
    async with troubled(store_url) as (client, store):
        await client.start(polls, id="run")
        await filled(client, "run", 10_000)
        async with client.work([polls], options=QUICK):
            assert await client.result("run") == 10_000
        assert store.calls["take_signals"] == 1
        assert await client.store.inbox(RunId("run"), limit=1) == []


async def test_the_first_of_many(store_url):
    """The oldest untaken come first, above an n if one is given, and no more than asked for."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        for i in range(5):
            await store.send_signal(signal(dedup=f"{i}", value=f"{i}"))
        await store.take_signals(claim.fence, received(waiting()), ["1"])

        async def found(**only: int) -> list[str]:
            return [one.dedup for one in await store.inbox(claim.run.id, "go", **only)]

        assert await found(limit=2) == ["0", "2"]
        oldest = (await store.inbox(claim.run.id, "go"))[0]
        assert await found(after=oldest.n, limit=2) == ["2", "3"]
        assert await found() == ["0", "2", "3", "4"]


async def test_a_flood_of_refused_values_is_noted_in_part(store_url):
    """A wait notes the last hundred values that it refused: its row does not grow for ever."""

    @durable
    async def number(ctx: Context) -> int:
        return await ctx.receive("mail", int)

    async with connect(store_url) as client:
        await client.start(number, id="run")
        for i in range(130):
            await client.signal("run", "mail", f"no {i}")
        await client.signal("run", "mail", 7)
        async with client.work([number], options=QUICK):
            assert await client.result("run") == 7
        (row, _) = await client.journal("run")
    assert (row.attempts or "").count('"Refused"') == 100
