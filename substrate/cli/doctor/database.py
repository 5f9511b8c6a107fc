"""The database: reached, migrated, with the rights that a worker needs, and with which clock."""

import os
import time
from collections.abc import AsyncIterator

from substrate.cli import format as wording
from substrate.cli.doctor.finding import Finding, fail, ok, warn
from substrate.cli.environment import database_url
from substrate.cli.secrecy import hidden
from substrate.store.connect import look, sqlite_file
from substrate.store.database_url import shown_url
from substrate.store.migrate import Condition
from substrate.values.errors import OstinatoError

APART_MS = 2000
"""So far apart, clocks are told of."""


async def look_at_database() -> AsyncIterator[Finding]:
    """Say how the database is. Nothing is made, migrated or written."""
    url = database_url()
    given = "DATABASE_URL" if os.environ.get("DATABASE_URL") else "DATABASE_URL is not set"
    began = time.time()
    try:
        found = await look(url)
    except OstinatoError as error:
        yield fail("database", hidden(str(error)))
        return
    now = round((began + time.time()) * 500)
    where = f"{given}: {shown_url(url)}"
    if found is None:
        yield _to_be_made(where)
        return
    yield ok("database", f"{where}, {found.product}")
    yield _migrated(found)
    if found.grants is not None:
        yield fail("rights", "the database's user may not do what a worker does", found.grants)
    elif found.now_ms is not None:
        makes = "may make the tables" if found.pending else "all that a worker needs"
        yield ok("rights", makes)
    yield clock_of(found, now)


def _to_be_made(where: str) -> Finding:
    file = sqlite_file(database_url())
    if file is not None and not file.absolute().parent.is_dir():
        return fail("database", f"{where}: there is no folder {str(file.parent)!r}", "make it")
    return ok("database", f"{where}: not there yet, the first run makes it")


def _migrated(found: Condition) -> Finding:
    if not found.pending:
        return ok("schema", wording.count(found.applied, "migration") + ", up to date")
    if not found.applied:
        return warn("schema", "none of the kit's tables is there", "the first command makes them")
    behind = wording.count(found.pending, "migration")
    return warn(
        "schema",
        f"{behind} behind this kit",
        "the next command that opens it applies them; workers of the older kit keep running",
    )


def clock_of(found: Condition, now: int) -> Finding:
    """Say how far this machine's clock, which says `now` in ms, is from the database's."""
    if found.now_ms is None:
        return ok("clock", "the file's time is this machine's")
    apart = found.now_ms - now
    if abs(apart) < APART_MS:
        return ok("clock", f"{abs(apart)} ms apart from the database's")
    how = "ahead of" if apart < 0 else "behind"
    return warn(
        "clock",
        f"this machine is {wording.duration(abs(apart))} {how} the database, whose time counts",
        "set its clock by NTP: what tools and logs call now is not what runs do",
    )
