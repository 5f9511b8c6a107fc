"""A PostgreSQL database whose tables stay is handed on only as it was made, and without a row."""

import asyncio

import psycopg
import pytest

from substrate.store.migrate import TABLE
from tests.migrated import KEPT, LARGE, Migrated
from tests.stores import checkpoint, claimed, database, opened

CHANGES = (
    "CREATE TABLE mine (n int)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE INDEX mine ON runs (seed)",
    "CREATE SCHEMA mine",
    "CREATE SEQUENCE mine",
    "CREATE TYPE mine AS ENUM ('a')",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE RULE mine AS ON INSERT TO blobs DO ALSO NOTHING",
    "CREATE STATISTICS mine ON status, lane FROM runs",
    "CREATE PUBLICATION mine",
    "DROP INDEX runs_created",
    "DROP TABLE blobs",
    "ALTER TABLE runs ADD mine int",
    "ALTER TABLE runs DROP COLUMN seed",
    "ALTER TABLE runs RENAME seed TO mine",
    "ALTER TABLE runs ALTER seed DROP NOT NULL",
    "ALTER TABLE runs ALTER seed SET DEFAULT 7",
    "ALTER TABLE runs ADD CHECK (seed > -1) NOT VALID",
    "ALTER TABLE runs SET (fillfactor = 50)",
    "ALTER TABLE runs SET UNLOGGED",
    "ALTER TABLE runs ENABLE ROW LEVEL SECURITY",
    "ALTER DATABASE {} SET work_mem = '1MB'",
    "ALTER DATABASE {} CONNECTION LIMIT 9",
    "GRANT SELECT ON runs TO PUBLIC",
    "GRANT CREATE ON SCHEMA public TO PUBLIC",
    "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
    f"DELETE FROM {TABLE} WHERE version = 1",
    f"INSERT INTO {TABLE} VALUES (99, 'mine', '', 0)",
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_not_handed_on(postgres_dsn, change):
    """A database in which anything was made, dropped, altered or granted is not used again."""
    made = Migrated.make(postgres_dsn)
    try:
        with psycopg.connect(made.url, autocommit=True) as connection:
            connection.execute(change.format(connection.info.dbname).encode())
        assert not made.cleared()
    finally:
        made.drop(postgres_dsn)


@pytest.mark.parametrize("steps", [1, 2000])
async def test_no_row_is_handed_on(postgres_dsn, steps):
    """Few rows or many, none is left, and who was connected is no longer."""
    made = await asyncio.to_thread(Migrated.make, postgres_dsn)
    try:
        async with opened(made.url) as store:
            claim = await claimed(store)
            await store.commit([checkpoint(claim.fence, f"a.{i}") for i in range(steps)])
        left = psycopg.connect(made.url)
        (size,) = left.execute("SELECT pg_relation_size('promises')").fetchall()[0]
        assert (size > LARGE) == (steps > 1)
        assert made.cleared()
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
        with database(made.url) as db:
            tables = db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            filled = [name for (name,) in tables if db.rows(f"SELECT 1 FROM {name} LIMIT 1")]
            assert filled == [TABLE]
    finally:
        made.drop(postgres_dsn)


async def test_a_store_finds_its_tables(migrated_url):
    """What a test is given has every migration, so that opening it makes nothing."""
    with database(migrated_url) as db:
        before = db.rows(f"SELECT * FROM {TABLE} ORDER BY version")
    async with opened(migrated_url):
        pass
    with database(migrated_url) as db:
        assert db.rows(f"SELECT * FROM {TABLE} ORDER BY version") == before != []


async def test_a_test_may_end_all_connections(postgres_dsn):
    """That which is kept is among them, and is made anew."""
    made = await asyncio.to_thread(Migrated.make, postgres_dsn)
    try:
        with psycopg.connect(made.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                [KEPT],
            )
        async with opened(made.url) as store:
            await claimed(store)
        assert made.cleared()
        with database(made.url) as db:
            assert db.rows("SELECT id FROM runs") == []
    finally:
        made.drop(postgres_dsn)
