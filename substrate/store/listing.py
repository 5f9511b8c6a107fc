"""What a list of runs asks of a database, and what it tells of each: the same for every dialect."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from substrate.store.broken import Stuck
from substrate.store.rows import Row, run
from substrate.store.sql import range_of
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import (
    JsonText,
    Promise,
    Run,
    RunFilter,
    RunStatus,
    Sketch,
)

ASKING = "'signal', 'gate'"
"""The kinds of promises that somebody outside is to answer, as a list in SQL."""

MOST_ASKED = 20
"""How many questions of one tree a list reads."""

MOST_OPEN = 100
"""How many open promises of one run a list reads."""


def conditions_of(status: RunStatus | None, also: RunFilter) -> list[str]:
    """Return which conditions of a list hold, of those that both dialects have under these names.

    What nobody asked for is left out of the statement, so that the index of what was asked is used.
    """
    asked = {
        "status": status is not None,
        "roots": status is None and not also.names_children,
        "function": also.function is not None,
        "since": also.since is not None,
        "until": also.until is not None,
        "prefix": also.prefix != "",
        "asking": also.is_asking,
    }
    return [name for name, is_asked in asked.items() if is_asked]


def wanted_of(status: RunStatus | None, limit: int, also: RunFilter) -> dict[str, Any]:
    """Return what the conditions of a list are given."""
    first, end = range_of(also.prefix) if also.prefix else ("", "")
    return {
        "status": None if status is None else str(status),  # a member, or its word
        "limit": limit,
        "function": also.function,
        "since": also.since,
        "until": also.until,
        "first": first,
        "end": end,
    }


def sketched(
    ids: Iterable[RunId],
    own: Iterable[Row],
    counts: Iterable[Row],
    open_: Mapping[RunId, tuple[Promise, ...]],
    used: Iterable[Row],
) -> dict[RunId, Sketch]:
    """Put together what was read of runs: their own rows, counts, what is open, what was used."""
    texts = {row[0]: (row[1], row[2]) for row in own}
    numbers = {row[0]: (row[1], row[2]) for row in counts}
    usages: dict[str, list[tuple[PromiseId, JsonText]]] = {}
    for id_, promise_, usage in used:
        usages.setdefault(id_, []).append((PromiseId(promise_), JsonText(usage)))
    return {
        id_: Sketch(
            *texts.get(id_, (None, None)),
            *numbers.get(id_, (0, 0)),
            open_.get(id_, ()),
            tuple(usages.get(id_, ())),
        )
        for id_ in ids
    }


def listed(found: Iterable[Row], stuck: Stuck) -> Sequence[Run]:
    """Return the runs of rows that can be read; note the others."""
    readable = []
    for row in found:
        try:
            readable.append(run(row))
        except ValueError as error:
            stuck.note(row[0], error)
    return readable
