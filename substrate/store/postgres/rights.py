"""What a user of the database must be allowed who drives runs, and how that is granted.

Whoever migrates owns the tables, and needs no more. A worker asks at its birth whether it may do
all that it will have to: where it could do a part of it only, it would call what it then cannot
record, again and again.
"""

import re
from collections.abc import Mapping, Sequence

from psycopg import Error

from substrate.store.migrate import TABLE

RIGHTS: Mapping[str, str] = {
    TABLE: "SELECT",
    "runs": "SELECT, INSERT, UPDATE",
    "promises": "SELECT, INSERT, UPDATE",
    "signals": "SELECT, INSERT, UPDATE",
    "rate_limits": "SELECT, INSERT, UPDATE",
    "fleet": "SELECT, INSERT, UPDATE",
    "workers": "SELECT, INSERT, UPDATE, DELETE",
    "lanes": "SELECT, INSERT, UPDATE, DELETE",
    "blobs": "SELECT, INSERT",
    "gates": "SELECT, INSERT, UPDATE",
    "rules": "SELECT, INSERT, UPDATE, DELETE",
    "namespaces": "SELECT, INSERT, UPDATE",
    "notes": "SELECT, INSERT, UPDATE",
    "facts": "SELECT, INSERT, UPDATE",
    "links": "SELECT, INSERT, UPDATE",
    "history": "SELECT, INSERT, UPDATE",
    "terms": "SELECT, INSERT, UPDATE",
}
"""What is done with each table, as GRANT has it. docs/how-to has the same as statements."""

_EACH = [(table, right) for table, rights in RIGHTS.items() for right in rights.split(", ")]
_MAY = ", ".join(f"pg_catalog.has_table_privilege('{t}', '{right}')" for t, right in _EACH)
LOOK = f"SELECT {_MAY}"
"""Asks for each right whether the user has it."""


def missing(found: Sequence[bool]) -> str | None:
    """Return as what a user is to be granted what `LOOK` did not find; None where that is all."""
    lacking: dict[str, list[str]] = {}
    for (table, right), has in zip(_EACH, found, strict=True):
        if not has:
            lacking.setdefault(table, []).append(right)
    if not lacking:
        return None
    return "; ".join(f"GRANT {', '.join(rights)} ON {t}" for t, rights in lacking.items())


def grant_for(error: Error) -> str:
    """Return as what a user is to be granted that an error says was not allowed."""
    message = str(error)
    for table, rights in RIGHTS.items():
        if re.search(rf"\b{table}\b", message):
            return f"GRANT {rights} ON {table}"
    return "GRANT USAGE ON SCHEMA, and what docs/how-to/many-workers.md lists for the tables in it,"
