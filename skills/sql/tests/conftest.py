"""The same small shop in SQLite and in PostgreSQL, the latter as a role that can only read."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import apsw
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

SHOP = """
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id integer PRIMARY KEY, customer integer REFERENCES customers (id), day date, note {bytes}
);
CREATE VIEW named AS SELECT name FROM customers;
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Bob');
INSERT INTO orders VALUES (1, 1, '2026-11-20', {blob});
"""


@pytest.fixture
def sqlite_shop(tmp_path: Path) -> str:
    """Return the URL of a SQLite file with the shop in it."""
    path = tmp_path / "shop.db"
    write_sqlite(path, SHOP.format(bytes="blob", blob="x'00ff10'"))
    return f"sqlite:///{path}"


def write_sqlite(path: Path, script: str) -> None:
    """Run statements on the file, through the one SQLite library of the process."""
    connection = apsw.Connection(str(path))
    connection.execute(script).fetchall()
    connection.close()


@pytest.fixture
def add_to_sqlite(tmp_path: Path) -> Callable[[str], None]:
    """Return what runs statements on the SQLite shop."""
    return lambda script: write_sqlite(tmp_path / "shop.db", script)


@pytest.fixture
def owner(postgres_url: str) -> Iterator[psycopg.Connection]:
    """Provide a connection that may do everything, to a PostgreSQL database with the shop in it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SHOP.format(bytes="bytea", blob=r"'\x00ff10'").encode())
        yield connection


@pytest.fixture
def make_role(owner: psycopg.Connection, postgres_url: str) -> Iterator[Callable[..., str]]:
    """Return what makes a role with the attributes and grants given, and returns its URL."""
    made: list[Identifier] = []
    for_all: list[str] = []

    def make(*grants: str, attributes: str = "") -> str:
        name = f"role_{uuid4().hex[:12]}"
        role = Identifier(name)
        owner.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'secret' " + attributes).format(role))
        made.append(role)
        for_all.extend(grant for grant in grants if grant.endswith(" TO PUBLIC"))
        for grant in grants:
            owner.execute(SQL(grant).format(role=role, database=Identifier(owner.info.dbname)))
        host = urlsplit(postgres_url).netloc.rpartition("@")[2]
        return urlsplit(postgres_url)._replace(netloc=f"{name}:secret@{host}").geturl()

    yield make
    for grant in for_all:  # in the catalog, which the next test's database has as well
        owner.execute(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ").encode())
    for role in reversed(made):
        owner.execute(SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))


READING = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    # What a test makes later can be read too.
    "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {role}",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}",
)
"""What makes a role that can read and nothing else."""


@pytest.fixture
def make_reader(make_role: Callable[..., str]) -> Callable[..., str]:
    """Return what makes a role that can read, and may do what else is granted."""

    def make(*grants: str, attributes: str = "") -> str:
        return make_role(*READING, *grants, attributes=attributes)

    return make


@pytest.fixture
def postgres_shop(make_reader: Callable[..., str]) -> str:
    """Return the URL of the PostgreSQL shop for a role that can only read."""
    return make_reader()


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest) -> str:
    """Return the URL of the shop: the test runs once on each database."""
    url: str = request.getfixturevalue(f"{request.param}_shop")
    return url
