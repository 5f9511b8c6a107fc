"""Migrations of a Postgres database."""

from substrate.store.migrate import (
    CREATE_TABLE,
    SELECT_APPLIED,
    TABLE,
    migrations,
    pending,
)
from substrate.store.postgres.connections import NOW
from substrate.store.postgres.session import Cursor

_LOCK = 0x0571_4A70  # any constant: the advisory lock that migrators take in turn

MIGRATION_WAIT = 3600.0
"""How many seconds migrating may take, and waiting for another process that does."""

_TAKE_TURN = "SELECT pg_catalog.pg_advisory_xact_lock(%s)"
_FIND_TABLE = "SELECT pg_catalog.to_regclass(%s)"

_INSERT_APPLIED = f"""
INSERT INTO {TABLE} (version, name, sha256, applied_at)
VALUES (%(version)s, %(name)s, %(digest)s, {NOW})
"""


async def migrate(db: Cursor) -> None:
    """Apply what migrations are left, in one transaction that other migrators wait for."""
    known = migrations("postgres")
    async with db.connection.transaction():
        await db.execute("SET LOCAL statement_timeout = 0")
        await db.execute(_TAKE_TURN, (_LOCK,))
        await db.execute(CREATE_TABLE, prepare=False)
        for migration in pending(known, await _applied(db)):
            await db.execute(migration.sql.encode(), prepare=False)
            row = {
                "version": migration.version,
                "name": migration.name,
                "digest": migration.digest,
            }
            await db.execute(_INSERT_APPLIED, row, prepare=False)


async def is_current(db: Cursor) -> bool:
    """Whether the schema is current: the way past the lock on every start but the first."""
    cursor = await db.execute(_FIND_TABLE, (TABLE,), prepare=False)
    if (await cursor.fetchone() or (None,))[0] is None:
        return False
    return not pending(migrations("postgres"), await _applied(db))


async def _applied(db: Cursor) -> dict[int, str]:
    cursor = await db.execute(SELECT_APPLIED, prepare=False)
    return dict(await cursor.fetchall())
