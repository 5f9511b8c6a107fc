"""What agents keep: written with its promise, never overwritten, known as of any number.

The room is `substrate.memory`.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    MemoryRefused,
    Misuse,
    NoteChanged,
    RunFailed,
    Secret,
    connect,
    durable,
)
from substrate.store.memory_rows import Look
from substrate.values.codec import decode
from substrate.values.errors import InvalidId
from substrate.values.memory import Space
from tests.runs import QUICK
from tests.stores import database, eventually, opened

NS = "acme/anna"
THEN = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


async def run(url: str, function: Any, *args: Any, id: str = "run") -> Any:
    """Drive a run to its end."""
    async with connect(url) as client, client.work([function], options=QUICK):
        await client.start(function, *args, id=id)
        return await client.result(id)


@durable
async def note_keeper(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    seen: list[Any] = [await memory.write_note("plan", "one\ntwo")]
    try:
        await memory.write_note("plan", "mine alone")
    except NoteChanged as lost:
        seen.append([lost.version, lost.text])
    seen.append(await memory.edit_note("plan", "two", "zwei"))
    seen.append(await memory.insert_note("plan", 1, "between"))
    seen.append(await memory.append_note("plan", "three"))
    note = await memory.note("plan")
    assert note is not None
    seen.append(note.text)
    seen.append(await memory.rename_note("plan", "plans"))
    seen.append([each.name for each in await memory.notes()])
    await memory.delete_note("plans", over=seen[-2])
    seen.append(await memory.note("plans"))
    seen.append(await memory.write_note("plans", "anew"))
    return seen


async def test_notes(store_url):
    """A note is written, edited, renamed, deleted; who names an old version gets the new text."""
    seen = await run(store_url, note_keeper)

    text = "one\nbetween\nzwei\nthree"
    assert seen == [1, [1, "one\ntwo"], 2, 3, 4, text, 5, ["plans"], None, 7]
    with database(store_url) as db:
        versions = db.rows("SELECT version FROM notes WHERE name = 'plan' ORDER BY n")
    assert [version for (version,) in versions] == [1, 2, 3, 4, 5]


REFUSALS = [
    lambda memory: memory.edit_note("plan", "o", "0"),
    lambda memory: memory.edit_note("plan", "zwei", "two"),
    lambda memory: memory.edit_note("none", "zwei", "two"),
    lambda memory: memory.insert_note("plan", 99, "x"),
    lambda memory: memory.rename_note("plan", "other"),
    lambda memory: memory.rename_note("none", "new"),
    lambda memory: memory.delete_note("none"),
    lambda memory: memory.append_note("long", "x" * 40_000),
    lambda memory: memory.remember("a", "b", 1, valid_to=THEN),
    lambda memory: memory.link("a", "b", "c", valid_to=THEN),
]


@durable
async def refused(ctx: Context) -> list[str]:
    memory = ctx.memory(NS)
    await memory.write_note("plan", "two o o")
    await memory.write_note("other", "x")
    await memory.write_note("long", "x" * 40_000)
    before = await memory.notes()
    told = []
    for refusal in REFUSALS:
        with pytest.raises(MemoryRefused) as caught:
            await refusal(memory)
        told.append(str(caught.value))
    assert [note.version for note in await memory.notes()] == [note.version for note in before]
    return told


async def test_what_stands_may_refuse(store_url):
    """A write that does not fit what stands says why, and changes nothing."""
    told = await run(store_url, refused)

    assert len(told) == len(REFUSALS)
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM facts") == db.value("SELECT count(*) FROM links") == 0
        rejected = db.rows("SELECT error FROM promises WHERE state = 'rejected'")
    assert len(rejected) == len(REFUSALS)


@durable
async def fact_keeper(ctx: Context) -> dict[str, Any]:
    memory = ctx.memory(NS)

    async def known(**at: Any) -> list[Any]:
        return [
            [fact.object, fact.valid_to and (fact.valid_to - THEN).days]
            for fact in await memory.facts("anna", "lives in", **at)
        ]

    for at, city in ((0, "Bonn"), (100, "Kiel"), (50, "Hamm")):
        since = THEN + at * DAY
        await memory.remember("Anna", "Lives in", city, policy="one", valid_from=since)
    first = await memory.remember("anna", "speaks", "Danish")
    again = await memory.remember("ANNA", "Speaks", "danish", confidence=1)
    await memory.remember("Anna", "speaks", "French")
    return {
        "now": await known(),
        "ever": sorted(await known(at="any")),
        "then": await known(at=THEN + 60 * DAY),
        "is_same": first == again,
        "speaks": [fact.object for fact in await memory.facts("Anna", "speaks")],
        "retracted": len(await memory.retract("Anna", "speaks", "FRENCH")),
        "left": [fact.object for fact in await memory.facts(predicate="speaks")],
    }


async def test_one_value_at_a_time(store_url):
    """A newer value cuts what overlaps it, one told late ends where a later one begins."""
    assert await run(store_url, fact_keeper) == {
        "now": [["Kiel", None]],
        "ever": [["Bonn", 50], ["Hamm", 100], ["Kiel", None]],
        "then": [["Hamm", 100]],
        "is_same": True,
        "speaks": ["Danish", "French"],
        "retracted": 1,
        "left": ["Danish"],
    }


@durable
async def says(ctx: Context, city: str, confidence: float = 1, *, fails: bool = False) -> None:
    memory = ctx.memory(NS, undo=fails)
    await memory.remember("Anna", "lives in", city, policy="one", confidence=confidence)
    if fails:
        raise ValueError("never mind")


def cities(url: str) -> list[Any]:
    """Return what stands of where she lives: where, who said so, and whether it is still true."""
    with database(url) as db:
        found = db.rows(
            "SELECT object, source, valid_to FROM facts WHERE gone_n IS NULL ORDER BY n"
        )
    return [(object_, source.partition("#")[0], end is None) for object_, source, end in found]


async def test_two_sources_of_one_fact(store_url):
    """What two runs say alike is one fact of two sources; an undo takes back its own run's word."""
    async with connect(store_url) as client, client.work([says], options=QUICK):
        await client.start(says, "Bonn", 0.5, id="first")
        await client.result("first")
        await client.start(says, "BONN", 0.9, fails=True, id="second")
        with pytest.raises(RunFailed):
            await client.result("second")
        rows = await client.store.memory.rows(Look(Space("", NS), "facts", {}))

    assert cities(store_url) == [('"Bonn"', "first", True)]
    assert {row.stamp.doc for row in rows} == {1}


