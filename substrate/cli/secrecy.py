"""The last look at what is said: no key, no revealed secret, and nothing that fools the eye.

Errors and rows are without keys already where they are made (`substrate.models.providers.keys`,
the stores). This is for what others say of us: tracebacks, and the log of a library that tells an
address.
"""

import logging
import os
from contextlib import suppress
from functools import lru_cache
from traceback import format_exception

from substrate.cli.environment import database_url
from substrate.cli.format import visible
from substrate.models.providers.address import Address
from substrate.models.providers.keys import secrets_of
from substrate.store.database_url import PostgresUrl
from substrate.values import secret as revealed
from substrate.values.errors import BadDatabaseUrl
from substrate.values.mask import Mask


def hidden(text: str) -> str:
    """Return text without what is secret here, and with nothing invisible.

    That is what the environment has for keys and passwords, and what a `Secret` has revealed.
    """
    return visible(_mask(frozenset(_secrets())).hide(revealed.hidden(text)))


def trace_of(error: BaseException) -> str:
    """Return an error's traceback as it may be shown."""
    return hidden("".join(format_exception(error)))


class RedactingFormatter(logging.Formatter):
    """Formats a line of the log as it may be shown, exceptions included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return hidden(super().format(record))


def _secrets() -> set[str]:
    found = set(secrets_of(Address(), os.environ))
    with suppress(BadDatabaseUrl):  # which nobody quotes
        found |= _passwords(database_url(), *map(os.environ.get, _PLACES))
    return found


_PLACES = ("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR", "HOME")
"""What decides where passwords are looked for: the files are read once, not with each line."""


@lru_cache(maxsize=4)
def _passwords(url: str, *places: str | None) -> frozenset[str]:
    return frozenset(PostgresUrl.read(url).passwords())


@lru_cache(maxsize=4)
def _mask(secrets: frozenset[str]) -> Mask:
    return Mask(secrets)
