"""Opening a database either brings it up to date or says what is wrong with it and what to do."""

import asyncio
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import apsw
import psycopg
import pytest

from substrate.store.connect import look, open_store
from substrate.store.migrate import Migration, migrations, pending
from substrate.values.errors import (
    BadDatabaseUrl,
    SchemaMismatch,
    StoreUnreachable,
    StoreUnusable,
)
from substrate.values.records import JsonText
from tests.keeper import NOBODY
from tests.primitives import keep
from tests.stores import (
    OTHER,
    beating,
    claimed,
    database,
    opened,
    signal,
    sqlite_path,
)

SECRET = "hunter2"
NEWEST = migrations("sqlite")[-1].version

REFUSED = (apsw.ConstraintError, psycopg.errors.CheckViolation)

OPEN = """
import asyncio, os, sys
import substrate.store.postgres, substrate.store.sqlite  # a user of less rights may not read Python
from substrate.store.connect import look, open_store
from substrate.values.errors import StoreError

async def main(url):
    try:
        store = await open_store(url)
    except StoreError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    await store.close()

url, user = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(int(user), int(user), int(user))
    os.setresuid(int(user), int(user), int(user))
print("ready", flush=True)
sys.stdin.read()
asyncio.run(main(url))
"""


@pytest.fixture
def store_url(database_url: str) -> str:
    """Return the URL of a database with nothing in it: who makes its tables is the matter here."""
    return database_url