async def test_an_undo_puts_back_what_it_closed(store_url):
    """What a run closed stands again when it is undone, if nobody has said anything newer."""
    async with connect(store_url) as client, client.work([says, in_doubt], options=QUICK):
        await client.start(says, "Bonn", id="first")
        await client.result("first")
        await client.start(says, "Kiel", fails=True, id="wrong")
        with pytest.raises(RunFailed):
            await client.result("wrong")
        assert cities(store_url) == [('"Bonn"', "first", True)]

        await client.start(in_doubt, id="doubt")
        await eventually(lambda: len(cities(store_url)) == 2)
        await client.start(says, "Hamm", id="newer")
        await client.result("newer")
        await client.signal("doubt", "go", 1)
        with pytest.raises(RunFailed):
            await client.result("doubt")
    assert sorted(cities(store_url)) == [('"Bonn"', "first", False), ('"Hamm"', "newer", True)]


@durable
async def in_doubt(ctx: Context) -> None:
    await ctx.memory(NS, undo=True).remember("Anna", "lives in", "Kiel", policy="one")
    await ctx.receive("go", int)
    raise ValueError("never mind")


@durable
async def reader(ctx: Context) -> list[Any]:
    memory, seen = ctx.memory(NS), []
    for city in ("Bonn", "Kiel"):
        await memory.remember("Anna", "lives in", city, policy="one")
        await memory.append_note("cities", city)
        seen.append(await memory.facts("Anna"))
    return [[fact.object for fact in facts] for facts in seen]


