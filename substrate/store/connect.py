"""From a database URL to an open store."""

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from substrate.installed import how_to_add
from substrate.store.protocol import Store
from substrate.store.secrets import hide_password
from substrate.store.shield import made_in_thread
from substrate.store.sqlite import SqliteStore
from substrate.values.clock import Clock
from substrate.values.errors import BadDatabaseUrl

_FORMS = "write sqlite:///runs.db, sqlite:////absolute/runs.db, or postgresql://user@host/database"


async def open_store(url: str, clock: Clock | None = None) -> Store:
    """Open the store behind a URL and bring its schema up to date.

    ``sqlite:///relative.db`` is relative to the current folder, ``sqlite:////absolute.db`` is not;
    ``postgresql://…`` is a libpq URL. Opening twice gives two independent stores.
    `clock` takes the place of the database's time for everything but leases.
    Raises `BadDatabaseUrl`, `StoreUnreachable`, `StoreUnusable` or `SchemaMismatch`.
    """
    try:
        parts = urlsplit(str(url))
    except ValueError as error:
        raise BadDatabaseUrl(f"{hide_password(url)!r} is no URL ({error}); {_FORMS}") from None
    match parts.scheme:
        case "sqlite":
            path = _sqlite_path(url, parts)
            return await made_in_thread(lambda: SqliteStore(path, clock), SqliteStore.abandon)
        case "postgresql" | "postgres":
            return await _open_postgres(url, clock)
    raise BadDatabaseUrl(f"{hide_password(str(url))!r} is not a database URL; {_FORMS}")


def sqlite_file(url: str) -> Path | None:
    """Return the file that a SQLite URL names, there or not; None for any other URL."""
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return None
    return _sqlite_path(url, parts) if parts.scheme == "sqlite" else None


def _sqlite_path(url: str, parts: SplitResult) -> Path:
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path or path == ":memory:" or "\0" in path:
        raise BadDatabaseUrl(f"{url!r} names no SQLite file; {_FORMS}")
    if parts.query or parts.fragment:
        raise BadDatabaseUrl(
            f"{url!r} has a ? or # that no SQLite file name may hold; write %3F or %23 where it "
            "belongs to the name, and leave options out"
        )
    return Path(path)


async def _open_postgres(url: str, clock: Clock | None) -> Store:
    try:
        from substrate.store.postgres import PostgresStore
    except ImportError as error:
        raise BadDatabaseUrl(
            f"a Postgres URL needs psycopg ({error}); install it: {how_to_add('postgres')}"
        ) from error
    store = PostgresStore(url, clock)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
