"""The index for full text in Postgres: which word stands in which text, and in how many.

Each function runs inside one transaction that its caller opened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from substrate.store.ledger import Ledger
from substrate.store.memory_rows import (
    SPACE_COLUMNS,
    TERM_TYPES,
    count_parameters,
    posting_parameters,
    space_of,
)
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.tenant import in_index_order, of_tenant
from substrate.store.term_rows import Query, Score, Stood, in_space
from substrate.values.memory import Space, TermCount

_SPACE = "tenant text, ns text, branch text, part integer"
_SAME_SPACE = " AND ".join(f"known.{name} = given.{name}" for name in SPACE_COLUMNS)
_IN_SPACE = in_space("%(name)s")

_END_TERMS = f"""
UPDATE terms AS known
   SET gone_n = given.gone_n
  FROM json_to_recordset(%(given)s::json) AS given ({_SPACE}, term text, doc bigint, gone_n bigint)
 WHERE {_SAME_SPACE} AND known.term = given.term AND known.doc = given.doc AND known.gone_n IS NULL
"""

_INSERT_TERMS = f"""
INSERT INTO terms ({", ".join(TERM_TYPES)})
SELECT {", ".join(TERM_TYPES)}
  FROM json_to_recordset(%(given)s::json) AS given (
       {", ".join(f"{name} {type_}" for name, type_ in TERM_TYPES.items())})
"""

_COUNT_MORE = f"""
INSERT INTO term_counts AS known (tenant, ns, branch, term, part, docs, bands)
SELECT tenant, ns, branch, term, part, docs, bands
  FROM json_to_recordset(%(given)s::json) AS given (
       {_SPACE}, term text, docs bigint, bands integer)
    ON CONFLICT (tenant, ns, branch, term, part) DO UPDATE
   SET docs = known.docs + excluded.docs, bands = known.bands | excluded.bands
"""

_COUNT_FEWER = f"""
UPDATE term_counts AS known
   SET docs = greatest(known.docs + given.docs, 0::bigint), bands = known.bands | given.bands
  FROM json_to_recordset(%(given)s::json) AS given (
       {_SPACE}, term text, docs bigint, bands integer)
 WHERE {_SAME_SPACE} AND known.term = given.term
"""


async def write_terms(db: Cursor, ledger: Ledger) -> None:
    """Write the words that have come and gone."""
    counted = [count_parameters(each) for each in ledger.counted]
    for statement, given in (
        (_END_TERMS, [posting_parameters(each) for each in ledger.ended]),
        (_INSERT_TERMS, [posting_parameters(each) for each in ledger.posted]),
        # An insert of fewer than none would be refused before it is found that there is a row.
        (_COUNT_MORE, [each for each in counted if each["docs"] >= 0]),
        (_COUNT_FEWER, [each for each in counted if each["docs"] < 0]),
    ):
        if given:
            await db.execute(statement, {"given": orjson.dumps(given).decode()})


_SELECT_COUNTS = f"""
SELECT term, docs, bands
  FROM pg_catalog.unnest(%(terms)s::text[]) AS given (asked)
 CROSS JOIN LATERAL (
    SELECT term, docs, bands
      FROM term_counts
     WHERE {_IN_SPACE} AND term = asked
    OFFSET 0) AS found
"""


async def read_term_counts(db: Cursor, space: Space, terms: Sequence[str]) -> Sequence[TermCount]:
    """Return in how many texts each word stands, of those that ever stood in one."""
    asked = space_of(space) | {"terms": list(terms)}
    async with of_tenant(db, space.tenant):
        found = await (await db.execute(_SELECT_COUNTS, asked)).fetchall()
    return [TermCount(space, *row) for row in found]


_KNOWN = "n <= %(as_of)s AND (gone_n IS NULL OR gone_n > %(as_of)s)"
_OF_KINDS = "source_table = ANY (%(tables)s::text[])"

# In the order of the index: where a word tells most, and the newest of those first.
_SELECT_BEST = f"""
SELECT place, found.*
  FROM json_to_recordset(%(streams)s::json) AS given (place integer, asked text, of_band integer)
 CROSS JOIN LATERAL (
    SELECT term, doc, tf, words, source_table
      FROM terms
     WHERE {_IN_SPACE} AND term = asked AND band = of_band AND {_KNOWN} AND {_OF_KINDS}
     ORDER BY words, doc DESC
     LIMIT %(limit)s) AS found