async def test_what_was_known_can_be_read_again(store_url):
    """A read says at which number it was made; as of that number, the rows are what it found."""
    assert await run(store_url, reader) == [["Bonn"], ["Kiel"]]

    async with connect(store_url) as client:
        reads = [row for row in await client.journal("run") if row.name == "facts"]
        for read in reads:
            value = decode(read.value)
            look = Look(Space("", NS), "facts", {"subject_key": "anna"}, as_of=value["n"])
            when = replace(look, at=read.settled_at)
            rows = await client.store.memory.rows(when)
            assert [decode(row.object) for row in rows] == [
                each["object"] for each in value["found"]
            ]
        for n, text in ((2, "Bonn"), (99, "Bonn\nKiel")):
            look = Look(Space("", NS), "notes", {"name": "cities"}, as_of=n)
            assert [row.body for row in await client.store.memory.rows(look)] == [text]


@durable
async def as_of(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    found = []
    for n in (0, 1, 2):
        note = await memory.note("cities", as_of=n)
        found.append(note and note.text)
    known = await memory.facts("Anna", at="any", as_of=THEN)
    return [*found, len(known), len(await memory.facts("Anna", at="any", as_of=2))]


async def test_as_of(store_url):
    """Code can read what was known at a number, or at a moment."""
    await run(store_url, reader)
    assert await run(store_url, as_of, id="later") == [None, None, "Bonn", 0, 1]


@durable
async def changeable(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    await memory.remember("Anna", "lives in", "Bonn", policy="one")
    first = [fact.object for fact in await memory.facts("Anna")]
    await ctx.receive("go", int)
    return [first, [fact.object for fact in await memory.facts("Anna")]]


async def test_a_replay_sees_what_it_saw(store_url):
    """What somebody else has written since changes no read that is recorded, and the next one."""
    async with connect(store_url) as client:
        async with client.work([changeable], options=QUICK):
            await client.start(changeable, id="run")

            async def has_read() -> bool:
                return any(row.name == "facts" for row in await client.journal("run"))

            await eventually(has_read)
        async with client.work([changeable, says], options=QUICK):  # it is driven from the top
            await client.start(says, "Kiel", id="other")
            await client.result("other")
            await client.signal("run", "go", 1)
            assert await client.result("run") == [["Bonn"], ["Kiel"]]


@durable
async def adds(ctx: Context, name: str) -> None:
    memory = ctx.memory(NS)
    while True:
        note = await memory.note("shared")
        text = f"{note.text}\n{name}" if note else name
        try:
            await memory.write_note("shared", text, over=note.version if note else 0)
        except NoteChanged:
            continue
        return


async def test_many_writers_of_one_note(store_url):
    """Twenty runs that write over each other lose nobody's text: twenty versions, one a writer."""
    names = [f"w{i}" for i in range(20)]
    async with connect(store_url) as client, client.work([adds], options=QUICK):
        for name in names:
            await client.start(adds, name, id=name)
        for name in names:
            await client.result(name)
    with database(store_url) as db:
        version, body = db.rows("SELECT version, body FROM notes WHERE gone_n IS NULL")[0]
        assert db.value("SELECT count(*) FROM notes") == 20
    assert version == 20
    assert sorted(body.split("\n")) == sorted(names)


@durable
async def turn(ctx: Context) -> list[str]:
    memory, other = ctx.memory(NS), ctx.memory("acme/bert")
    return await ctx.gather(
        memory.remember("Anna", "lives in", "Bonn"),
        memory.link("Anna", "works for", "ACME"),
        other.remember("Bert", "lives in", "Kiel"),
        memory.say("hello"),
    )


async def test_the_writes_of_a_turn_are_one_transaction(store_url):
    """What is written side by side is committed together, in whatever namespaces."""
    async with opened(store_url) as store:
        batches = []
        sql = store.memory._sql

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(sql, name)

            def write_memory(self, db: Any, batch: Any) -> Any:
                batches.append(len(batch))
                return sql.write_memory(db, batch)

        store.memory._sql = Counting()
        client = Client(store)
        async with client.work([turn], options=QUICK):
            await client.start(turn, id="run")
            assert len(await client.result("run")) == 4
    assert batches == [4]


BAD: list[Any] = [
    lambda ctx: ctx.memory("a//b"),
    lambda ctx: ctx.memory("/a"),
    lambda ctx: ctx.memory("../b"),
    lambda ctx: ctx.memory("a/./b"),
    lambda ctx: ctx.memory("a b"),
    lambda ctx: ctx.memory("a#b"),
    lambda ctx: ctx.memory("x" * 201),
    lambda ctx: ctx.memory(None),
    lambda ctx: ctx.memory(NS, trust="me"),
    lambda ctx: ctx.memory(NS).remember("", "a", 1),
    lambda ctx: ctx.memory(NS).remember("  ", "a", 1),
    lambda ctx: ctx.memory(NS).remember("a", "", 1),
    lambda ctx: ctx.memory(NS).remember(None, "a", 1),
    lambda ctx: ctx.memory(NS).remember("a", "b", float("nan")),
    lambda ctx: ctx.memory(NS).remember("a", "b", object()),
    lambda ctx: ctx.memory(NS).remember("a", "b", "x" * 20_000),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, confidence=float("nan")),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, confidence=1.1),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, confidence=True),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, policy="most"),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, valid_from=THEN, valid_to=THEN),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, valid_from="today"),
    lambda ctx: ctx.memory(NS).remember("a", "b", 1, valid_from=datetime(2020, 1, 1)),  # noqa: DTZ001
    lambda ctx: ctx.memory(NS).remember("a\0b", "b", 1),
    lambda ctx: ctx.memory(NS).remember("a", "b\ud800", 1),
    lambda ctx: ctx.memory(NS).remember("x" * 201, "b", 1),
    lambda ctx: ctx.memory(NS).link("a", "", "b"),
    lambda ctx: ctx.memory(NS).link("a", "b", "  "),
    lambda ctx: ctx.memory(NS).write_note("a", "x" * 65_537),
    lambda ctx: ctx.memory(NS).write_note("a", "ä" * 40_000),
    lambda ctx: ctx.memory(NS).write_note("a", "b\0"),
    lambda ctx: ctx.memory(NS).write_note("a", "b\udc00"),
    lambda ctx: ctx.memory(NS).write_note("a", b"b"),
    lambda ctx: ctx.memory(NS).write_note("", "b"),
    lambda ctx: ctx.memory(NS).write_note("a", "b", over=-1),
    lambda ctx: ctx.memory(NS).write_note("a", "b", over=True),
    lambda ctx: ctx.memory(NS).write_note("a", "b", over=2**63),
    lambda ctx: ctx.memory(NS).note("a", as_of=-1),
    lambda ctx: ctx.memory(NS).facts(at="now"),
    lambda ctx: ctx.memory(NS).say("x" * 70_000),
]


