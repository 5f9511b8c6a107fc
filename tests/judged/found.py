"""What recall finds of the judged set: the answers are notes of one namespace of a real store."""

from collections.abc import Sequence
from dataclasses import dataclass

from substrate.memory.embedder import Embedder
from substrate.memory.fusion import fused
from substrate.memory.nearest import fill
from substrate.memory.recall import Recall, find
from substrate.store.store import Store
from substrate.values.memory import Space
from tests.judged import Judged
from tests.judged.scores import DEPTH
from tests.memories import memory_write
from tests.stores import claimed

NS = "judged/answers"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for a question, the best first."""

    asked: Judged
    names: Sequence[str]


async def keep(store: Store, some: Sequence[Judged]) -> None:
    """Write the answers as notes."""
    claim = await claimed(store)
    for i, each in enumerate(some):
        note = {"name": each.name, "text": each.answer, "version": 0, "trust": "user"}
        await store.memory.write(memory_write(claim.fence, f"n.{i}", "write_note", ns=NS, **note))


async def found_by_words(store: Store, some: Sequence[Judged]) -> list[Found]:
    """Look for each question by full text."""
    space = Space("", NS)
    counter = await store.memory.counter(space)
    found = []
    for each in some:
        looked_for = Recall(space, each.question, DEPTH, ("note",), None)
        hits = await find(store.memory, looked_for, counter, counter.last_n)
        found.append(Found(each, [hit["text"].partition(":")[0] for hit in hits]))
    return found


async def found_by(
    store: Store, embedder: Embedder, some: Sequence[Judged], weight: float | None = None
) -> list[Found]:
    """Look for each question by words and vectors; with a weight of 1, by vectors alone."""
    space = Space("", NS)
    counter = await store.memory.counter(space)
    await fill(store.memory, space, embedder, counter.last_n)
    found = []
    for each in some:
        looked_for = Recall(space, each.question, DEPTH, ("note",), None)
        as_of = counter.last_n
        hits = await fused(store.memory, looked_for, embedder, counter, as_of, weight=weight)
        found.append(Found(each, [hit["text"].partition(":")[0] for hit in hits]))
    return found
