"""A run without end goes on as its next generation: one commit, a fresh journal, the same inbox."""

from typing import Any

from substrate import Context, Misuse, RunStatus, connect, durable
from substrate.testing import ManualClock
from substrate.values.clock import from_ms
from substrate.values.codec import decode
from substrate.values.ids import Key
from tests.runs import QUICK, keys, reached

calls: list[str] = []


async def note(what: str) -> str:
    calls.append(what)
    return what


@durable
async def counts(ctx: Context, number: int, last: int) -> list[Any]:
    seen = await ctx.step(note, f"step {number}")
    mail = await ctx.poll("mail")
    if number == 1:
        mail.append(await ctx.receive("go"))
    if number < last:
        return ctx.continue_as(number + 1, last)
    return [seen, mail, str(ctx.uuid())]


async def test_it_goes_on_with_a_fresh_journal(store_url):
    """The same run is called with the new arguments; keys begin anew; earlier ones stay to read."""
    calls.clear()
    async with connect(store_url) as client, client.work([counts], options=QUICK):
        await client.start(counts, 0, 3, id="run")
        await client.signal("run", "go")
        seen, mail, _ = await client.result("run")
        run = await client.get("run")
        recorded = await keys(client, "run")
        again = await client.start(counts, 0, 3, id="run")

    assert (seen, mail) == ("step 3", [])
    assert calls == [f"step {i}" for i in range(4)]
    assert (run.generation, run.status, again.id) == (3, RunStatus.DONE, "run")
    assert {"note.0", "g1/note.0", "g2/note.0", "g3/note.0"} <= set(recorded)


async def test_each_generation_can_be_opened(store_url):
    """What each generation was called with stands in the journal; the caller's own input stays."""
    calls.clear()
    async with connect(store_url) as client, client.work([counts], options=QUICK):
        await client.start(counts, 0, 3, id="run")
        await client.signal("run", "go")
        await client.result("run")
        rows = {each.key: each for each in await client.journal("run")}

    given = [decode(rows[Key(key)].input)["number"] for key in ("run", "g1", "g2", "g3")]
    assert given == [0, 1, 2, 3]
    began = [rows[Key(key)].seq for key in ("g1", "g2", "g3")]
    firsts = [rows[Key(f"g{n}/note.0")].seq for n in (1, 2, 3)]
    assert all(seq < first for seq, first in zip(began, firsts, strict=True))


async def test_the_inbox_is_carried_over(store_url):
    """A signal that one generation did not take is there for the next."""

    @durable
    async def takes(ctx: Context, number: int) -> Any:
        if number == 0:
            await ctx.receive("go")
            return ctx.continue_as(1)
        return [await ctx.receive("mail"), await ctx.poll("mail")]

    async with connect(store_url) as client, client.work([takes], options=QUICK):
        await client.start(takes, 0, id="run")
        await reached(client, "run", "go.0")
        for i in range(3):
            await client.signal("run", "mail", i)
        await client.signal("run", "go")
        assert await client.result("run") == [0, [1, 2]]


async def test_time_begins_with_the_generation(store_url):
    """`now` is not earlier than the generation, and the same on every replay."""
    clock = ManualClock()

    @durable
    async def tells(ctx: Context, number: int) -> Any:
        if number == 0:
            await ctx.sleep(3600)
            return ctx.continue_as(1)
        before = ctx.now()
        await ctx.receive("go")
        return (before - from_ms(began)).total_seconds()

    began = clock.now_ms()
    async with connect(store_url, clock) as client, client.work([tells], options=QUICK) as worker:
        await client.start(tells, 0, id="run")
        await worker.run_until_idle()
        clock.advance(3600)
        await worker.run_until_idle()
        clock.advance(60)
        await client.signal("run", "go")
        assert await client.result("run") == 3600


async def test_only_the_runs_own_function(store_url):
    """A function that is called inside a run cannot continue as another generation of it."""

    @durable
    async def inner(ctx: Context) -> Any:
        return ctx.continue_as()

    @durable
    async def outer(ctx: Context) -> Any:
        try:
            await ctx.call(inner)
        except Exception as error:  # noqa: BLE001 - what it is, is looked at
            return str(error)
        return Misuse.__name__

    async with connect(store_url) as client, client.work([outer], options=QUICK):
        await client.start(outer, id="run")
        assert "only the run's own function can continue" in await client.result("run")
