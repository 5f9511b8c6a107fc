"""Fixtures for tests of the kit and of the skills: their databases.

A test takes the narrowest it needs: `store_url` runs it on SQLite and on PostgreSQL, `sqlite_url`
and `postgres_url` on one of them; each is empty and, while the test runs, its own. What
`store_url` names has the kit's tables already; a test about their making takes `database_url`.

PostgreSQL is real, and started once a session, when first asked for. With pytest-xdist the
controller starts it and hands its URL to the workers. Where it is missing, the tests that want it
fail; none is skipped.

This is a pytest plugin, named in `pyproject.toml`, since a conftest.py serves one folder only.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.migrated import Migrated, make_tables
from tests.postgres import (
    PostgresUnavailableError,
    create_database,
    drop_database,
    emptied,
    postgres,
)

SERVER = pytest.StashKey[str]()


def start_once(config: pytest.Config) -> str:
    """Return the URL of this process's server, which stops when pytest does."""
    if SERVER not in config.stash:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        config.stash[SERVER] = stack.enter_context(postgres())
    return config.stash[SERVER]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the worker that is about to start the URL of the controller's server.

    Without a server the worker gets none, and fails the tests that want one by itself.
    """
    try:
        node.workerinput["postgres_dsn"] = start_once(node.config)
    except PostgresUnavailableError:
        node.workerinput["postgres_dsn"] = None


@pytest.fixture(scope="session")
def postgres_dsn(pytestconfig: pytest.Config) -> str:
    """Return the URL of the session's server: for what concerns the server, not a database."""
    given: str | None = getattr(pytestconfig, "workerinput", {}).get("postgres_dsn")
    try:
        return given or start_once(pytestconfig)
    except PostgresUnavailableError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def empty_databases(postgres_dsn: str) -> Iterator[list[str]]:
    """Keep the databases that tests are done with, emptied: making one costs ten times as much."""
    urls: list[str] = []
    yield urls
    for url in urls:
        drop_database(postgres_dsn, url)


@pytest.fixture
def postgres_url(postgres_dsn: str, empty_databases: list[str]) -> Iterator[str]:
    """Provide the URL of an empty PostgreSQL database, emptied or dropped after the test."""
    url = empty_databases.pop() if empty_databases else create_database(postgres_dsn)
    yield url
    if emptied(url):
        empty_databases.append(url)
    else:
        drop_database(postgres_dsn, url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ostinato.db'}"


@pytest.fixture(scope="session")
def migrated_databases(postgres_dsn: str) -> Iterator[list[Migrated]]:
    """Keep the databases with tables that tests are done with, without a row."""
    kept: list[Migrated] = []
    yield kept
    for database in kept:
        database.drop(postgres_dsn)


@pytest.fixture
def migrated_url(postgres_dsn: str, migrated_databases: list[Migrated]) -> Iterator[str]:
    """Provide the URL of a PostgreSQL database with the kit's tables and no row."""
    database = migrated_databases.pop() if migrated_databases else Migrated.make(postgres_dsn)
    yield database.url
    if database.cleared():
        migrated_databases.append(database)
    else:
        database.drop(postgres_dsn)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a SQLite file with the kit's tables and no row, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "ostinato.db"
    make_tables(f"sqlite:///{file}")
    return file


@pytest.fixture
def copied_url(tmp_path: Path, migrated_file: Path) -> str:
    """Return the URL of a SQLite file with the kit's tables and no row."""
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path)}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty store: the test runs once on each kind."""
    kind = {"sqlite": "copied_url", "postgres": "migrated_url"}[request.param]
    url: str = request.getfixturevalue(kind)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a database in which there is nothing: once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
