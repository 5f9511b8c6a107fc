"""What is odd is kept as it is meant on both stores, or refused where it is given."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from substrate import Context, MemoryRefused, Misuse, RunFailed, connect, durable
from tests.runs import QUICK

NS = "acme/odd"
CAFE = "caf\u00e9"
CAFE_APART = "cafe\u0301"
TOO_LATE = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))


async def run(url: str, function: Any, *args: Any) -> Any:
    """Drive a run to its end."""
    async with connect(url) as client, client.work([function], options=QUICK):
        await client.start(function, *args, id="run")
        return await client.result("run")


@durable
async def nothing(ctx: Context) -> list[Any]:
    """Say that something is nothing, and take it back."""
    memory = ctx.memory(NS)
    id_ = await memory.remember("Anna", "has a car", None, policy="one")
    found = [each.object for each in await memory.facts("Anna")]
    return [found, await memory.retract("Anna", "has a car", None) == [id_]]


async def test_null_is_a_value(store_url: str) -> None:
    """The value of a fact may be null, as any JSON."""
    assert await run(store_url, nothing) == [[None], True]


@durable
async def edits(ctx: Context) -> list[Any]:
    """Edit notes at places that overlap, and insert lines with and without their ends."""
    memory = ctx.memory(NS)
    await memory.write_note("n", "aaa")
    seen: list[Any] = []
    for old in ("aa", "b", ""):
        try:
            await memory.edit_note("n", old, "x")
        except MemoryRefused as error:
            seen.append(str(error).split(" in the note")[0])
    await memory.write_note("lines", "one\nthree\n")
    await memory.insert_note("lines", 1, "two\n")
    await memory.insert_note("lines", 0, "zero")
    await memory.insert_note("lines", 4, "\n")
    note = await memory.note("lines")
    return [*seen, note and note.text]


async def test_edits(store_url: str) -> None:
    """A text that stands twice by overlapping stands more than once; a line has one end."""
    assert await run(store_url, edits) == [
        "'aa' stands more than once",
        "'b' does not stand",
        "'' stands more than once",
        "zero\none\ntwo\nthree\n\n",
    ]


@durable
async def one_name(ctx: Context) -> list[Any]:
    """Write a note under a name whose accents are encoded in two ways."""
    memory = ctx.memory(NS)
    await memory.write_note(CAFE_APART, "one")
    await memory.append_note(CAFE, "two")
    note = await memory.note(CAFE_APART)
    return [note and note.text, [each.name for each in await memory.notes()]]


async def test_how_an_accent_is_encoded(store_url: str) -> None:
    """A name of a note is the same, however its accents are encoded."""
    assert await run(store_url, one_name) == ["one\ntwo", [CAFE]]


@durable
async def refused(ctx: Context, what: str) -> None:
    """Give what cannot be kept."""
    memory = ctx.memory(NS)
    match what:
        case "late":
            await memory.remember("Anna", "lives in", "Bonn", valid_from=TOO_LATE)
        case "late end":
            await memory.link("a", "r", "b", valid_from=datetime(1, 1, 1, tzinfo=UTC))
            await memory.link("a", "r", "b", valid_to=TOO_LATE)
        case "two lines":
            await memory.write_note("one\ntwo", "text")
        case "as_of":
            await memory.facts(as_of="7d")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "what, told",
    [
        ("late", "valid_from=9999-12-31 23:00:00-12:00 is none in UTC"),
        ("late end", "valid_to=9999-12-31 23:00:00-12:00 is none in UTC"),
        ("two lines", "name='one\\ntwo' has a line break or a control"),
        ("as_of", "as_of='7d' is none; give a whole number"),
    ],
)
async def test_refused_where_it_is_given(store_url: str, what: str, told: str) -> None:
    """A moment that no store has, and a name of two lines, are mistakes that name themselves."""
    with pytest.raises(RunFailed) as failed:
        await run(store_url, refused, what)
    assert failed.value.failure.type == Misuse.__name__
    assert told in failed.value.failure.message


@durable
async def interrupted(ctx: Context) -> list[Any]:
    """Say that something was so twice, with something else between."""
    memory = ctx.memory(NS)
    begin, end = datetime(2005, 1, 1, tzinfo=UTC), datetime(2010, 1, 1, tzinfo=UTC)
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    await memory.remember("Anna", "lives in", "Bonn", policy="one", valid_from=long_ago)
    await memory.remember("Anna", "lives in", "Kiel", policy="one", valid_from=begin, valid_to=end)
    found = await memory.facts("Anna", at="any")
    return [
        [each.object, each.valid_from.year, each.valid_to and each.valid_to.year] for each in found
    ]


async def test_what_lies_between_is_not_said(store_url: str) -> None:
    """A fact that was interrupted reads as two, each with its own times."""
    assert await run(store_url, interrupted) == [
        ["Bonn", 2000, 2005],
        ["Bonn", 2010, None],
        ["Kiel", 2005, 2010],
    ]
