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
    "term_counts": "SELECT, INSERT, UPDATE",
    "embedders": "SELECT, INSERT, UPDATE",
    "vectors": "SELECT, INSERT",
    "policies": "SELECT, INSERT, UPDATE",
    "decisions": "SELECT, INSERT, UPDATE",
    "motions": "SELECT, INSERT, UPDATE",
    "ballots": "SELECT, INSERT, UPDATE",
    "followers": "SELECT, INSERT, UPDATE, DELETE",
}
"""What is done with each table, as GRANT has it. docs/how-to has the same as statements."""

FORGETTING: Mapping[str, str] = {
    "tombstones": "SELECT, INSERT, UPDATE",
    "signals": "DELETE",
    "blobs": "DELETE",
    "gates": "DELETE",
    "notes": "DELETE",
    "facts": "DELETE",
    "links": "DELETE",
    "history": "DELETE",
    "terms": "DELETE",
    "term_counts": "DELETE",
    "embedders": "DELETE",
    "vectors": "DELETE",
    "policies": "DELETE",
    "decisions": "DELETE",
    "motions": "DELETE",
    "ballots": "DELETE",
}
"""What is done besides by who forgets for good: a worker needs none of it."""

Rights = Mapping[str, str]


def _each(rights: Rights) -> Sequence[tuple[str, str]]:
    return [(table, right) for table, some in rights.items() for right in some.split(", ")]


def _look(rights: Rights) -> str:
    may = [f"pg_catalog.has_table_privilege('{t}', '{right}')" for t, right in _each(rights)]
    return f"SELECT {', '.join(may)}"


LOOK = _look(RIGHTS)
"""Asks for each right whether the user has it."""

LOOK_FORGETTING = _look(FORGETTING)
"""The same for who forgets."""


def missing(found: Sequence[bool], rights: Rights = RIGHTS) -> str | None:
    """Return as what a user is to be granted what a look did not find; None where that is all."""
    lacking: dict[str, list[str]] = {}
    for (table, right), has in zip(_each(rights), found, strict=True):
        if not has:
            lacking.setdefault(table, []).append(right)
    if not lacking:
        return None
    return "; ".join(f"GRANT {', '.join(each)} ON {table}" for table, each in lacking.items())


def grant_for(error: Error) -> str:
    """Return as what a user is to be granted that an error says was not allowed."""
    message = str(error)
    for table, rights in RIGHTS.items():
        if re.search(rf"\b{table}\b", message):
            return f"GRANT {rights} ON {table}"
    return "GRANT USAGE ON SCHEMA, and what docs/how-to/many-workers.md lists for the tables in it,"
