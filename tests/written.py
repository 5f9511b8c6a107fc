"""Everything that a database has written, to be searched for what must not be there."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import apsw
import psycopg
from psycopg.sql import SQL, Identifier

from substrate.store.blobs import open_blob


def dump(url: str) -> str:
    """Return the rows of all tables as text, and what compressed values hold."""
    if url.startswith("sqlite:"):
        with apsw.Connection(url.removeprefix("sqlite:///"), flags=apsw.SQLITE_OPEN_READONLY) as db:
            listed = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            tables = [name for (name,) in listed]
            rows = [row for name in tables for row in db.execute(f'SELECT * FROM "{name}"')]
    else:
        with psycopg.connect(url) as db:
            listed = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            tables = [name for (name,) in listed.fetchall()]
            select = SQL("SELECT * FROM {}")
            rows = [row for name in tables for row in db.execute(select.format(Identifier(name)))]
    return "\n".join("\t".join(map(_text, row)) for row in rows)


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return open_blob(value).decode(errors="replace")
    except Exception:  # noqa: BLE001 - bytes that are no blob
        return value.decode("latin-1")


def files_of(url: str) -> list[Path]:
    """Return the files of a database: SQLite's beside each other, or the server's data folder."""
    if url.startswith("sqlite:"):
        file = Path(url.removeprefix("sqlite:///"))
        return sorted(file.parent.glob(f"{file.name}*"))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CHECKPOINT")
        (folder,) = db.execute("SHOW data_directory").fetchone() or ("",)
    return [each for each in Path(folder).rglob("*") if each.is_file()]


def found_in(files: Iterable[Path], needles: Iterable[str]) -> Iterator[str]:
    """Yield which of the texts stand in which files, byte by byte."""
    pattern = re.compile(b"|".join(re.escape(each.encode()) for each in needles))
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:  # a socket, or a file that went meanwhile
            sys.stderr.write(f"{file}: {error}\n")
            continue
        yield from (f"{file}: {found.decode()}" for found in set(pattern.findall(content)))
