"""A walk reaches what a plain search over all links reaches, by the same links."""

import random
from dataclasses import replace
from typing import Any

import pytest

from substrate.memory.walk import Walk, path, walk
from substrate.store.memory_rows import Look
from substrate.store.store import Store
from substrate.values.errors import MemoryRefused
from substrate.values.memory import LinkRow, Space
from tests.judged.many import CLAIM, fill
from tests.memories import memory_write
from tests.stores import claimed, opened

NS = "acme/anna"
SPACE = Space("", NS)
THINGS = [*(f"thing {i}" for i in range(12)), "Ärger", "東京", "ärger 2", "thing_1"]


async def linked(store: Store, seed: int) -> list[LinkRow]:
    """Write links between a few things, take some back, and return all that were ever there."""
    chance, claim = random.Random(seed), await claimed(store)
    claimed_ = {"trust": "user", "confidence": 1.0, "valid_from": None, "valid_to": None}
    for i in range(40):
        a, b = chance.choices(THINGS, k=2)
        rel = chance.choice(("knows", "owns"))
        name, more = ("link", claimed_) if i % 7 else ("unlink", {"trust": "user"})
        write = memory_write(claim.fence, f"l.{i}", name, ns=NS, a=a, rel=rel, b=b, **more)
        await store.memory.write(write)
    rows = await store.memory.rows(Look(SPACE, "links", {}))
    return [row for row in rows if isinstance(row, LinkRow)]


def plainly(rows: list[LinkRow], asked: Walk, as_of: int) -> list[Any]:
    """Return name, distance and link of what is reached, having looked at each link each time."""
    known = [
        row
        for row in rows
        if row.stamp.n <= as_of
        and (row.stamp.gone_n is None or row.stamp.gone_n > as_of)
        and asked.rel in (None, row.rel)
    ]
    reached: dict[str, Any] = {asked.start: None}
    last = {asked.start}
    for depth in range(1, asked.depth + 1):
        found: dict[str, Any] = {}
        for direction in ("out", "in"):
            for row in known if asked.direction in (direction, "both") else ():
                ends = ((row.a_key, row.a), (row.b_key, row.b))
                (here, _), (there, name) = ends if direction == "out" else ends[::-1]
                if here in last and there not in reached:
                    found.setdefault(there, [name, depth, f"{NS}#{row.stamp.n}"])
        last = set()
        for there in sorted(found):
            if len(reached) <= asked.limit:
                reached[there] = found[there]
                last.add(there)
    return [each for each in reached.values() if each]


@pytest.mark.parametrize("seed", range(3))
async def test_walks_reach_the_same(store_url, seed):
    """In each direction, over each kind, as of then and now, cut at a limit or not."""
    async with opened(store_url) as store:
        rows = await linked(store, seed)
        last = (await store.memory.counter(SPACE)).last_n
        for start in ("thing 1", "ärger", "東京"):
            for direction in ("out", "in", "both"):
                for rel, as_of, limit in ((None, last, 500), ("owns", last, 500), (None, 15, 3)):
                    asked = Walk(SPACE, start, 3, direction, rel, None, limit)
                    found = await walk(store.memory, asked, as_of)
                    told = [[each["name"], each["distance"], each["link"]["id"]] for each in found]
                    assert told == plainly(rows, asked, as_of)


@pytest.mark.parametrize("seed", range(3))
async def test_ways_are_as_short_as_walks(store_url, seed):
    """A way has as many links as the walk is deep that reaches its end, and each follows."""
    async with opened(store_url) as store:
        rows = await linked(store, seed)
        last = (await store.memory.counter(SPACE)).last_n
        for start in ("thing 1", "ärger"):
            for direction in ("out", "in", "both"):
                for rel, as_of in ((None, last), ("owns", last), (None, 15)):
                    asked = Walk(SPACE, start, 4, direction, rel, None, 500)
                    far = {row[0].casefold(): row[1] for row in plainly(rows, asked, as_of)}
                    for to in (each for each in THINGS if each.casefold() != start):
                        found = await path(store.memory, asked, to, as_of)
                        assert len(found) == far.get(to.casefold(), 0)
                        follow(found, start, to, direction)


def follow(found: list[dict[str, Any]], start: str, to: str, direction: str) -> None:
    """Go the steps of a way, each over a link in the direction in which it may be gone."""
    here = start
    for distance, step in enumerate(found, 1):
        ends = [step["link"][end].casefold() for end in ("a", "b")]
        assert step["distance"] == distance
        assert ends[0 if direction == "out" else 1] == here or direction == "both"
        assert here in ends
        here = ends[1] if ends[0] == here else ends[0]
        assert step["name"].casefold() == here
    assert here == to.casefold() or not found


async def test_a_way_through_a_crowd(store_url):
    """A way is found beyond more things than a walk shows; where too many are, that is told."""
    pairs = [(end, f"{end}'s {i}") for end in ("Anna", "Bert") for i in range(600)]
    pairs += [("Anna's 599", "the last"), ("the last", "Bert's 598")]
    async with opened(store_url) as store:
        asks = [("link", {"a": a, "rel": "knows", "b": b, **CLAIM}) for a, b in pairs]
        await fill(store, store_url, SPACE, asks)
        asked = Walk(SPACE, "Anna", 4, "both", None, None, 20_000)
        found = await path(store.memory, asked, "bert", len(pairs))
        assert [step["name"] for step in found] == ["Anna's 599", "the last", "Bert's 598", "Bert"]
        few = replace(asked, limit=500)
        with pytest.raises(MemoryRefused, match=r"'Anna' to 'Bert'.* is not known: .*depth="):
            await path(store.memory, few, "Bert", len(pairs))
        assert await path(store.memory, few, "Carl", len(pairs)) == []
