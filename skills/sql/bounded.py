"""A SELECT around a SELECT: the server cuts what it would send.

A client has to take a value whole, and one may be a gigabyte. So the statement is wrapped: each of
its columns becomes the text that the server would have sent, or its beginning, and its length where
it was cut. All cells of a row are one array of text, so that no number of columns is too many.

Invariants: a value is computed once, which the two OFFSET 0 see to; names of ours are looked up in
``pg_catalog``, whatever the search path; there is no ``%`` in what is added, which psycopg reads.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from skills.sql.answer import MAX_CELL

MAX_BYTES = 4 * MAX_CELL
"""Bytes of a text that is sent whole: what `MAX_CELL` characters may take in UTF-8."""

_BYTEA = 17  # the type's number, the same on every server

# What ends a statement, and what an end of it may stand in. Possessive, so that it takes one pass.
_TOKEN = re.compile(
    r"""
    (?P<blank> (?: [\s;]++ | --[^\r\n]*+ )++ )
    | (?P<comment> /\* )
    | [eE]' (?: [^'\\] | \\. | '' )*+ '
    | ' (?: [^'] | '' )*+ '
    | " (?: [^"] | "" )*+ "
    | \$(?P<tag> [^\W\d]\w*+ | )\$ (?> .*? \$(?P=tag)\$ )
    | \w [\w$]*+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def bounded(sql: str, types: Sequence[int]) -> str:
    """Return the statement that gives each row as one array of text: see `totals`.

    `sql` is one SELECT that the server has accepted, `types` are the numbers of its columns' types.
    """
    places = range(1, len(types) + 1)
    columns = [
        f"pg_catalog.substring(c{i}, 1, {MAX_CELL})" if types[i - 1] == _BYTEA else f"c{i}"
        for i in places
    ]
    texts = ", ".join(
        # IS NULL would say so of a row of nulls too.
        f"CASE WHEN c{i} IS NOT DISTINCT FROM NULL THEN NULL"
        f" ELSE pg_catalog.concat({column}) END AS t{i}, "
        + (f"pg_catalog.octet_length(c{i})" if types[i - 1] == _BYTEA else "0")
        + f" AS n{i}"
        for i, column in zip(places, columns, strict=True)
    )
    cells = ", ".join(_cell(i, is_bytes=types[i - 1] == _BYTEA) for i in places)
    names = ", ".join(f"c{i}" for i in places)
    rows = f"(SELECT * FROM (\n{_without_end(sql)}\n) AS asked OFFSET 0) AS rows"
    if not types:
        return f"SELECT ARRAY[]::pg_catalog.text[] FROM {rows}"
    return (
        f"SELECT ARRAY[{cells}]::pg_catalog.text[]"
        f" FROM (SELECT {texts} FROM {rows} ({names}) OFFSET 0) AS texts"
    )


def totals(cells: Iterable[str | None]) -> Iterator[tuple[str | None, int | None]]:
    """Yield each column's text, and of one that was cut how many characters or bytes there are."""
    each = iter(cells)
    for text in each:
        total = next(each)
        yield text, None if total is None else int(total)


def _cell(i: int, *, is_bytes: bool) -> str:
    if is_bytes:
        is_long, total = f"n{i} OPERATOR(pg_catalog.>) {MAX_CELL}", f"n{i}"
        shown = f"t{i}"
    else:
        is_long = f"pg_catalog.octet_length(t{i}) OPERATOR(pg_catalog.>) {MAX_BYTES}"
        total = f"pg_catalog.length(t{i})"
        shown = f"CASE WHEN {is_long} THEN pg_catalog.left(t{i}, {MAX_CELL}) ELSE t{i} END"
    return f"{shown}, CASE WHEN {is_long} THEN {total}::pg_catalog.text END"


def _without_end(sql: str) -> str:
    """Return the statement without the semicolons, blanks and comments after it."""
    at = end = 0
    while token := _TOKEN.match(sql, at):
        at = token.end()
        if token["comment"]:
            at = _comment_end(sql, at)
        elif not token["blank"]:
            end = at
    return sql[:end]


def _comment_end(sql: str, at: int) -> int:
    """Return where a comment ends whose beginning ends at a place; they may be nested."""
    depth = 1
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)
