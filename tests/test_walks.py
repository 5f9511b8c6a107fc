"""A walk reaches what a plain search over all links reaches, by the same links."""

import random
from typing import Any

import pytest

from substrate.memory.walk import Walk, walk
from substrate.store.memory_rows import Look
from substrate.store.store import Store
from substrate.values.memory import LinkRow, Space
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
