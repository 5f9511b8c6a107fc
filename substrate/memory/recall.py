"""Recall: the texts of a namespace that a question is about, by full text.

The words of the question are joined by "or", and rank by BM25: a word that stands in few texts
tells much. There is no language of queries, so nothing in a question can break one or change what
is looked for. Of what is found only that counts which stood at the number, and was true at the
moment. Texts that are worth the same come newest first, so the same rows give the same order.
"""

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from substrate.memory.disputes import without_overruled
from substrate.memory.ranking import best
from substrate.memory.told import told
from substrate.memory.words import asked, beginning, place_of
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


@dataclass(frozen=True, slots=True)
class Recall:
    """What is looked for."""

    space: Space
    question: str
    k: int
    kinds: Sequence[str]
    #: When it has to be true, in ms; None: whenever.
    at: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """A text that was found, by its first row."""

    row: Row
    #: What it is worth.
    score: float
    #: How near its nearest stretch is to the question.
    likeness: float | None = None
    #: Where that begins; it is shown where none of the words is in the text.
    start: int = 0


async def find(memory: Memories, recall: Recall, counter: Counter, as_of: int) -> list[Any]:
    """Return what is found, as a journal keeps it, the best first."""
    terms = asked(recall.question, MOST_WORDS)
    found = await by_words(memory, recall, terms, counter, as_of)
    best_of_all = [Found(rows[0], score.score) for score, rows in found]
    return await hits(memory, recall.space, as_of, best_of_all, terms)


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
        # What was said has one row, by its own number; that is in the order of an index.
        among = {"n" if table == SaidRow.table else "doc": docs}
        look = Look(recall.space, table, {}, among, as_of=as_of, at=at, limit=limit)
        rows = await memory.rows(look)
        if table == FactRow.table:
            facts = [row for row in rows if isinstance(row, FactRow)]
            rows = await without_overruled(memory, look, facts, counter)
        for row in rows:
            found.setdefault((table, row.stamp.doc), []).append(row)
    return found


async def hits(
    memory: Memories, space: Space, as_of: int, found: Sequence[Found], terms: Sequence[str]
) -> list[Any]:
    """Return what was found, as a journal keeps it, with why.

    By which words, the index tells; a text is only looked through for where the first of them is.
    """
    there: dict[int, set[str]] = {}
    if terms and found:
        docs = [each.row.stamp.doc for each in found]
        query = Query(space, [], as_of)
        for stood in await memory.stood(query, dict.fromkeys(terms, docs)):
            there.setdefault(stood.doc, set()).add(stood.term)

    def told() -> list[Any]:
        return [_hit(each, terms, there.get(each.row.stamp.doc, ())) for each in found]

    # In a thread: a hundred long texts take longer than others may have to wait for.
    return await asyncio.to_thread(told)


def _hit(found: Found, terms: Sequence[str], there: Container[str]) -> dict[str, Any]:
    row, words = found.row, [term for term in terms if term in there]
    return {
        "id": memory_id(row.stamp.space, row.stamp.n),
        "kind": {table: kind for kind, table in KINDS.items()}[row.table],
        "text": shown(row, words, found.start),
        "score": found.score,
        "words": words,
        "likeness": found.likeness,
        "recorded_at": row.stamp.recorded_at,
        "source": row.stamp.source,
        "trust": row.stamp.trust.value,
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
    first = place_of(text, terms, [beginning(term) for term in terms]) if terms else None
    start = start if first is None else max(0, first - _EXCERPT // 3)
    cut = text[start : start + _EXCERPT]
    return f"{'…' if start else ''}{cut}{'…' if start + _EXCERPT < len(text) else ''}"
