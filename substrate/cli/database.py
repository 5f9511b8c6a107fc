"""The database that the commands use, as DATABASE_URL names it.

Only `run` with a question, and `worker`, make a SQLite file, and they say so; nobody makes a folder
for one. A command that looks, or acts on a run that there is, would find nothing in an empty file:
the name is mistyped then, or the folder is another.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from substrate.cli.environment import database_url, tenant
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.engine.client import Client, connect
from substrate.store.connect import sqlite_file
from substrate.values.errors import StoreError


class NoDatabase(StoreError):
    """There is no such SQLite file, or no folder for it. Nothing was made."""


@asynccontextmanager
async def opened(invocation: Invocation) -> AsyncIterator[Client]:
    """Open the database of the fork that a command is called for, whose code is not loaded.

    Raises `Misuse` where there is no such fork, `NoDatabase` where it has had no run yet.
    """
    check_there(invocation.package)
    async with open_database() as client:
        yield client


@asynccontextmanager
async def open_database() -> AsyncIterator[Client]:
    """Open the database that is there. Raises `NoDatabase` for a SQLite file that is not."""
    file = missing_file()
    if file is not None:
        raise NoDatabase(
            f"there is no database {str(file)!r} in {str(Path.cwd())!r}, so there are no runs yet; "
            "the first `run` makes it"
        )
    async with connect(database_url(), tenant=tenant()) as client:
        yield client


@asynccontextmanager
async def open_or_make_database() -> AsyncIterator[Client]:
    """Open the database; make a SQLite file that is not there, in a folder that is."""
    file = missing_file()
    if file is not None and not file.parent.is_dir():
        raise NoDatabase(
            f"there is no folder {str(file.parent)!r} in {str(Path.cwd())!r} for the database; "
            "make it, or mend the name"
        )
    async with connect(database_url(), tenant=tenant()) as client:
        yield client


def missing_file() -> Path | None:
    """Return the SQLite file that DATABASE_URL names and that is not there; None for any other."""
    file = sqlite_file(database_url())
    return file if file is not None and not file.exists() else None
