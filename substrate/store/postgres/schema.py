"""Migrations of a Postgres database.

Migrators take turns by a lock on the kit's own table, which nobody can hold who may not write it.
An advisory lock can be held by anybody who is connected to the database, for as long as they like.
"""

from collections.abc import Mapping, Sequence

from psycopg import Rollback, errors

from substrate.store.migrate import (
    CREATE_TABLE,
    SELECT_APPLIED,
    TABLE,
    Condition,
    Migration,
    check_ours,
    migrations,
    pending,
)
from substrate.store.postgres import rights
from substrate.store.postgres.connections import NOW
from substrate.store.postgres.session import Cursor

MIGRATION_WAIT = 3600.0
"""How many seconds migrating may take, and waiting for another process that does."""

_TAKE_TURN = f"LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE"  # who only reads it goes on
_FIND_TABLE = "SELECT pg_catalog.to_regclass(%s)"

_TABLES = """
SELECT relname
  FROM pg_catalog.pg_class
 WHERE relnamespace = pg_catalog.to_regnamespace(pg_catalog.current_schema()::text)::oid
   AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""

_INSERT_APPLIED = f"""
INSERT INTO {TABLE} (version, name, sha256, applied_at)
VALUES (%(version)s, %(name)s, %(digest)s, {NOW})
"""


async def migrate(db: Cursor) -> None:
    """Apply what migrations are left, in one transaction that other migrators wait for."""
    while not await _migrated(db):
        pass


async def _migrated(db: Cursor) -> bool:
    """Apply what is left; return False where another was about to make the first table."""
    known, is_second = migrations("postgres"), False
    async with db.connection.transaction() as turn:
        await db.execute("SET LOCAL statement_timeout = 0")
        try:
            await db.execute(CREATE_TABLE, prepare=False)
        except (errors.UniqueViolation, errors.DuplicateTable):
            # IF NOT EXISTS sees no table that is not committed; this waited until it was.
            is_second = True
            raise Rollback(turn) from None
        await db.execute(_TAKE_TURN, prepare=False)
        for migration in await _pending(db, known, await _applied(db)):
            await db.execute(migration.sql.encode(), prepare=False)
            row = {
                "version": migration.version,
                "name": migration.name,
                "digest": migration.digest,
            }
            await db.execute(_INSERT_APPLIED, row, prepare=False)
    return not is_second


_FACTS = f"""
SELECT pg_catalog.current_setting('server_version'), {NOW}, pg_catalog.current_schema(),
       pg_catalog.has_schema_privilege(pg_catalog.current_schema(), 'CREATE')
"""


async def look(db: Cursor) -> Condition:
    """Return how the database is, and whether its user may do all that a worker does."""
    cursor = await db.execute(_FACTS, prepare=False)
    version, now, schema, may_create = await cursor.fetchone() or ("", None, None, False)
    cursor = await db.execute(_FIND_TABLE, (TABLE,), prepare=False)
    known, applied = migrations("postgres"), {}
    if (await cursor.fetchone() or (None,))[0] is not None:
        applied = await _applied(db)
    left = await _pending(db, known, applied)
    grants = None
    if left and not may_create:
        grants = f"GRANT USAGE, CREATE ON SCHEMA {schema or 'public'}"
    elif not left:
        cursor = await db.execute(rights.LOOK, prepare=False)
        grants = rights.missing(await cursor.fetchone() or ())
    product = f"PostgreSQL {version.partition(' ')[0]}"
    return Condition(product, len(applied), len(left), now, grants)


async def is_current(db: Cursor) -> bool:
    """Whether the schema is current: the way past the lock on every start but the first."""
    cursor = await db.execute(_FIND_TABLE, (TABLE,), prepare=False)
    if (await cursor.fetchone() or (None,))[0] is None:
        return False
    return not pending(migrations("postgres"), await _applied(db))


async def _pending(
    db: Cursor, known: Sequence[Migration], applied: Mapping[int, str]
) -> Sequence[Migration]:
    """Return what is left to apply. Raises `SchemaMismatch` where that cannot be."""
    left = pending(known, applied)
    if left:
        cursor = await db.execute(_TABLES, prepare=False)
        check_ours(left, applied, [str(name) for (name,) in await cursor.fetchall()])
    return left


async def _applied(db: Cursor) -> dict[int, str]:
    cursor = await db.execute(SELECT_APPLIED, prepare=False)
    return dict(await cursor.fetchall())
