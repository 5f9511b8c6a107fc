"""What a query gives back: rows as JSON, never more than a model can read.

Invariants: every value is JSON and means the same wherever it is read; a value that was cut says
so; an answer that leaves something out has ``truncated`` and a note that says how to get the rest.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Any
"""A JSON value, as in the kit. This file is read in a process that does not load the kit."""

MAX_CELL = 2_000
"""Characters of one value; a longer one is cut."""

MAX_ANSWER = 60_000
"""Characters of all rows as JSON: about 15,000 tokens."""

MAX_NAMES = 20_000
"""Characters of the columns' names; a single one is cut at a hundredth of it."""

MAX_MESSAGE = 4_000
"""Characters of what is said of a mistake."""

MAX_DEPTH = 50
"""How deep a JSON value or an array may be nested; a deeper one is shown as text."""


class QueryFailed(Exception):
    """The database was not asked, or said no. Nothing was changed; the message is for the model."""


class TooDeep(Exception):
    """A value is nested deeper than `MAX_DEPTH`."""


@dataclass(slots=True)
class Answer:
    """The rows taken so far. It grows until it is full, and is then read once."""

    max_rows: int
    columns: list[str] = field(default_factory=list)
    rows: list[list[Json]] = field(default_factory=list)
    size: int = 0
    note: str | None = None

    def name(self, columns: Sequence[str]) -> None:
        """Take the columns' names. Raises `QueryFailed` when they are more than is read."""
        self.columns = [cut(name, MAX_NAMES // 100) for name in columns]
        if (size := len(encode(self.columns))) > MAX_NAMES:
            raise QueryFailed(
                f"the names of the {len(columns)} columns are {size} characters, the limit is "
                f"{MAX_NAMES}; select fewer columns"
            )

    def take(self, row: Sequence[Json]) -> bool:
        """Take the next row's cells, or return False: the answer is full, and it is left out.

        Raises `QueryFailed` when the first row alone is more than an answer holds.
        """
        size = len(encode(row))
        if not self.rows and size > MAX_ANSWER:
            raise QueryFailed(
                f"one row is {size} characters of JSON, the limit is {MAX_ANSWER}; "
                "select fewer columns, or parts of the long ones with substr()"
            )
        if len(self.rows) == self.max_rows:
            self.note = f"there are more than these {self.max_rows} rows"
        elif self.size + size > MAX_ANSWER:
            self.note = f"there are more rows, left out at {MAX_ANSWER} characters"
        else:
            self.rows.append(list(row))
            self.size += size
            return True
        self.note += "; filter, aggregate, select fewer columns, or page with LIMIT and OFFSET"
        return False

    def to_json(self) -> dict[str, Json]:
        """Return the answer as the model reads it."""
        answer_json: dict[str, Json] = {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": len(self.rows),
            "truncated": self.note is not None,
        }
        return answer_json | {"note": self.note} if self.note else answer_json


def to_cell(value: Any, total: int | None = None) -> Json:
    """Return a database value as JSON.

    Bytes become ``base64:… [n bytes]``; decimals, dates and whatever else JSON lacks become text;
    text, and JSON as text, beyond `MAX_CELL` characters is cut with a mark. Where `value` is only
    the beginning, `total` says how many characters or bytes there are. Raises `TooDeep`.
    """
    match value:
        case bytes() | bytearray() | memoryview():
            return _bytes_cell(bytes(value), total)
        case list() | tuple() | dict():
            nested = _nested(value, 0)
            text = encode(nested)
            return nested if len(text) <= MAX_CELL else cut(text)
    return _scalar(value, total)


def cut(text: str, most: int = MAX_CELL, total: int | None = None) -> str:
    """Return the text, or its beginning with a mark that says how long it is."""
    if len(text) <= most and total is None:
        return text
    return f"{text[:most]}… [cut: {total or len(text)} characters in all]"


def encode(value: Json) -> str:
    """Return the shortest JSON of a value, whose characters are what is counted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _scalar(value: Any, total: int | None = None) -> Json:
    match value:
        case None | bool():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else cut(str(value))
        case float():
            return value if math.isfinite(value) else str(value)
    return cut(str(value), total=total)


def _nested(value: Any, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise TooDeep
    match value:
        case list() | tuple():
            return [_nested(item, depth + 1) for item in value]
        case dict():
            return {str(key): _nested(item, depth + 1) for key, item in value.items()}
        case bytes() | bytearray() | memoryview():
            return _bytes_cell(bytes(value))
    return _scalar(value)


def _bytes_cell(data: bytes, total: int | None = None) -> str:
    shown = data[: MAX_CELL // 4 * 3]
    mark = "cut: " if len(shown) < (total or len(data)) else ""
    return f"base64:{base64.b64encode(shown).decode()} [{mark}{total or len(data)} bytes]"