@contextmanager
def opening(url: str, user: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Make a process that opens the store, as this user if it can, once its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, url, str(user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def refusal(url: str, kind: type[Exception]) -> str:
    """Return the message with which the store refuses to open."""
    with pytest.raises(kind) as raised:
        await open_store(url)
    return str(raised.value)


# ----------------------------------------------------------------------------------- migrating


async def test_empty_database(store_url: str):
    """An empty database becomes a store, and the database keeps what was done to it, and when."""
    async with opened(store_url) as store:
        assert await store.list() == []
    async with opened(store_url):
        pass

    with database(store_url) as db:
        dialect = "postgres" if db.is_postgres else "sqlite"
        kept = db.rows("SELECT version, name, sha256 FROM ostinato_migrations")
        assert kept == [(m.version, m.name, m.digest) for m in migrations(dialect)]
        assert db.value("SELECT min(applied_at) FROM ostinato_migrations") > 1_700_000_000_000


def test_many_open_an_empty_database_at_once(store_url: str):
    """Processes that meet at an empty database migrate it once, and all of them can use it."""
    with ExitStack() as stack:
        processes = [stack.enter_context(opening(store_url)) for _ in range(6)]
        for process in processes:
            process.stdin.close()
        errors = [process.stderr.read() for process in processes]

    assert errors == [""] * 6
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM ostinato_migrations") == len(migrations("sqlite"))


async def test_a_strangers_lock_keeps_no_migrator_waiting(postgres_url: str):
    """Whoever may only connect to the database, or read the kit's table, holds up no migration."""
    with psycopg.connect(postgres_url) as stranger:
        stranger.execute("SELECT pg_advisory_lock(91310704)")  # which migrators took once
        async with asyncio.timeout(20), opened(postgres_url):
            pass
        stranger.execute("SELECT * FROM ostinato_migrations")  # and stays in its transaction
        with database(postgres_url) as db:
            db.rows("DROP TABLE lanes")
            db.rows("DELETE FROM ostinato_migrations WHERE version = :last", last=6)
        async with asyncio.timeout(20), opened(postgres_url):
            pass


async def test_newer_schema(store_url: str):
    """A database that a newer version has migrated is left alone."""
    async with opened(store_url):
        pass
    with database(store_url) as db:
        db.rows("INSERT INTO ostinato_migrations VALUES (99, 'future', 'x', 1)")

    told = f"has schema 99, this code knows {NEWEST}; update the kit"
    assert told in await refusal(store_url, SchemaMismatch)


async def test_edited_migration(store_url: str):
    """A migration that was edited after it was applied is found out."""
    async with opened(store_url):
        pass
    with database(store_url) as db:
        db.rows("UPDATE ostinato_migrations SET sha256 = 'other'")

    message = await refusal(store_url, SchemaMismatch)
    assert "migration 1 (tables) was changed after it was applied" in message


@pytest.mark.parametrize(
    "change",
    [
        "runs SET epoch = -1",
        "runs SET wake_version = 2000000001",
        "runs SET crashes = 1000001",
        "runs SET last_seq = -1",
        "runs SET due_at = 253402300800000",
        "runs SET created_at = -62135596800001",
        "promises SET seq = 9007199254740992",
        "promises SET settled_at = 253402300800000",
        "signals SET n = -1",
        "workers SET lease_until = 9223372036854775807",
        "rate_limits SET reported_at = 9223372036854775807",
        "fleet SET losses = 9007199254740992",
        "namespaces SET last_n = 9007199254740992",
        "namespaces SET last_at = 253402300800000",
        "notes SET version = 0",
        "notes SET recorded_at = 253402300800000",
        "notes SET gone_n = 9",
        "facts SET confidence = 1.5",
        "facts SET valid_to = valid_from",
        "facts SET subject_key = ''",
        "facts SET trust = 'me'",
        "links SET doc = 0",
        "links SET b_key = ''",
        "history SET n = -1",
        "terms SET tf = 0",
        "terms SET source_table = 'runs'",
        "terms SET band = 12",
        "term_counts SET docs = -1",
        "term_counts SET bands = 4096",
        "namespaces SET followed = 2",
        "policies SET policy = 'mine'",
        "decisions SET over_n = n + 1",
        "motions SET state = 'lost'",
        "motions SET need = 0",
        "ballots SET doc = 0",
    ],
)
async def test_what_is_beyond_bounds(store_url: str, change: str):
    """A count or moment that would have no next one is refused by the database itself."""
    async with opened(store_url) as store:
        await claimed(store)
        await store.send_signal(signal())
        await store.write_rate_limit("a-model", JsonText("{}"))
        await keep(store)
        async with beating(store, OTHER):
            with database(store_url) as db:
                db.rows("INSERT INTO fleet VALUES ('a', 1)")
                with pytest.raises(REFUSED):
                    db.rows(f"UPDATE {change}")


def test_what_is_pending():
    """What was not applied yet is applied in order, also what comes between the applied."""
    one, two, three = known = [Migration(i, f"m{i}", f"SELECT {i}") for i in (1, 2, 3)]

    assert pending(known, {}) == known
    assert pending(known, {1: one.digest, 3: three.digest}) == [two]
    assert pending(known, {m.version: m.digest for m in known}) == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_numbers_of_migrations(dialect: str):
    """Migrations are numbered from 1 without a gap, the same in both dialects."""
    numbered = [(m.version, m.name) for m in migrations(dialect)]

    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    assert numbered == [(m.version, m.name) for m in migrations("sqlite")]


async def test_an_earlier_migration_is_missing(sqlite_url: str):
    """A file that has a migration and lacks an earlier one is refused by all, with a true cure."""
    async with opened(sqlite_url):
        pass
    with database(sqlite_url) as db:
        db.rows("DELETE FROM ostinato_migrations WHERE version = 2")

    told = await refusal(sqlite_url, SchemaMismatch)

    assert f"has migration {NEWEST} and lacks 2 (gates), which cannot follow it" in told
    assert "keep the file as a copy" in told
    assert "begin with a new database" in told
    with pytest.raises(SchemaMismatch, match="lacks 2"):
        await look(sqlite_url)


@pytest.mark.parametrize("table", ["runs", "notes"])
async def test_database_of_another_program(store_url: str, table: str):
    """A table that is not the kit's, of a name of its own, is said to be that; nothing is made."""
    with database(store_url) as db:
        db.rows(f"CREATE TABLE {table} (id integer, distance real)")

    told = await refusal(store_url, SchemaMismatch)

    assert f"a table {table!r} that is not the kit's" in told
    assert "name a database of the agent's own" in told
    with pytest.raises(SchemaMismatch, match="not the kit's"):
        await look(store_url)
    with database(store_url) as db:
        assert db.rows(f"SELECT count(*) FROM {table}") == [(0,)]
        with pytest.raises(Exception, match="ostinato_migrations"):
            db.rows("SELECT * FROM ostinato_migrations")


async def test_a_table_of_ones_own_in_the_way(store_url: str):
    """A table that somebody has made beside the kit's is named before a migration meets it."""
    async with opened(store_url):
        pass
    made = (
        "namespaces",
        *("notes", "facts", "links", "history", "terms"),
        *("policies", "decisions", "motions", "ballots", "followers"),
    )
    with database(store_url) as db:
        db.rows("DELETE FROM ostinato_migrations WHERE version = 4")
        for table in made[1:]:
            db.rows(f"DROP TABLE {table}")

    told = await refusal(store_url, SchemaMismatch)

    assert "a table 'namespaces' that is not the kit's; rename that one" in told


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
async def test_blank_at_the_end_of_a_url(store_url: str, blank: str):
    """A blank around a URL is no part of a file's name: it is refused, and nothing is made."""
    for url in (store_url + blank, blank + store_url):
        assert "take it out where the URL is set" in await refusal(url, BadDatabaseUrl)
        with pytest.raises(BadDatabaseUrl):
            await look(url)


async def test_failed_migration_leaves_nothing(store_url: str):
    """Where the index of somebody else stands in the way, nothing is created and it is named."""
    with database(store_url) as db:
        db.rows("CREATE TABLE mine (id integer)")
        db.rows("CREATE INDEX runs_created ON mine (id)")

    assert "runs_created" in await refusal(store_url, StoreUnusable)

    with database(store_url) as db:
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        if db.is_postgres:
            tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert db.rows(tables) == [("mine",)]


# -------------------------------------------------------------------------------------- SQLite


async def test_not_a_database(sqlite_url: str):
    """A file that is something else is neither read nor changed."""
    path = sqlite_path(sqlite_url)
    path.write_text("Dear diary, " * 1000)

    message = await refusal(sqlite_url, StoreUnusable)

    assert str(path) in message
    assert "restore it from a backup, or move it away" in message
    assert path.read_text() == "Dear diary, " * 1000


async def test_corrupt_file(sqlite_url: str):
    """A damaged database is refused with what to do about it."""
    async with opened(sqlite_url):
        pass
    path = sqlite_path(sqlite_url)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 3996 + content[4096:])

    assert "restore it from a backup" in await refusal(sqlite_url, StoreUnusable)


async def test_folder_in_its_place(tmp_path: Path):
    """A folder is no database."""
    message = await refusal(f"sqlite:///{tmp_path}", StoreUnusable)

    assert "since it is a folder; name a file in it" in message


async def test_folders_are_made(tmp_path: Path):
    """The folders of a SQLite file are made where they are missing."""
    async with opened(f"sqlite:///{tmp_path}/a/b/runs.db"):
        assert (tmp_path / "a" / "b" / "runs.db").exists()


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_read_only(closed: str):
    """A user who may not write the file, or its folder, is told so."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with opening(f"sqlite:///{path}") as process:
            assert process.communicate("")[1] == ""
        path.chmod(0o444 if closed == "file" else 0o666)
        path.parent.chmod(0o777 if closed == "file" else 0o555)

        with opening(f"sqlite:///{path}", NOBODY) as process:
            error = process.communicate("")[1]

        path.parent.chmod(0o700)
    assert error.startswith(f"StoreUnusable: SQLite cannot use '{path}'")
    assert "writable for this user" in error


def test_file_in_use(sqlite_url: str):
    """Who opens a file that another process is writing waits for it."""
    with closing(apsw.Connection(str(sqlite_path(sqlite_url)))) as connection:
        connection.execute("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").fetchall()
        with opening(sqlite_url) as process:
            process.stdin.close()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)

            connection.execute("COMMIT")

            assert (process.wait(30), process.stderr.read()) == (0, "")


# ------------------------------------------------------------------------------------ Postgres


async def test_unreachable_server():
    """A server that does not answer is named, without the password, and with what to check."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        message = await refusal(f"postgresql://me:{SECRET}@127.0.0.1:{port}/runs", StoreUnreachable)

    assert f"postgresql://me@127.0.0.1:{port}/runs" in message
    assert "Connection refused" in message
    assert "check that it runs" in message
    assert SECRET not in message


async def test_no_such_database(postgres_url: str):
    """A database that is not there is named, with what to check."""
    message = await refusal(postgres_url.replace("ostinato_test_", "no_such_"), StoreUnreachable)

    assert "does not exist" in message
    assert "database in the URL" in message


async def test_no_such_user(postgres_url: str):
    """A user whom the server does not know, or refuses, is told what to check."""
    message = await refusal(
        postgres_url.replace("postgres@", f"nobody:{SECRET}@"), StoreUnreachable
    )

    assert "nobody" in message
    assert "user, password and database in the URL" in message
    assert SECRET not in message


async def test_forbidden_schema(postgres_url: str):
    """A user who may not create tables is told so."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS guest")
        admin.execute("CREATE ROLE guest LOGIN")
        admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        try:
            message = await refusal(postgres_url.replace("postgres@", "guest@"), StoreUnusable)
        finally:
            admin.execute("DROP ROLE guest")

    assert "schema" in message
    assert "the user may create and write tables there" in message


async def test_read_only_server(postgres_url: str):
    """A server that takes no writes, such as a standby, is refused at once."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    assert "read-only transaction" in await refusal(postgres_url, StoreUnusable)


# ---------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "url",
    [
        "",
        "runs.db",
        "/var/runs.db",
        "sqlite://runs.db",
        "sqlite:///",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///runs.db?mode=ro",
        "sqlite:///runs#1.db",
        "sqlite:///a%00b.db",
        f"mysql://me:{SECRET}@host/runs",
        f"host=db password={SECRET}",
        f"postgresql://me:{SECRET}@[::1/runs",
        f"postgresql://me:{SECRET}%zz@host/runs",
        f"postgresql://me:{SECRET}@host/runs?no_such_option=1",
        f"postgresql://host/runs?user=me&password={SECRET}&no_such_option=1",
        None,
        Path("runs.db"),
    ],
)
async def test_bad_url(url: str):
    """A URL that cannot be understood is refused with the forms that can, and keeps its secret."""
    message = await refusal(url, BadDatabaseUrl)

    assert "write " in message
    assert SECRET not in message


async def test_password_stays_out_of_tracebacks():
    """The password is in no message of the chain of errors that a log would show."""
    with pytest.raises(StoreUnreachable) as raised:
        await open_store(f"postgresql://me:{SECRET}@127.0.0.1:1/runs?connect_timeout=5")

    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


async def test_options_of_a_url_count(postgres_url: str):
    """What a Postgres URL says of itself goes before what we would say."""
    async with opened(f"{postgres_url}&application_name=mine") as store:
        with psycopg.connect(postgres_url) as connection:
            names = connection.execute(
                "SELECT DISTINCT application_name FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        assert await store.list() == []

    assert names == [("mine",)]
