"""Numbered SQL files, applied once each, in order, under a lock, checked by hash.

Files are append-only. A table of ours keeps number, name, sha256 and time of each; it bears the
project's name because a database may hold other people's migrations, too.
This module decides what must be applied; each store applies it in its own transaction.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from substrate.values.errors import SchemaMismatch

_TABLES = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def tables(self) -> Sequence[str]:
        """The tables that it makes."""
        return _TABLES.findall(self.sql)

    @property
    def digest(self) -> str:
        """The sha256 of its text."""
        return sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Condition:
    """How a database was found to be by one who changed nothing in it."""

    #: What it is, with its version: ``PostgreSQL 18.1``.
    product: str
    #: How many migrations it has.
    applied: int
    #: How many it has not had yet.
    pending: int
    #: Its time, in ms since 1970 UTC; None where that is this machine's.
    now_ms: int | None = None
    #: What its user has to be granted, as statements; None where that is nothing.
    grants: str | None = None


TABLE = "ostinato_migrations"

CREATE_TABLE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    version    INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    sha256     TEXT    NOT NULL,
    applied_at BIGINT  NOT NULL
)
"""

SELECT_APPLIED = f"""
SELECT version, sha256
  FROM {TABLE}
 ORDER BY version
"""


def migrations(dialect: str) -> Sequence[Migration]:
    """Return the migrations of a dialect (`sqlite` or `postgres`), in order."""
    folder = files("substrate.store") / "schema" / dialect
    found = []
    for file in folder.iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def pending(known: Sequence[Migration], applied: Mapping[int, str]) -> Sequence[Migration]:
    """Return what is left to apply, or raise `SchemaMismatch`. `applied` is version to sha256."""
    newest = known[-1].version
    if applied and max(applied) > newest:
        raise SchemaMismatch(
            f"the database has schema {max(applied)}, this code knows {newest}; "
            "update the kit, or use another database"
        )
    for migration in known:
        recorded = applied.get(migration.version)
        if recorded is not None and recorded != migration.digest:
            raise SchemaMismatch(
                f"migration {migration.version} ({migration.name}) was changed after it was "
                "applied; restore the file, and put the change into a new one"
            )
    return [migration for migration in known if migration.version not in applied]


def check_order(known: Sequence[Migration], applied: Mapping[int, str]) -> None:
    """Refuse a database that has a migration and lacks an earlier one, where order counts.

    A later one may have made tables anew as they were before it, so what is missing cannot follow.
    No release leaves that: only a commit between two did. Raises `SchemaMismatch`.
    """
    missing = [each for each in known if each.version not in applied]
    if applied and missing and missing[0].version < max(applied):
        raise SchemaMismatch(
            f"the database has migration {max(applied)} and lacks {missing[0].version} "
            f"({missing[0].name}), which cannot follow it: a kit between two releases made it; "
            "keep the file as a copy for the kit that made it, and begin with a new database"
        )


def check_ours(left: Sequence[Migration], applied: Collection[int], there: Collection[str]) -> None:
    """Refuse a database in which a table has a name that a migration is to give to its own.

    `there` is the tables that there are. Raises `SchemaMismatch`.
    """
    taken = [name for each in left for name in each.tables if name in there]
    if taken:
        cure = (
            "rename that one"
            if applied
            else "name a database of the agent's own: this one is another program's"
        )
        raise SchemaMismatch(f"the database has a table {taken[0]!r} that is not the kit's; {cure}")
