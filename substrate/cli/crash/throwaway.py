"""Databases that are thrown away: one for each case, all alike when the case begins.

On SQLite that is a file in the folder of the case. On PostgreSQL it is a database of the server
that is named, copied from one that was migrated once; its user needs CREATEDB.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from substrate.cli.environment import database_url
from substrate.cli.errors import UsageError
from substrate.store.database_url import shown_url
from substrate.values.errors import StoreUnusable

_POSTGRES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Databases:
    """Where the databases of the cases are."""

    #: The server's URL; None where they are SQLite files.
    server: str | None = None
    #: What their names begin with.
    prefix: str = ""

    @property
    def name(self) -> str:
        """What they are, for people."""
        return "SQLite" if self.server is None else "PostgreSQL"

    def url(self, folder: Path, case: str) -> str:
        """Return the URL of the database of a case."""
        if self.server is None:
            return f"sqlite:///{folder}/runs.db"
        scheme, _, rest = self.server.partition("://")
        authority = rest.partition("?")[0].partition("/")[0]
        _, mark, options = rest.partition("?")
        return f"{scheme}://{authority}/{self._named(case)}{mark}{options}"

    def make(self, case: str) -> None:
        """Make the database of a case, a copy of the one that was migrated."""
        if self.server is not None and case != MIGRATED:
            like = self._named(MIGRATED)
            self._do(f"CREATE DATABASE {self._named(case)} TEMPLATE {like}")

    def drop(self, case: str) -> None:
        """Drop the database of a case."""
        if self.server is not None:
            self._do(f"DROP DATABASE IF EXISTS {self._named(case)} WITH (FORCE)")

    def drop_all(self) -> None:
        """Drop what is left of them."""
        if self.server is None:
            return
        like = f"{self.prefix}\\_%"
        for (name,) in self._do("SELECT datname FROM pg_database WHERE datname LIKE %s", like):
            self._do(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _named(self, case: str) -> str:
        return f"{self.prefix}_{case.replace('-', '_')}"

    def _do(self, statement: str, *values: str) -> list[Any]:
        import psycopg

        assert self.server is not None
        try:
            with psycopg.connect(self.server, autocommit=True, connect_timeout=10) as connection:
                done = connection.execute(statement, values or None)
                return done.fetchall() if done.description else []
        except psycopg.Error as error:
            told = " ".join(str(error).split())
            raise StoreUnusable(
                f"{shown_url(self.server)}: {told}; it has to be there, and its user to have "
                "CREATEDB: each case gets a database of its own, which is dropped again"
            ) from error


MIGRATED = "migrated"
"""The case that all others are copied from."""


@contextmanager
def databases(store: str) -> Iterator[Databases]:
    """Give the databases of the cases, which are all gone when the block is left.

    `store` is ``sqlite``, ``postgres`` for the server of DATABASE_URL, or the URL of a server.
    """
    if store == "sqlite":
        yield Databases()
        return
    server = database_url() if store == "postgres" else store
    if not server.startswith(_POSTGRES):
        raise UsageError(
            "--store is sqlite, postgres (the server of DATABASE_URL, which is none now), or a "
            "URL: postgresql://user@host/database"
        )
    found = Databases(server, f"ostinato_crash_{secrets.token_hex(4)}")
    found._do(f"CREATE DATABASE {found._named(MIGRATED)}")  # noqa: SLF001 - it is made here
    try:
        yield found
    finally:
        found.drop_all()
