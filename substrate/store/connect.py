"""From a database URL to an open store."""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from substrate.installed import how_to_add
from substrate.store.database_url import FORMS, refused
from substrate.store.migrate import Condition
from substrate.store.store import Store
from substrate.store.uncancelled import made_in_thread
from substrate.values.clock import Clock
from substrate.values.errors import BadDatabaseUrl

if TYPE_CHECKING:
    from substrate.store.postgres import PostgresBackend

_SQLITE = re.compile(
    r"sqlite:(//(?P<host>[^/?#]*))?(?P<path>[^?#]*)(?P<options>[?#].*)?", re.DOTALL
)
_LOGIN = re.compile(r":[^/@]*@|[;&]\w*=")
"""What stands in other URLs and not in the name of a file: user:password@, ;password=."""


async def open_store(url: str, clock: Clock | None = None) -> Store:
    """Open the store behind a URL and bring its schema up to date.

    ``sqlite:///relative.db`` is relative to the current folder, ``sqlite:////absolute.db`` is not;
    ``postgresql://…`` is a libpq URL. Opening twice gives two independent stores.
    `clock` takes the place of the database's time for everything but leases.
    Raises `BadDatabaseUrl`, `StoreUnreachable`, `StoreUnusable` or `SchemaMismatch`; of a URL that
    is not understood, nothing is quoted.
    """
    given = _bare(url)
    if given.startswith("sqlite:"):
        from substrate.store.sqlite import SqliteBackend

        path = _sqlite_path(given)
        opened = await made_in_thread(lambda: SqliteBackend(path, clock), SqliteBackend.abandon)
        return Store(opened)
    if given.startswith(("postgresql://", "postgres://")):
        return await _open_postgres(given, clock)
    raise refused(given)


async def look(url: str) -> Condition | None:
    """Return how the database behind a URL is, and change nothing in it.

    None for a SQLite file that is not there. Raises what `open_store` raises, but for a schema that
    is older: nothing is migrated.
    """
    given = _bare(url)
    if (file := sqlite_file(given)) is not None:
        from substrate.store.sqlite.schema import look as look_into

        return await asyncio.to_thread(look_into, file) if file.exists() else None
    if not given.startswith(("postgresql://", "postgres://")):
        raise refused(given)
    backend = _postgres_backend(given, None)
    try:
        return await backend.look()
    finally:
        await backend.db.close()


def sqlite_file(url: str) -> Path | None:
    """Return the file that a SQLite URL names, there or not; None for any other URL."""
    given = _bare(url)
    return _sqlite_path(given) if given.startswith("sqlite:") else None


def _bare(url: str) -> str:
    """Return the URL, if it has no blank at its ends: that would be part of a file's name."""
    given = str(url)
    if given != given.strip():
        raise BadDatabaseUrl(
            f"the database URL ({len(given)} characters) has a blank at its beginning or end; take "
            "it out where the URL is set, or write %20 where a file's name has it"
        )
    return given


def _sqlite_path(url: str) -> Path:
    found = _SQLITE.fullmatch(url)
    path = unquote(found["path"].removeprefix("/")) if found else ""
    if found is None or found["host"] or not path or path == ":memory:" or "\0" in path:
        raise BadDatabaseUrl(f"the SQLite URL ({len(url)} characters) names no file; {FORMS}")
    if found["options"]:
        raise BadDatabaseUrl(
            "the SQLite URL has a ? or # that no SQLite file name may hold; write %3F or %23 where "
            "it belongs to the name, and leave options out"
        )
    if _LOGIN.search(found["path"]):
        raise BadDatabaseUrl(
            "the SQLite URL has a user, a password or an option, and a file has none; where that "
            "belongs to its name, write %3A for :, %40 for @, %3B for ; and %26 for &"
        )
    return Path(path)


def _postgres_backend(url: str, clock: Clock | None) -> "PostgresBackend":
    try:
        from substrate.store.postgres import PostgresBackend
    except ImportError as error:
        raise BadDatabaseUrl(
            f"a Postgres URL needs psycopg ({error}); install it: {how_to_add('postgres')}"
        ) from error
    return PostgresBackend(url, clock)


async def _open_postgres(url: str, clock: Clock | None) -> Store:
    backend = _postgres_backend(url, clock)
    try:
        await backend.open()
    except BaseException:
        await backend.db.close()
        raise
    return Store(backend)
