"""The PostgreSQL of the tests is a real one, the test's own, and never outlives its owner.

The suite rests on this: a guarantee shown on a server without durability, on a database that
another test has touched, or on a server left over from yesterday, is no guarantee.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.keeper import has_account, wait_until
from tests.postgres import (
    PostgresUnavailableError,
    Source,
    available_sources,
    emptied,
    fresh_database,
    postgres,
    server_pid,
)

ROOT = Path(__file__).parents[1]
# The wheel stands in where a machine has nothing, so that its absence is seen as a failure.
PRIVATE = [source for source in available_sources() if source is not Source.DSN] or [Source.WHEEL]

each_private_source = pytest.mark.parametrize("source", PRIVATE)

# The forked child inherits all that the owner has open, and lives until its standard input ends.
OWNER = """
import os, sys
from tests.postgres import Source, postgres, server_pid
with postgres(Source(sys.argv[1])) as dsn:
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print(dsn, server_pid(dsn), flush=True)
    sys.stdin.read()
"""


@each_private_source
def test_server_is_real_and_durable(source: Source):
    """A private server is PostgreSQL with its durable settings, reached by its socket alone."""
    with postgres(source) as dsn, psycopg.connect(dsn) as connection:
        [version] = connection.execute("SELECT version()").fetchone()
        names = ["fsync", "synchronous_commit", "listen_addresses", "max_connections"]
        settings = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]

    assert version.startswith("PostgreSQL ")
    assert settings == ["on", "on", "", "200"]


@each_private_source
def test_block_leaves_nothing(source: Source):
    """When the block ends, the server and its folder are gone."""
    with postgres(source) as dsn:
        pid, folder = server_pid(dsn), folder_of(dsn)
        assert is_alive(pid)

    assert not is_alive(pid)
    assert not folder.exists()


@each_private_source
def test_killed_owner_leaves_nothing(source: Source):
    """A process killed with SIGKILL takes its server along, though a child of it lives on."""
    with start_owner(source) as owner:
        dsn, pid = owner.stdout.readline().split()
        assert is_alive(int(pid))

        owner.kill()

        assert wait_until(lambda: not folder_of(dsn).exists(), limit_s=20)
        assert not is_alive(int(pid))


@each_private_source
def test_namespaces_are_optional(source: Source, tmp_path: Path):
    """Where user namespaces are not permitted, whoever has an account has a server, root too."""
    forbidden = tmp_path / "unshare"
    forbidden.write_text("#!/bin/sh\nexit 1\n")
    forbidden.chmod(0o755)

    with start_owner(source, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") as owner:
        answer = owner.stdout.readline()
        owner.stdin.close()

    assert has_account() == bool(answer)
    if answer:
        dsn, pid = answer.split()
        assert not is_alive(int(pid))
        assert not folder_of(dsn).exists()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL])
def test_killed_server_comes_back(number: signal.Signals):
    """A private server that dies is started again, with all that it had acknowledged."""
    with postgres(PRIVATE[0]) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server_pid(dsn)

        os.kill(pid, number)

        assert wait_until(lambda: accepts_connections(dsn, other_than=pid), limit_s=20)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_database_is_fresh_and_dropped(postgres_dsn: str):
    """Each database is empty, separate from the next, and dropped under whoever still uses it."""
    with fresh_database(postgres_dsn) as first, fresh_database(postgres_dsn) as second:
        with psycopg.connect(first, autocommit=True) as connection:
            connection.execute("CREATE TABLE mine ()")
        left_open = psycopg.connect(second, autocommit=True)
        assert left_open.execute("SELECT to_regclass('mine')").fetchone() == (None,)

    with pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")
    left_open.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)


def test_an_emptied_database_is_as_new(postgres_dsn: str):
    """What is emptied has no table, no connection and no right that a fresh one has not."""
    with fresh_database(postgres_dsn) as used, fresh_database(postgres_dsn) as fresh:
        left_open = psycopg.connect(used)
        with psycopg.connect(used, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA other CREATE TABLE mine ()")
            connection.execute("CREATE TYPE mood AS ENUM ('sad')")
            connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")

        assert emptied(used)

        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
        left_open.close()
        assert catalog_of(used) == catalog_of(fresh)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER DATABASE {} SET search_path = nowhere",
        "ALTER DATABASE {} CONNECTION LIMIT 5",
        "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "CREATE PUBLICATION mine FOR ALL TABLES",
        "CREATE OR REPLACE FUNCTION pg_catalog.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_create(0)",
        "GRANT SELECT ON pg_authid TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_sleep FROM PUBLIC",
    ],
)
def test_what_cannot_be_emptied(statement: str, postgres_dsn: str):
    """A database that was changed outside of its schemas is not given to another test."""
    with fresh_database(postgres_dsn) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            if "pg_catalog" in statement:
                connection.execute("SET allow_system_table_mods = on")
            connection.execute(statement.format(urlsplit(url).path[1:]))

        assert not emptied(url)


def catalog_of(url: str) -> list[list[tuple[str, ...]]]:
    """Return what a database has: its schemas with their rights, and its relations and types."""
    questions = (
        "SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace ORDER BY 1",
        "SELECT relnamespace::regnamespace::text, relname FROM pg_class ORDER BY 1, 2",
        "SELECT typnamespace::regnamespace::text, typname FROM pg_type ORDER BY 1, 2",
    )
    with psycopg.connect(url) as connection:
        return [connection.execute(question).fetchall() for question in questions]


def test_database_url_names_an_empty_database(database_url: str):
    """The URL that runs a test on both databases names one of each kind, with nothing in it."""
    url = urlsplit(database_url)
    if url.scheme == "sqlite":
        assert url.netloc == ""
        file = Path(url.path[1:])
        assert file.is_absolute()
        assert file.parent.is_dir()
        assert not file.exists()
    else:
        assert url.scheme == "postgresql"
        with psycopg.connect(database_url) as connection:
            tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            assert connection.execute(tables).fetchone() == (0,)


def test_workers_share_one_server(tmp_path: Path):
    """However many pytest-xdist workers there are, the controller starts one server for all."""
    seen = tmp_path / "seen"
    result = run_pytest(
        tmp_path,
        f"""
        def test_see(postgres_dsn, worker_id):
            with open({str(seen)!r}, "a") as file:
                file.write(f"{{worker_id}} {{postgres_dsn}}\\n")
        """,
        "-n2",
        "--dist=each",
    )

    assert result.returncode == 0, result.stdout
    workers, dsns = zip(*(line.split() for line in seen.read_text().splitlines()), strict=True)
    assert sorted(workers) == ["gw0", "gw1"]
    assert len(set(dsns)) == 1
    assert not folder_of(dsns[0]).exists()


def test_missing_server_is_failure(tmp_path: Path):
    """A test that cannot have its server fails with the remedy; it is not skipped."""
    result = run_pytest(tmp_path, "def test_want(postgres_url): pass", OSTINATO_TEST_DSN="nowhere")

    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 error" in result.stdout
    assert "apt install postgresql" in result.stdout


def test_absent_source_is_named(monkeypatch: pytest.MonkeyPatch):
    """A source that was asked for and cannot serve is an error that names it."""
    monkeypatch.setenv("OSTINATO_TEST_DSN", "mysql://elsewhere")

    with pytest.raises(PostgresUnavailableError, match="'mysql://elsewhere'"), postgres(Source.DSN):
        pass


def start_owner(source: Source, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, source],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_pytest(
    folder: Path, code: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    file = folder / "test_inner.py"
    file.write_text(dedent(code))
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("OSTINATO", "PYTEST"))}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            "pyproject.toml",
            "-p",
            "no:cacheprovider",
            *options,
            str(file),
        ],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def folder_of(dsn: str) -> Path:
    return Path(psycopg.conninfo.conninfo_to_dict(dsn)["host"])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def accepts_connections(dsn: str, *, other_than: int) -> bool:
    try:
        psycopg.connect(dsn).close()
        return server_pid(dsn) != other_than
    except (psycopg.OperationalError, FileNotFoundError, IndexError):
        return False
