"""What is in a database, as a model needs to know it before it writes SQL.

The same few lines serve two purposes: they answer `describe_schema`, and they are what an error
about an unknown table or column is completed with, so that the next attempt can be right.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from skills.sql.answer import MAX_ANSWER, Json, QueryFailed, cut, encode

MAX_HINT = 50
"""How many tables an error message lists."""

MAX_OMITTED = 500
"""How many tables that did not fit are named."""

MAX_NAME = 100
"""Characters of such a name; a longer one is cut."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `type` is as the database declares it, NOT NULL included."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view, named as SQL must name it.

    `keys` are its primary and foreign keys in SQL; `rows` says how many rows there are, as
    exactly as could be found out cheaply: ``42``, ``about 1200``, ``more than 10000``, or None.
    """

    name: str
    kind: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()
    rows: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the table as the model reads it, one line a column."""
        described: dict[str, Json] = {
            "name": self.name,
            "kind": self.kind,
            "columns": [f"{column.name} {column.type}".rstrip() for column in self.columns],
        }
        if self.keys:
            described["keys"] = list(self.keys)
        return described | {"rows": self.rows} if self.rows else described


def describe(tables: Sequence[Table], wanted: Sequence[str] | None) -> dict[str, Json]:
    """Return the wanted tables, all by default, as far as an answer holds them.

    What does not fit is named in ``omitted``. Raises `QueryFailed` for a table that is not there.
    """
    chosen = tables if wanted is None else [_find(name, tables) for name in wanted]
    shown: list[Json] = []
    size = 0
    for table in chosen:
        described = table.to_json()
        size += len(encode(described))
        if size > MAX_ANSWER:
            break
        shown.append(described)
    omitted = [cut(table.name, MAX_NAME) for table in chosen[len(shown) :]]
    answer: dict[str, Json] = {"tables": shown, "truncated": bool(omitted)}
    return answer | {"omitted": omitted[:MAX_OMITTED]} if omitted else answer


def table_hint(tables: Sequence[Table]) -> str:
    """Return the names of the tables, for an error about a table that is not there."""
    if not tables:
        return "the database has no tables that this connection may read"
    more = f" and {len(tables) - MAX_HINT} more" if len(tables) > MAX_HINT else ""
    return "the tables are: " + ", ".join(table.name for table in tables[:MAX_HINT]) + more


def column_hint(sql: str, tables: Sequence[Table]) -> str:
    """Return the columns of the tables that the SQL names, for an error about a column."""
    named = [table for table in tables if _mentions(sql, table.name)]
    lists = [
        f"{table.name} ({', '.join(column.name for column in table.columns)})"
        for table in named[:MAX_HINT]
    ]
    return "the columns are: " + "; ".join(lists) if lists else table_hint(tables)


def _find(name: str, tables: Sequence[Table]) -> Table:
    for table in tables:
        if table.name.strip('"').lower() == name.strip('"').lower():
            return table
    raise QueryFailed(f"there is no table {name!r}; {table_hint(tables)}")


def _mentions(sql: str, name: str) -> bool:
    bare = name.rpartition(".")[2].strip('"')
    return re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", sql, re.IGNORECASE) is not None
