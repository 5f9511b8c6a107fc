"""Migrations of a SQLite file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw

from substrate.store.migrate import (
    CREATE_TABLE,
    SELECT_APPLIED,
    TABLE,
    Condition,
    Migration,
    check_order,
    check_ours,
    migrations,
    pending,
)
from substrate.store.sqlite.file import transact
from substrate.store.sqlite.opening import LOCK_WAIT, check_no_folder, unusable

_INSERT_APPLIED = f"""
INSERT INTO {TABLE} (version, name, sha256, applied_at)
VALUES (:version, :name, :digest, :now)
"""


_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"


def migrate(db: apsw.Connection, now_ms: int) -> None:
    """Apply what migrations are left, in one transaction that other processes wait for."""
    known = migrations("sqlite")
    if not _is_current(db, known):
        transact(db, lambda db: _apply(db, known, now_ms), wait=LOCK_WAIT)


def look(path: Path) -> Condition:
    """Return how a file is that is there; it is opened for reading only, and closed again."""
    check_no_folder(path)
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            known, applied = migrations("sqlite"), {}
            if db.table_exists(None, TABLE):
                applied = _applied(db)
            left = _pending(db, known, applied)
            return Condition(f"SQLite {apsw.sqlite_lib_version()}", len(applied), len(left))
        finally:
            db.close()
    except apsw.Error as error:
        raise unusable(path, error) from error


def _is_current(db: apsw.Connection, known: Sequence[Migration]) -> bool:
    """Whether the schema is current: the way past the lock on every start but the first."""
    try:
        if not db.table_exists(None, TABLE):
            return False
        return not _pending(db, known, _applied(db))
    except apsw.Error as error:
        raise unusable(db.filename, error) from error


def _apply(db: apsw.Connection, known: Sequence[Migration], now_ms: int) -> None:
    db.execute(CREATE_TABLE)
    for migration in _pending(db, known, _applied(db)):
        db.execute(migration.sql)
        row = {
            "version": migration.version,
            "name": migration.name,
            "digest": migration.digest,
            "now": now_ms,
        }
        db.execute(_INSERT_APPLIED, row)


def _pending(
    db: apsw.Connection, known: Sequence[Migration], applied: Mapping[int, str]
) -> Sequence[Migration]:
    """Return what is left to apply. Raises `SchemaMismatch` where that cannot be."""
    left = pending(known, applied)
    check_order(known, applied)
    if left:
        check_ours(left, applied, [str(name) for (name,) in db.execute(_TABLES)])
    return left


def _applied(db: apsw.Connection) -> dict[int, str]:
    return {int(version): str(digest) for version, digest in db.execute(SELECT_APPLIED)}
