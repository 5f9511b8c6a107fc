"""Recall: the texts of a namespace that a question is about, by full text.

The words of the question are joined by "or", and rank by BM25: a word that stands in few texts
tells much. There is no language of queries, so nothing in a question can break one or change what
is looked for. Of what is found only that counts which stood at the number, and was true at the
moment. Texts that are worth the same come newest first, so the same rows give the same order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from substrate.memory.disputes import without_overruled
from substrate.memory.ranking import best
from substrate.memory.text_index import text_of
from substrate.memory.told import told
from substrate.memory.words import asked, counted
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.store.term_rows import Query, Score
from substrate.values.codec import decode, encode
from substrate.values.memory import (
    Counter,
    FactRow,
    LinkRow,
    NoteRow,
    Row,
    SaidRow,
    Space,
    memory_id,
)

KINDS: Mapping[str, str] = {"note": "notes", "fact": "facts", "said": "history"}
"""What can be found, and the table of each."""

MOST_WORDS = 32
"""Words of a question that are looked for: the first ones, each once."""

_EXCERPT = 600  # characters of a long text that a hit has
_LAST_LIMIT = 20_000  # texts that are ranked at most
_SPARE = 4  # texts more than are asked for, since some may be true no more
_PLACE = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Recall:
    """What is looked for."""

    space: Space
    question: str
    k: int
    kinds: Sequence[str]
    #: When it has to be true, in ms; None: whenever.
    at: int | None


async def find(memory: Memories, recall: Recall, counter: Counter, as_of: int) -> list[Any]:
    """Return what is found, as a journal keeps it, the best first."""
    terms = asked(recall.question, MOST_WORDS)
    found = await by_words(memory, recall, terms, counter, as_of)
    return [hit(rows[0], terms, score.score) for score, rows in found]


async def by_words(
    memory: Memories, recall: Recall, terms: Sequence[str], counter: Counter, as_of: int
) -> Sequence[tuple[Score, Sequence[Row]]]:
    """Return the best texts with these words, each with its rows that stand and are true."""
    if not terms:
        return []
    tables = [KINDS[kind] for kind in recall.kinds]
    query, limit = Query(recall.space, tables, as_of), recall.k + _SPARE
    while True:
        scores = await best(memory, query, terms, counter, limit)
        rows = await _rows(memory, recall, scores, counter, as_of)
        found = [
            (score, rows[score.table, score.doc])
            for score in scores
            if (score.table, score.doc) in rows
        ]
        # What was ranked may be true no more; then the next ones count.
        if len(found) >= recall.k or len(scores) < limit or limit >= _LAST_LIMIT:
            return found[: recall.k]
        limit *= 4


async def _rows(
    memory: Memories, recall: Recall, scores: Sequence[Score], counter: Counter, as_of: int
) -> Mapping[tuple[str, int], list[Row]]:
    """Return the rows of the texts that stand and are true, by table and doc."""
    found: dict[tuple[str, int], list[Row]] = {}
    for table in {score.table for score in scores}:
        docs = [score.doc for score in scores if score.table == table]
        at = recall.at if table == FactRow.table else None
        limit = 20 * len(docs)
        look = Look(recall.space, table, {}, {"doc": docs}, as_of=as_of, at=at, limit=limit)
        rows = await memory.rows(look)
        if table == FactRow.table:
            facts = [row for row in rows if isinstance(row, FactRow)]
            rows = await without_overruled(memory, look, facts, counter)
        for row in rows:
            found.setdefault((table, row.stamp.doc), []).append(row)
    return found


def hit(
    first: Row, terms: Sequence[str], score: float, likeness: float | None = None, start: int = 0
) -> dict[str, Any]:
    """Return what was found, as a journal keeps it, with why.

    Args:
        first: Its first row.
        terms: The words that were looked for.
        score: What it is worth.
        likeness: How near its nearest stretch is to the question.
        start: Where that begins; it is shown where none of the words is in the text.
    """
    there = counted(text_of(first)) if isinstance(first, NoteRow | FactRow | SaidRow) else {}
    found = [term for term in terms if term in there]
    return {
        "id": memory_id(first.stamp.space, first.stamp.n),
        "kind": {table: kind for kind, table in KINDS.items()}[first.table],
        "text": shown(first, found, start),
        "score": score,
        "words": found,
        "likeness": likeness,
        "recorded_at": first.stamp.recorded_at,
        "source": first.stamp.source,
        "trust": first.stamp.trust.value,
    }


def shown(row: Row, terms: Sequence[str] = (), start: int = 0) -> str:
    """Return what a row says, in a line or an excerpt around the words asked for."""
    match row:
        case FactRow():
            value = decode(row.object)
            said = value if isinstance(value, str) else encode(value)
            return f"{row.subject} {row.predicate}: {_around(said, terms, 0)}"
        case NoteRow():
            return f"{row.name}: {_around(row.body or '', terms, start)}"
        case SaidRow():
            return f"{row.speaker}: {_around(row.body, terms, start)}"
        case LinkRow():
            return f"{row.a} {row.rel} {row.b}"
    return told(row)


def _around(text: str, terms: Sequence[str], start: int) -> str:
    if len(text) <= _EXCERPT:
        return text
    places = (
        found for found in _PLACE.finditer(text) if not counted(found[0]).keys().isdisjoint(terms)
    )
    first = next(places, None)
    start = max(0, first.start() - _EXCERPT // 3) if first else start
    cut = text[start : start + _EXCERPT]
    return f"{'…' if start else ''}{cut}{'…' if start + _EXCERPT < len(text) else ''}"