@durable
async def misuses(ctx: Context) -> list[str]:
    told = []
    for bad in BAD:
        with pytest.raises((Misuse, InvalidId)) as caught:
            await bad(ctx)
        told.append(str(caught.value))
    return told


async def test_bad_input(store_url):
    """What cannot be kept is refused where it is asked, and nothing is recorded of it."""
    told = await run(store_url, misuses)

    assert len(told) == len(BAD)
    assert all(len(each) < 500 for each in told)
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM namespaces") == 0
        assert db.value("SELECT count(*) FROM promises") == 1


@durable
async def tells(ctx: Context, key: Secret[str] = Secret("TEST_MEMORY_KEY")) -> None:
    memory, text = ctx.memory(NS), f"the key is {key.reveal()}"
    await memory.write_note("a", text)
    await memory.remember("a", "b", {"c": text})
    await memory.say(text)


async def test_no_secret_is_kept(store_url, monkeypatch):
    """A secret that was revealed is in no row of memory, and in no word of its index."""
    secret = "q7w8e9r0" * 3
    monkeypatch.setenv("TEST_MEMORY_KEY", secret)
    await run(store_url, tells)

    with database(store_url) as db:
        for table, column in (("notes", "body"), ("facts", "object"), ("history", "body")):
            found = db.value(f"SELECT {column} FROM {table}")
            assert secret not in found
            assert "key is" in found
        assert not db.rows("SELECT term FROM terms WHERE term LIKE :like", like="%q7w8%")
