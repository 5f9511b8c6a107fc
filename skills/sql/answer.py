"""What a query gives back: rows as JSON, never more than a model can read.

Invariants: every value is JSON and means the same wherever it is read; a value that was cut says
so; an answer that leaves something out has ``truncated`` and a note that says how to get the rest.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from substrate.models.messages import Json
from substrate.values.codec import encode

MAX_CELL = 2_000
"""Characters of one value; a longer one is cut."""

MAX_ANSWER = 60_000
"""Characters of all rows as JSON: about 15,000 tokens."""


class QueryFailed(Exception):
    """The database was not asked, or said no. Nothing was changed; the message is for the model."""


def too_slow(timeout: timedelta) -> QueryFailed:
    """Return the error for a query that did not end in time."""
    return QueryFailed(
        f"the query took longer than {timeout.total_seconds():g} s and was stopped; "
        "read fewer rows, filter by an indexed column, or aggregate less at once"
    )


@dataclass(slots=True)
class Answer:
    """The rows taken so far. It grows until it is full, and is then read once."""

    max_rows: int
    columns: list[str] = field(default_factory=list)
    rows: list[list[Json]] = field(default_factory=list)
    size: int = 0
    note: str | None = None

    def take(self, row: Sequence[Any]) -> bool:
        """Take the next row, or return False: the answer is full, and this row is left out.

        Raises `QueryFailed` when the first row alone is more than an answer holds.
        """
        cells = [to_cell(value) for value in row]
        size = len(encode(cells))
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
            self.rows.append(cells)
            self.size += size
            return True
        self.note += "; filter, aggregate, select fewer columns, or page with LIMIT and OFFSET"
        return False

    def to_json(self) -> dict[str, Json]:
        """Return the answer as the model reads it."""
        told: dict[str, Json] = {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": len(self.rows),
            "truncated": self.note is not None,
        }
        return told | {"note": self.note} if self.note else told


def to_cell(value: Any) -> Json:
    """Return a database value as JSON.

    Bytes become ``base64:… [n bytes]``; decimals, dates and whatever else JSON lacks become text;
    text, and JSON as text, beyond `MAX_CELL` characters is cut with a mark.
    """
    match value:
        case None | bool():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            return _bytes_cell(bytes(value))
        case list() | tuple():
            return _short([to_cell(item) for item in value])
        case dict():
            return _short({str(key): to_cell(item) for key, item in value.items()})
    return cut(str(value))


def cut(text: str) -> str:
    """Return the text, or its beginning with a mark that says how long it is."""
    if len(text) <= MAX_CELL:
        return text
    return f"{text[:MAX_CELL]}… [cut: {len(text)} characters in all]"


def _bytes_cell(data: bytes) -> str:
    shown = data[: MAX_CELL // 4 * 3]
    mark = "cut: " if len(shown) < len(data) else ""
    return f"base64:{base64.b64encode(shown).decode()} [{mark}{len(data)} bytes]"


def _short(value: Json) -> Json:
    text = encode(value)
    return value if len(text) <= MAX_CELL else cut(text)
