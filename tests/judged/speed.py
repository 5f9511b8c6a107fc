"""How long recall and walks take over 100,000 facts and links.

    .venv/bin/python -m tests.judged.speed sqlite:////tmp/many.db
    .venv/bin/python -m tests.judged.speed postgresql://…

An empty database is filled first, which takes a minute or two.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

import numpy as np

from substrate.memory.fusion import fused
from substrate.memory.recall import Recall, find
from substrate.memory.walk import Walk, walk
from substrate.store.connect import open_store
from substrate.store.store import Store
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.values.memory import Space
from tests.judged.many import facts, fill, links, word

COUNT = 100_000
FACTS, LINKS = Space("", "many/facts"), Space("", "many/links")
KINDS = ("note", "fact", "said")
QUESTIONS = {
    "two words of every second text": [0, 1],
    "three": [0, 1, 2],
    "one of those, and a rare one": [0, 5_000],
    "two rare ones": [5_000, 7_001],
    "eight, from the most frequent to a rare one": [0, 1, 3, 10, 50, 200, 700, 3_000],
}


class Chance:
    """An embedder that says nothing, in no time, with 384 numbers."""

    name = "chance"
    dimension = 384
    weight = 0.5

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        chance = np.random.default_rng(len(texts[0]))
        found: Sequence[Sequence[float]] = chance.normal(size=(len(texts), 384)).tolist()
        return found


async def prepare(store: Store, url: str) -> None:
    """Fill an empty database."""
    if (await store.memory.counter(FACTS)).last_n:
        return
    await fill(store, url, FACTS, facts(COUNT))
    await fill(store, url, LINKS, links(COUNT))
    chance = np.random.default_rng(0)
    for first in range(0, COUNT, 2_000):
        rows = chance.normal(size=(2_000, 384))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        some = [
            Vector(first + i + 1, 0, "facts", row.astype("<f2").tobytes())
            for i, row in enumerate(rows)
        ]
        known = KnownEmbedder(FACTS, Chance.name, Chance.dimension, first + 2_000)
        await store.memory.vectors.add(known, some)


async def taken(work: Callable[[], Awaitable[object]]) -> float:
    """Return how many ms it takes, the median of 9."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await work()
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


async def measure(url: str) -> None:
    """Print a line for each question, and one for the walk."""
    store = await open_store(url)
    try:
        await prepare(store, url)
        counter = await store.memory.counter(FACTS)
        for name, ranks in QUESTIONS.items():
            asked = Recall(FACTS, " ".join(map(word, ranks)), 8, KINDS, None)
            given = store.memory, asked
            text = await taken(lambda given=given: find(*given, counter, counter.last_n))
            both = await taken(lambda given=given: fused(*given, Chance(), counter, counter.last_n))
            print(f"| {name} | {text:.1f} | {both:.1f} |")
        last = (await store.memory.counter(LINKS)).last_n
        asked_walk = Walk(LINKS, "Thing 7", 3, "both", None, None, 500)
        walked = await taken(lambda: walk(store.memory, asked_walk, last))
        print(f"| a walk of depth 3, of 100,000 links | {walked:.1f} | |")
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1]))
