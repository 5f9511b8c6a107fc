"""What is ranked without reading all of it is what ranks best of all."""

import random
from typing import Any

import pytest

from substrate.memory.ranking import best, weights
from substrate.memory.recall import Recall, find
from substrate.store.memory_rows import Look
from substrate.store.store import Store
from substrate.store.term_rows import Query
from substrate.values.memory import Space
from tests.memories import memory_write
from tests.stores import claimed, database, opened

NS = "acme/anna"
TABLES = ("facts", "notes", "history")
WORDS = ("tea", "milk", "sugar", "lemon", "bread", "honey")


async def said(store: Store, texts: list[str]) -> None:
    """Say these texts in one namespace."""
    claim = await claimed(store)
    for i, text in enumerate(texts):
        ask = {"text": text, "speaker": "anna", "trust": "user"}
        await store.memory.write(memory_write(claim.fence, f"s.{i}", "say", ns=NS, **ask))


def texts(seed: int) -> list[str]:
    """Return texts of few words: many are worth the same, and some words hardly ever meet."""
    chance = random.Random(seed)
    found = []
    for _ in range(500):
        is_any = seed % 2 == 0 or chance.random() < 0.1
        some = WORDS if is_any else WORDS[3 * chance.randrange(2) :][:3]
        length = chance.choice((2, 2, 3, 9)) if is_any else 2
        found.append(" ".join(chance.choices(some, k=length)))
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_better_is_left_out(store_url, seed):
    """The best are those of all texts, in the same order, with the same scores."""
    async with opened(store_url) as store:
        await said(store, texts(seed))
        counter = await store.memory.counter(Space("", NS))
        read: list[int] = []

        class Counting:
            """Counts what is read of the index."""

            def __getattr__(self, name: str) -> Any:
                return getattr(store.memory, name)

            async def best(self, query: Query, streams: Any, limit: int) -> Any:
                found = await store.memory.best(query, streams, limit)
                read.append(sum(map(len, found)))
                return found

        for as_of in (counter.last_n, 120):
            query = Query(Space("", NS), TABLES, as_of)
            for terms in (["tea"], ["tea", "milk"], ["tea", "lemon"], list(WORDS)):
                for k in (1, 7, 40):
                    counts = await store.memory.term_counts(query.space, terms)
                    told = weights(counter, counts)
                    average = counter.words / counter.docs
                    found = await best(Counting(), query, terms, counter, k, few=0)
                    assert found == await store.memory.rank(query, told, average, k)
    assert max(read) > 32 * 3  # more than the first look was needed


async def test_what_is_frequent_is_not_read_through(store_url):
    """Of words that stand in every text, little is read."""
    async with opened(store_url) as store:
        await said(store, [f"tea milk number {i}" for i in range(400)])
        counter = await store.memory.counter(Space("", NS))
        reads = []

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(store.memory, name)

            async def best(self, query: Query, streams: Any, limit: int) -> Any:
                reads.append((len(streams), limit))
                return await store.memory.best(query, streams, limit)

        query = Query(Space("", NS), TABLES, counter.last_n)
        found = await best(Counting(), query, ["tea", "milk"], counter, 8, few=0)
        rows = await store.memory.rows(
            Look(Space("", NS), "history", {}, {"doc": [each.doc for each in found]})
        )
    assert reads == [(2, 32)]
    assert {row.body for row in rows} == {f"tea milk number {i}" for i in range(392, 400)}


async def test_the_counts_are_those_of_the_texts(store_url):
    """In how many texts a word is said to stand, in so many it does, whatever comes and goes."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        asks: list[tuple[str, dict[str, Any]]] = [
            ("write_note", {"name": "plan", "text": "tea tea milk", "version": 0}),
            ("append_note", {"name": "plan", "text": "sugar"}),
            ("edit_note", {"name": "plan", "old": "milk", "new": "lemon tea"}),
            ("say", {"text": "tea " * 40, "speaker": "anna"}),
            ("write_note", {"name": "other", "text": "tea bread", "version": 0}),
            ("delete_note", {"name": "other", "version": None}),
        ]
        for i, (name, ask) in enumerate(asks):
            write = memory_write(claim.fence, f"w.{i}", name, ns=NS, trust="user", **ask)
            await store.memory.write(write)
        with database(store_url) as db:
            stand = db.rows(
                "SELECT term, count(*) FROM terms WHERE gone_n IS NULL GROUP BY term ORDER BY term"
            )
            counted = db.rows("SELECT term, docs FROM term_counts WHERE docs > 0 ORDER BY term")
            bands = dict(db.rows("SELECT term, bands FROM term_counts"))
    assert counted == stand == [("lemon", 1), ("sugar", 1), ("tea", 2)]
    assert bands["tea"] == 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11


async def test_as_of_then_where_nothing_is_left(store_url):
    """What stood then is found as of then, also where nothing of the namespace stands now."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        fact = {"subject": "Anna", "predicate": "drinks", "trust": "user"}
        more = {"object": "tea", "policy": "many", "confidence": 1.0}
        times = {"valid_from": None, "valid_to": None}
        for i, (name, ask) in enumerate((("remember", fact | more | times), ("retract", fact))):
            await store.memory.write(memory_write(claim.fence, f"f.{i}", name, ns=NS, **ask))
        counter = await store.memory.counter(Space("", NS))
        for few in (0, 99):
            for n, docs in ((1, [1]), (counter.last_n, [])):
                query = Query(Space("", NS), TABLES, n)
                found = await best(store.memory, query, ["tea"], counter, 8, few=few)
                assert [each.doc for each in found] == docs
        asked = Recall(Space("", NS), "tea", 8, ("fact",), None)
        assert [hit["text"] for hit in await find(store.memory, asked, counter, 1)] == [
            "Anna drinks: tea"
        ]
        assert await find(store.memory, asked, counter, counter.last_n) == []
