"""Passwords of PostgreSQL that stand in no URL: where libpq looks for one that it is not given.

A server may repeat them like any other, so whoever tells its errors has to know them. Nothing is
read before that, and what cannot be read is left out: then libpq could not read it either.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_MOST = 1_000_000
"""How many characters of a file are read: there it is one of many that are somebody's."""


def passwords_outside(
    options: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Yield the passwords that may be used for a connection with these options, in no order."""
    yield environ.get("PGPASSWORD", "")
    folder = Path(environ.get("PGSYSCONFDIR", "."))
    services = (options.get("servicefile"), environ.get("PGSERVICEFILE"), "~/.pg_service.conf")
    files = [options.get("passfile"), environ.get("PGPASSFILE"), "~/.pgpass"]
    for line in _lines(*services, str(folder / "pg_service.conf")):
        name, _, value = line.partition("=")
        if name.strip() == "passfile":
            files.append(value.strip())
        elif "pass" in name:
            yield value.strip()
    for line in _lines(*files):
        # Host, port, database and user stand before it; a colon of its own has a backslash.
        *_, password = re.split(r"(?<!\\):", line, maxsplit=4)
        yield re.sub(r"\\(.)", r"\1", password)


def _lines(*files: str | None) -> Iterator[str]:
    for each in files:
        with suppress(OSError, ValueError, RuntimeError):  # no file, no text, no home
            if each:
                with Path(each).expanduser().open(encoding="utf-8") as file:
                    yield from file.read(_MOST).splitlines()
