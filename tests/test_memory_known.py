"""Every read can be asked what was known at a number or a moment, and both say the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

from substrate import Context, connect, durable
from substrate.memory.moments import number_of
from substrate.testing import ManualClock
from substrate.values.clock import to_ms
from substrate.values.memory import Space
from tests.runs import QUICK
from tests.stores import database

NS = "acme/known"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CLOCK = ManualClock()


def wait_a_minute() -> None:
    """Let a minute pass."""
    CLOCK.advance(60)


@durable
async def changes(ctx: Context) -> list[datetime]:
    """Change all there is, three times; return a moment before, between and after."""
    memory = ctx.memory(NS)
    moments = []

    async def minute() -> None:
        await ctx.step(wait_a_minute)
        moments.append(ctx.now())
        await ctx.step(wait_a_minute)

    await minute()
    await memory.remember("Anna", "lives in", "Bonn", policy="one", valid_from=LONG_AGO)
    await memory.write_note("plan", "harbour")
    await memory.link("Anna", "knows", "Bert")
    await minute()
    await memory.remember("Anna", "lives in", "Kiel", policy="one", valid_from=LONG_AGO)
    await memory.edit_note("plan", "harbour", "museum")
    await memory.link("Bert", "knows", "Cleo")
    await memory.unlink("Anna", "knows", "Bert")
    await minute()
    await memory.retract("Anna", "lives in")
    await memory.rename_note("plan", "plans")
    await memory.link("Anna", "knows", "Bert")
    await minute()
    return moments


@durable
async def looks(ctx: Context, as_of: int | datetime) -> list[Any]:
    """Read all there is as it was known then."""
    memory = ctx.memory(NS)
    note = await memory.note("plan", as_of=as_of)
    return [
        [each.object for each in await memory.facts("Anna", as_of=as_of)],
        [each.name for each in await memory.notes(as_of=as_of)],
        note and note.text,
        [each.b for each in await memory.links(as_of=as_of)],
        sorted([each.text for each in await memory.recall("Anna harbour museum", as_of=as_of)]),
        [each.name for each in await memory.walk("Anna", as_of=as_of)],
        [each.name for each in await memory.path("Anna", "Cleo", as_of=as_of)],
    ]


KNOWN: list[list[Any]] = [
    [[], [], None, [], [], [], []],
    [["Bonn"], ["plan"], "harbour", ["Bert"], ["Anna lives_in: Bonn", "plan: harbour"], ["Bert"]],
    [["Kiel"], ["plan"], "museum", ["Cleo"], ["Anna lives_in: Kiel", "plan: museum"], []],
    [[], ["plans"], None, ["Cleo", "Bert"], ["plans: museum"], ["Bert", "Cleo"], ["Bert", "Cleo"]],
]
KNOWN[1].append([])
KNOWN[2].append([])


async def test_at_a_moment_as_at_its_number(store_url: str) -> None:
    """As of a moment all kinds are as they were, also what is gone; and so as of its number."""
    async with (
        connect(store_url, clock=CLOCK) as client,
        client.work([changes, looks], options=QUICK),
    ):
        await client.start(changes, id="changes")
        moments = await client.result("changes", changes)
        memory = client.store.memory
        counter = await memory.counter(Space("", NS))
        for index, moment in enumerate(moments):
            await client.start(looks, moment, id=f"moment/{index}")
            assert await client.result(f"moment/{index}") == KNOWN[index]
            n = await number_of(memory, counter, known_at=to_ms(moment))
            await client.start(looks, n, id=f"number/{index}")
            assert await client.result(f"number/{index}") == KNOWN[index]
            for step in ("facts", "recall", "walk"):
                (read,) = (await client.store.promises([f"moment/{index}#{step}.0"])).values()
                assert f'"n":{n}' in str(read.value)
        later = moments[-1] + timedelta(days=9)
        assert await number_of(memory, counter, known_at=to_ms(later)) == counter.last_n
        assert await number_of(memory, counter, counter.last_n + 9) == counter.last_n


@durable
async def everything(ctx: Context) -> None:
    """Write so that one write has several rows: close, cut in two, rename."""
    memory = ctx.memory(NS)
    for year in (2001, 2003, 2005):
        end = datetime(year + 1, 1, 1, tzinfo=UTC)
        begin = datetime(year, 1, 1, tzinfo=UTC)
        await memory.remember("Bonn", "has", year, valid_from=begin, valid_to=end)
    await memory.remember("Bonn", "has", "all", policy="one", valid_from=LONG_AGO)
    middle = datetime(2002, 1, 1, tzinfo=UTC)
    await memory.remember(
        "Bonn", "has", "cut", policy="one", valid_from=middle, valid_to=middle + timedelta(9)
    )
    await memory.write_note("a", "text")
    await memory.write_note("a", "texts", over=1)
    await memory.rename_note("a", "b")
    await memory.retract("Bonn", "has")


async def test_a_write_is_known_whole(store_url: str) -> None:
    """A number in the middle of a write is that of its end, so no read finds half of one."""
    async with connect(store_url) as client, client.work([everything], options=QUICK):
        await client.start(everything, id="everything")
        await client.result("everything")
        memory = client.store.memory
        counter = await memory.counter(Space("", NS))
        found = [await number_of(memory, counter, n) for n in range(counter.last_n + 1)]
    with database(store_url) as db:
        rows = [
            row
            for table in ("notes", "facts")
            for row in db.rows(f"SELECT n, writer FROM {table} WHERE ns = :ns", ns=NS)
        ]
    ends = {writer: n for n, writer in sorted(rows)}
    assert found[0] == 0
    assert {n: found[n] for n, _ in rows} == {n: ends[writer] for n, writer in rows}
    assert sorted(set(found)) == [0, *sorted(ends.values()), counter.last_n]
    assert [*range(1, counter.last_n)] == sorted(n for n, _ in rows)


@durable
async def overwrites(ctx: Context) -> list[Any]:
    """Write a note over and over; return it as of each number."""
    memory = ctx.memory(NS)
    for version in range(5):
        await memory.write_note("n", f"{version}", over=version)
    notes = [await memory.note("n", as_of=n) for n in range(1, 6)]
    return [note and note.text for note in notes]


async def test_no_number_has_a_hole(store_url: str) -> None:
    """A note that is overwritten is there at every number: each version from its own one on."""
    async with connect(store_url) as client, client.work([overwrites], options=QUICK):
        await client.start(overwrites, id="overwrites")
        assert await client.result("overwrites") == ["0", "1", "2", "3", "4"]


@durable
async def now_and_then(ctx: Context) -> list[str]:
    """Say something; the clock is set back; say something else, and read."""
    memory = ctx.memory(NS)
    await memory.remember("Anna", "lives in", "Bonn", policy="one")
    await ctx.step(an_hour_back)
    await memory.remember("Anna", "lives in", "Kiel", policy="one")
    return [each.object for each in await memory.facts("Anna")]


def an_hour_back() -> None:
    """Set the clock back."""
    CLOCK.advance(-3600)


async def test_a_clock_that_is_set_back(store_url: str) -> None:
    """What was just said is true now, also where the clock was set back since the last change."""
    async with (
        connect(store_url, clock=CLOCK) as client,
        client.work([now_and_then], options=QUICK),
    ):
        await client.start(now_and_then, id="back")
        assert await client.result("back") == ["Kiel"]
