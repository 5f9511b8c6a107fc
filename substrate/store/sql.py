"""Pieces of SQL that statements of both dialects have in common, and what such pieces are given."""

from collections.abc import Iterable, Iterator, Sequence

import orjson

from substrate.values.ids import part_of


def id_list(ids: Iterable[str]) -> str:
    """Return ids as the JSON that a statement of SQLite reads as a list."""
    return orjson.dumps(list(ids)).decode()


LAST_NUMBER, LAST_COUNT = 9_007_199_254_740_991, 2_000_000_000
"""The last change number, and the last claim, generation and wake version, that a row takes."""

_NEARLY = LAST_NUMBER - 1000  # so near to the end there is no number left for what is written

IS_SPENT = f"(last_seq >= {_NEARLY} OR epoch >= {LAST_COUNT} OR generation >= {LAST_COUNT})"
HAS_NUMBERS = f"last_seq < {_NEARLY}"
"""Conditions on a row of `runs`: it has no next number, say since one was edited by hand; it has.

A run that takes no number is paused where something is refused for that, and holds up no other: see
`spent` of both dialects.
"""

NEXT_WAKE = f"CASE WHEN wake_version < {LAST_COUNT} THEN wake_version + 1 ELSE 0 END"
"""The next wake version. It is only compared for being the same, so after the last comes the first.
"""

NOT_MOVED = """
   AND (promises.run_id = excluded.run_id
        OR excluded.kind IN ('run', 'child')
           AND (excluded.state <> 'pending' OR excluded.error IS NOT NULL))
"""
"""Why a pending row is written over: it is of the journal that it is written to.

One that was moved to another run by hand would stay there, and its run would write it at each
replay. The outcome of a run is written wherever it stands, and so is why a run is paused.
"""

AMONG_THESE = """id IN (SELECT value FROM json_each(:ids))
                    AND part IN (SELECT value FROM json_each(:parts))"""
"""A condition of SQLite, with `these` as its parameters."""


def these(ids: Iterable[str]) -> dict[str, str]:
    """Return what `AMONG_THESE` is given."""
    return {"ids": id_list(ids), "parts": orjson.dumps(parts_of(ids)).decode()}


def parts_of(ids: Iterable[str]) -> list[int]:
    """Return in which parts these ids lie."""
    return sorted({part_of(each) for each in ids})


def range_of(prefix: str) -> tuple[str, str]:
    """Return the first id that begins so, and the first behind all that do."""
    # Ids are compared by code point in both dialects (BINARY, COLLATE "C"), as Python does.
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def ranges_of(prefix: str, skipping: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the ranges of the ids that begin so, without those that go on with one of these."""
    first, end = range_of(prefix)
    for each in sorted(skipping):
        skipped, after = range_of(prefix + each)
        yield first, skipped
        first = after
    yield first, end
