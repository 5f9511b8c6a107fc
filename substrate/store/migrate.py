"""Numbered SQL files, applied once each, in order, under a lock, checked by hash.

Files are append-only. A table of ours keeps number, name, sha256 and time of each; it bears the
project's name because a database may hold other people's migrations, too.
This module decides what must be applied; each store applies it in its own transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from substrate.values.errors import SchemaMismatch


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

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
