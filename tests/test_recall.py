"""What is kept is found again: by the words of a question, and along links."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from substrate import Context, Misuse, connect, durable
from substrate.memory.recall import Recall, find
from substrate.memory.words import asked, counted
from substrate.store.memory_rows import Look
from substrate.values.memory import Space
from tests.memories import memory_write
from tests.runs import QUICK
from tests.stores import claimed, database, opened

NS = "acme/anna"
SAID = {"trust": "user", "confidence": 1.0, "valid_from": None, "valid_to": None}

FACTS = [
    ("Anna", "lives_in", "Bonn"),
    ("Anna", "pays_with", "a credit card"),
    ("Bert", "asked", "for a refund of two payments"),
    ("Bert", "speaks", "Kölsch & Français"),
    ("東京", "is", "東京都に住んでいます"),
    ("Carl", "said", 'OR NEAR("x") AND col:bar -foo * drop table'),
    ("Dora", "has", {"colour": "green", "size": [38, 39]}),
]


async def filled(store: Any) -> None:
    """Write some facts, a note and what was said."""
    claim = await claimed(store)
    for i, (subject, predicate, value) in enumerate(FACTS):
        ask = {"subject": subject, "predicate": predicate, "object": value, "policy": "many"}
        await store.memory.write(
            memory_write(claim.fence, f"f.{i}", "remember", ns=NS, **ask, **SAID)
        )
    text = "The harbour was full.\n" + "Nothing to see here. " * 100 + "\nAt last a lighthouse."
    note = {"name": "trip", "text": text, "version": 0, "trust": "agent"}
    await store.memory.write(memory_write(claim.fence, "n.0", "write_note", ns=NS, **note))
    said = {"text": "Is the lighthouse open?", "speaker": "user", "trust": "user"}
    await store.memory.write(memory_write(claim.fence, "s.0", "say", ns=NS, **said))


async def recalled(store: Any, question: str, k: int = 5, **changes: Any) -> list[Any]:
    """Return the texts that a question finds, the best first."""
    space = Space("", changes.pop("ns", NS))
    counter = await store.memory.counter(space)
    given = {"kinds": ("note", "fact", "said"), "at": None} | changes
    as_of = given.pop("as_of", counter.last_n)
    hits = await find(store.memory, Recall(space, question, k, **given), counter, as_of)
    return [hit["text"] for hit in hits]


QUESTIONS = {
    "refunds": "Bert asked: for a refund of two payments",
    "which payment?": "Bert asked: for a refund of two payments",
    "kolsch": "Bert speaks: Kölsch & Français",
    "FRANCAIS": "Bert speaks: Kölsch & Français",
    "東京": "東京 is: 東京都に住んでいます",
    "col:bar": 'Carl said: OR NEAR("x") AND col:bar -foo * drop table',
    "green size": 'Dora has: {"colour":"green","size":[38,39]}',
    "39": 'Dora has: {"colour":"green","size":[38,39]}',
}


async def test_words_find_texts(store_url):
    """A question's words find the text that they stand in, whatever their case, accent, script."""
    async with opened(store_url) as store:
        await filled(store)
        found = {question: (await recalled(store, question))[:1] for question in QUESTIONS}
        assert found == {question: [text] for question, text in QUESTIONS.items()}
        both = await recalled(store, "where is the lighthouse")
        assert both[0] == "user: Is the lighthouse open?"
        assert both[1].endswith("At last a lighthouse.")
        assert len(both[1]) < 700
        assert await recalled(store, "lighthouse", kinds=("fact",)) == []
        assert await recalled(store, "lighthouse", ns="acme") == []


async def test_no_question_breaks_it(store_url):
    """What is no word looks for nothing, and no text is a language of queries."""
    questions = [
        "",
        " ",
        "* - OR",
        '"x',
        "a OR",
        "NEAR(",
        "-foo",
        "'; DROP TABLE terms; --",
        "%_\\",
    ]
    async with opened(store_url) as store:
        await filled(store)
        for question in [*questions, "word " * 3000]:
            found = await recalled(store, question)
            assert all(isinstance(text, str) for text in found)
        assert await recalled(store, "* - ! %") == []
        assert await recalled(store, "drop") == [QUESTIONS["col:bar"]]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_text_is_found_by_its_own_words(before, after):
    """Each word of a text, asked for by itself, is a word of its index."""
    index = counted(f"{before} {after}")
    for word in asked(before, 99):
        assert word in index
        assert list(counted(word)) == [word] or not word.isascii() or len(word) < 64


async def test_both_stores_find_the_same(sqlite_url, postgres_url):
    """The same rows give the same order, with the same scores, on both stores."""
    found = []
    for url in (sqlite_url, postgres_url):
        async with opened(url) as store:
            await filled(store)
            found.append(
                [await recalled(store, each) for each in (*QUESTIONS, "bert anna lighthouse")]
            )
    assert found[0] == found[1]
    assert len(found[0][-1]) > 2


