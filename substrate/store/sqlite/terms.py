"""The index for full text in SQLite: which word stands in which text, and in how many.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import orjson

from substrate.store.ledger import Ledger
from substrate.store.memory_rows import (
    TERM_TYPES,
    count_parameters,
    posting_parameters,
    space_of,
)
from substrate.store.term_rows import Query, Score, Stood, in_space
from substrate.values.memory import Space, TermCount

_IN_SPACE = in_space(":name")

_END_TERM = f"""
UPDATE terms
   SET gone_n = :gone_n
 WHERE {_IN_SPACE} AND term = :term AND doc = :doc AND gone_n IS NULL
"""

_INSERT_TERM = f"""
INSERT INTO terms ({", ".join(TERM_TYPES)})
VALUES ({", ".join(f":{name}" for name in TERM_TYPES)})
"""

_COUNT_MORE = """
INSERT INTO term_counts (tenant, ns, branch, term, part, docs, bands)
VALUES (:tenant, :ns, :branch, :term, :part, :docs, :bands)
    ON CONFLICT (tenant, ns, branch, term, part) DO UPDATE
   SET docs = docs + excluded.docs, bands = bands | excluded.bands
"""

_COUNT_FEWER = f"""
UPDATE term_counts
   SET docs = max(docs + :docs, 0), bands = bands | :bands
 WHERE {_IN_SPACE} AND term = :term
"""


def write_terms(db: apsw.Connection, ledger: Ledger) -> None:
    """Write the words that have come and gone."""
    db.executemany(_END_TERM, [posting_parameters(each) for each in ledger.ended])
    db.executemany(_INSERT_TERM, [posting_parameters(each) for each in ledger.posted])
    for each in ledger.counted:
        # An insert of fewer than none would be refused before it is found that there is a row.
        db.execute(_COUNT_FEWER if each.docs < 0 else _COUNT_MORE, count_parameters(each))


_SELECT_COUNT = f"""
SELECT docs, bands
  FROM term_counts
 WHERE {_IN_SPACE} AND term = :term
"""


def read_term_counts(
    db: apsw.Connection, space: Space, terms: Sequence[str]
) -> Sequence[TermCount]:
    """Return in how many texts each word stands, of those that ever stood in one."""
    given = space_of(space)
    return [
        TermCount(space, term, *row)
        for term in terms
        for row in db.execute(_SELECT_COUNT, given | {"term": term})
    ]


_KNOWN = "n <= :as_of AND (gone_n IS NULL OR gone_n > :as_of)"
_OF_KINDS = "source_table IN (SELECT value FROM json_each(:tables))"

# In the order of the index: where a word tells most, and the newest of those first.
_SELECT_BEST = f"""
SELECT term, doc, tf, words, source_table
  FROM terms
 WHERE {_IN_SPACE} AND term = :term AND band = :band AND {_KNOWN} AND {_OF_KINDS}
 ORDER BY words, doc DESC
 LIMIT :limit
"""


def read_best(
    db: apsw.Connection, query: Query, streams: Sequence[tuple[str, int]], limit: int
) -> Sequence[Sequence[Stood]]:
    """Return of each word and band the texts in which it tells most, the best first."""
    given = _given(query) | {"limit": limit}
    return [
        [Stood(*row) for row in db.execute(_SELECT_BEST, given | {"term": term, "band": band})]
        for term, band in streams
    ]


_SELECT_STOOD = f"""
SELECT term, doc, tf, words, source_table
  FROM terms
 WHERE {_IN_SPACE} AND term = :term AND doc IN (SELECT value FROM json_each(:docs)) AND {_KNOWN}
"""


def read_stood(
    db: apsw.Connection, query: Query, wanted: Mapping[str, Sequence[int]]
) -> Sequence[Stood]:
    """Return in which of the texts each word stands that may stand there."""
    given = _given(query)
    return [
        Stood(*row)
        for term, docs in wanted.items()
        for row in db.execute(
            _SELECT_STOOD, given | {"term": term, "docs": orjson.dumps(list(docs)).decode()}
        )
    ]


# BM25 with k1 = 1.2 and b = 0.75. Rounded, so that the order does not hang on that of the sums.
_RANK = f"""
SELECT source_table, doc,
       round(sum(given.value * (2.2
                 / (1.0 + 1.2 * (0.25 + 0.75 * (words / :average)) / tf))), 9) AS score
  FROM json_each(:weights) AS given
 CROSS JOIN terms
 WHERE {_IN_SPACE} AND term = given.key AND {_KNOWN} AND {_OF_KINDS}
 GROUP BY doc, source_table
 ORDER BY score DESC, doc DESC
 LIMIT :limit
"""


def rank(
    db: apsw.Connection, query: Query, weights: Mapping[str, float], average: float, limit: int
) -> Sequence[Score]:
    """Return the texts in which most is told, the best first, having looked through them all."""
    given = _given(query) | {"average": average, "limit": limit}
    given["weights"] = orjson.dumps(weights).decode()
    return [Score(table, doc, round(score, 6)) for table, doc, score in db.execute(_RANK, given)]


def _given(query: Query) -> dict[str, Any]:
    tables = orjson.dumps(list(query.tables)).decode()
    return space_of(query.space) | {"as_of": query.as_of, "tables": tables}
