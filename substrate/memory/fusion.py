"""Recall by words and by vectors together: a text is worth something by each.

Of both the best fifty count. The scores of each are stretched, so that its best is 1 and its last
0, since a BM25 and a cosine say nothing about each other; what only one has found has 0 of the
other. Ranks alone would make the result worse than words alone, where the embedder is a weak one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from substrate.memory.disputes import without_overruled
from substrate.memory.embedder import Embedder
from substrate.memory.nearest import Near, nearest
from substrate.memory.recall import KINDS, MOST_WORDS, Found, Recall, by_words, hits
from substrate.memory.words import asked
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.memory import Counter, FactRow, Row

WEIGHT = 0.5
"""How much of a hit's worth is by vectors, where an embedder has no `weight` of its own.

Those of the kit's were chosen on one half of the judged set, and are told of on the other.
"""

BEST = 50
"""So many texts of each count."""

_LAST = 12_800  # vectors that are looked at, where most of the nearest count no more

Text = tuple[str, int]
"""A table and a doc."""


@dataclass(frozen=True, slots=True)
class _Near:
    """A text, and how near it is."""

    row: Row
    near: Near


async def fused(
    memory: Memories,
    recall: Recall,
    embedder: Embedder,
    counter: Counter,
    as_of: int,
    *,
    weight: float | None = None,
) -> list[Any]:
    """Return what is found by words and by vectors, as a journal keeps it, the best first."""
    weight = getattr(embedder, "weight", WEIGHT) if weight is None else weight
    if not recall.question.strip() or not counter.last_n:
        return []
    terms = asked(recall.question, MOST_WORDS)
    wide = replace(recall, k=max(BEST, recall.k))
    by_word = await by_words(memory, wide, terms, counter, as_of)
    by_vector = await _by_vectors(memory, wide, embedder, counter, as_of)
    rows: dict[Text, Row] = {text: found.row for text, found in by_vector.items()}
    rows |= {(score.table, score.doc): some[0] for score, some in by_word}
    told = _stretched({(score.table, score.doc): score.score for score, _ in by_word})
    alike = _stretched({text: found.near.likeness for text, found in by_vector.items()})
    worth = {
        text: round((1 - weight) * told.get(text, 0.0) + weight * alike.get(text, 0.0), 6)
        for text in rows
    }
    order = sorted(rows, key=lambda text: (-worth[text], -text[1]))
    best = []
    for text in order[: recall.k]:
        near = by_vector[text].near if text in by_vector else None
        likeness, start = (near.likeness, near.start) if near else (None, 0)
        best.append(Found(rows[text], worth[text], likeness, start))
    return await hits(memory, recall.space, as_of, best, terms)


async def _by_vectors(
    memory: Memories, recall: Recall, embedder: Embedder, counter: Counter, as_of: int
) -> Mapping[Text, _Near]:
    """Return the nearest texts that stand and are true, the nearest first."""
    look = await nearest(memory, recall.space, embedder, recall.question, counter.last_n)
    limit = 2 * recall.k
    while True:
        near = await look(limit)
        rows = await _rows(memory, recall, near, counter, as_of)
        found: dict[Text, _Near] = {}
        for each in near:
            row = rows.get((each.table, each.n))
            if row is not None and len(found) < recall.k:
                found.setdefault((each.table, row.stamp.doc), _Near(row, each))
        # What is near may count no more; then the next ones do.
        if len(found) >= recall.k or len(near) < limit or limit >= _LAST:
            return found
        limit *= 4


async def _rows(
    memory: Memories, recall: Recall, near: Sequence[Near], counter: Counter, as_of: int
) -> Mapping[tuple[str, int], Row]:
    found: dict[tuple[str, int], Row] = {}
    for table in {KINDS[kind] for kind in recall.kinds}:
        numbers = [each.n for each in near if each.table == table]
        at = recall.at if table == "facts" else None
        asked_for = {"n": numbers}
        look = Look(recall.space, table, {}, asked_for, as_of=as_of, at=at, limit=len(numbers) or 1)
        rows = await memory.rows(look)
        if table == FactRow.table:
            facts = [row for row in rows if isinstance(row, FactRow)]
            rows = await without_overruled(memory, look, facts, counter)
        found |= {(table, row.stamp.n): row for row in rows}
    return found


def _stretched(scores: Mapping[Text, float]) -> Mapping[Text, float]:
    """Return scores from 0, the least, to 1, the most."""
    least, most = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if most == least:
        return dict.fromkeys(scores, 1.0)
    return {text: (score - least) / (most - least) for text, score in scores.items()}