"""


async def read_best(
    db: Cursor, query: Query, streams: Sequence[tuple[str, int]], limit: int
) -> Sequence[Sequence[Stood]]:
    """Return of each word and band the texts in which it tells most, the best first."""
    asked = [
        {"place": place, "asked": term, "of_band": band}
        for place, (term, band) in enumerate(streams)
    ]
    given = _given(query) | {"streams": orjson.dumps(asked).decode(), "limit": limit}
    best: list[list[Stood]] = [[] for _ in streams]
    async with of_tenant(db, query.space.tenant):
        found = await (await db.execute(_SELECT_BEST, given)).fetchall()
    for place, *row in found:
        best[place].append(Stood(*row))
    return best


# Text by text, in the order of the index that has the text next to the word.
_SELECT_STOOD = f"""
SELECT found.*
  FROM json_to_recordset(%(wanted)s::json) AS given (asked text, of_doc bigint)
 CROSS JOIN LATERAL (
    SELECT term, doc, tf, words, source_table
      FROM terms
     WHERE {_IN_SPACE} AND term = asked AND doc = of_doc AND {_KNOWN}
     ORDER BY n
    OFFSET 0) AS found
"""


async def read_stood(
    db: Cursor, query: Query, wanted: Mapping[str, Sequence[int]]
) -> Sequence[Stood]:
    """Return in which of the texts each word stands that may stand there."""
    asked = [{"asked": term, "of_doc": doc} for term, docs in wanted.items() for doc in docs]
    given = _given(query) | {"wanted": orjson.dumps(asked).decode()}
    async with in_index_order(db, query.space.tenant):
        found = await (await db.execute(_SELECT_STOOD, given)).fetchall()
    return [Stood(*row) for row in found]


# BM25 with k1 = 1.2 and b = 0.75. Rounded, so that the order does not hang on that of the sums.
_RANK = f"""
SELECT source_table, doc,
       round(sum(given.weight * (2.2::double precision
                 / (1::double precision
                    + 1.2::double precision
                    * (0.25::double precision + 0.75::double precision
                       * (words::double precision / %(average)s::double precision))
                    / tf::double precision)))::numeric, 9
       ) AS score
  FROM json_to_recordset(%(weights)s::json) AS given (asked text, weight double precision)
 CROSS JOIN LATERAL (
    SELECT source_table, doc, tf, words
      FROM terms
     WHERE {_IN_SPACE} AND term = asked AND {_KNOWN} AND {_OF_KINDS}
    OFFSET 0) AS found
 GROUP BY doc, source_table
 ORDER BY score DESC, doc DESC
 LIMIT %(limit)s
"""


async def rank(
    db: Cursor, query: Query, weights: Mapping[str, float], average: float, limit: int
) -> Sequence[Score]:
    """Return the texts in which most is told, the best first, having looked through them all."""
    told = [{"asked": term, "weight": weight} for term, weight in weights.items()]
    given = _given(query) | {"weights": orjson.dumps(told).decode(), "average": average}
    async with of_tenant(db, query.space.tenant):
        found = await (await db.execute(_RANK, given | {"limit": limit})).fetchall()
    return [Score(table, doc, round(float(score), 6)) for table, doc, score in found]


def _given(query: Query) -> dict[str, Any]:
    return space_of(query.space) | {"as_of": query.as_of, "tables": list(query.tables)}