@durable
async def changes(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    await memory.remember("Anna", "lives in", "Bonn", policy="one")
    await memory.write_note("plan", "see the harbour and the tower", over=0)
    first = await memory.recall("Bonn harbour")
    n = len(await memory.facts(at="any"))
    await memory.remember("Anna", "lives in", "Kiel", policy="one")
    await memory.edit_note("plan", "harbour", "castle")
    await memory.retract("Anna", "lives in", "Kiel")
    second = await memory.recall("Bonn harbour Kiel castle")
    then = await memory.recall("Bonn harbour Kiel castle", as_of=2)
    ever = await memory.recall("Bonn harbour Kiel castle", at="any")
    return [n, *([hit.text for hit in hits] for hits in (first, second, then, ever))]


async def test_what_is_gone_is_found_no_more(store_url):
    """What was changed, closed or retracted is not found; as of then it still is."""
    async with connect(store_url) as client, client.work([changes], options=QUICK):
        await client.start(changes, id="run")
        n, first, second, then, ever = await client.result("run")
        rows = [row for row in await client.journal("run") if row.name == "recall"]
    old, new = "plan: see the harbour and the tower", "plan: see the castle and the tower"
    assert n == 1
    assert sorted(first) == ["Anna lives_in: Bonn", old]
    assert second == [new]
    assert sorted(then) == ["Anna lives_in: Bonn", old]
    assert sorted(ever) == ["Anna lives_in: Bonn", new]
    hit = json.loads(rows[0].value)["found"][0]
    assert hit["words"]
    assert hit["source"].startswith("run#")


async def test_the_index_is_what_the_rows_say(store_url):
    """The words that stand in the index are those of the rows that stand, and so are its counts."""
    async with connect(store_url) as client, client.work([changes], options=QUICK):
        await client.start(changes, id="run")
        await client.result("run")
        notes = await client.store.memory.rows(Look(Space("", NS), "notes", {}, as_of=2**53 - 1))
        counter = await client.store.memory.counter(Space("", NS))
    with database(store_url) as db:
        posted = db.rows("SELECT source_table, term, tf, words FROM terms WHERE gone_n IS NULL")
    (body,) = [row.body for row in notes]
    of_note = {term: tf for table, term, tf, _ in posted if table == "notes"}
    assert of_note == dict(counted(body))
    assert counter.docs == 2
    assert counter.words == sum({table: words for table, _, _, words in posted}.values())


@durable
async def family(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    for a, rel, b in (
        ("Anna", "works for", "ACME"),
        ("Bert", "works for", "acme"),
        ("ACME", "belongs to", "Big Corp"),
        ("Big Corp", "owned by", "Anna"),
        ("Dora", "knows", "Emil"),
    ):
        await memory.link(a, rel, b)
    near = await memory.walk("anna", 1)
    far = await memory.walk("BERT", 8)
    out = await memory.walk("Anna", 8, direction="out")
    of_kind = await memory.walk("ACME", 2, rel="works for")
    way = await memory.path("Bert", "big corp")
    none = await memory.path("Anna", "Emil")
    await memory.unlink("ACME", "belongs to", "Big Corp")
    after = await memory.path("Bert", "Big Corp")
    then = await memory.path("Bert", "Big Corp", as_of=5)
    return [
        [(each.name, each.distance) for each in found]
        for found in (near, far, out, of_kind, way, none, after, then)
    ]


async def test_walks(store_url):
    """A walk reaches each thing once, the nearest first; a circle ends, and a way is shortest."""
    async with connect(store_url) as client, client.work([family], options=QUICK):
        await client.start(family, id="run")
        near, far, out, of_kind, way, none, after, then = await client.result("run")
    assert near == [["ACME", 1], ["Big Corp", 1]]
    assert far == [["acme", 1], ["Anna", 2], ["Big Corp", 2]]
    assert out == [["ACME", 1], ["Big Corp", 2]]
    assert of_kind == [["Anna", 1], ["Bert", 1]]
    assert way == then == [["acme", 1], ["Big Corp", 2]]
    assert none == []
    assert after == [["acme", 1], ["Anna", 2], ["Big Corp", 3]]


BAD: list[Any] = [
    lambda memory: memory.recall("x" * 1_000_000),
    lambda memory: memory.recall("x", 0),
    lambda memory: memory.recall("x", 101),
    lambda memory: memory.recall(None),
    lambda memory: memory.recall("x\0"),
    lambda memory: memory.recall("x", kinds=()),
    lambda memory: memory.recall("x", kinds=("page",)),
    lambda memory: memory.recall("x", kinds="fact"),
    lambda memory: memory.walk("", 1),
    lambda memory: memory.walk("a", 9),
    lambda memory: memory.walk("a", 0),
    lambda memory: memory.walk("a", direction="up"),
    lambda memory: memory.path("a", " "),
]


@durable
async def misuses(ctx: Context) -> int:
    for bad in BAD:
        with pytest.raises(Misuse) as caught:
            await bad(ctx.memory(NS))
        assert len(str(caught.value)) < 500
    return len(BAD)


async def test_bad_questions(sqlite_url):
    """What cannot be looked for is refused where it is asked."""
    async with connect(sqlite_url) as client, client.work([misuses], options=QUICK):
        await client.start(misuses, id="run")
        assert await client.result("run") == len(BAD)
