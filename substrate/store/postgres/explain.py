"""What Postgres says when something fails, as an error of ours: the fact, the place, the remedy.

A lost connection, a transaction broken off, a row that is refused and a right that is missing are
told apart here. What the URL has that is secret is in none of these messages.
"""

from traceback import format_exception

import psycopg

from substrate.store.database_url import PostgresUrl, shown_url
from substrate.store.postgres.rights import grant_for
from substrate.values.errors import (
    CheckpointRefused,
    StoreError,
    StoreUnreachable,
    StoreUnusable,
)

_BROKEN_OFF = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
_TIMEOUT = "statement timeout"

MAY_BE_SETTING = (psycopg.errors.QueryCanceled, psycopg.errors.ReadOnlySqlTransaction)
"""What a setting of the database may cause. A connection keeps the settings of its beginning, so
one that is told this is given up: the next is opened under those that hold by then."""

REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)
"""What Postgres raises where a row is at fault, and not the database."""


def unreachable(url: str, error: Exception) -> StoreUnreachable:
    """Return the error that says who did not answer and what to check."""
    return StoreUnreachable(
        f"Postgres at {shown_url(url)!r} cannot be reached: {_told(url, error)}; "
        "check that it runs, and the host, port, user, password and database in the URL"
    )


def explain(url: str, error: psycopg.Error, *, is_lost: bool) -> StoreError:
    """Tell a lost connection, a transaction broken off and a refused row from all else."""
    if is_lost and not isinstance(error, MAY_BE_SETTING):
        return unreachable(url, error)
    if isinstance(error, _BROKEN_OFF):
        cure = "; let statement_timeout be 0 for this user" if _TIMEOUT in str(error) else ""
        return StoreUnreachable(
            f"Postgres broke a transaction off ({_told(url, error)}); it may be tried again{cure}"
        )
    if isinstance(error, REFUSALS):
        return CheckpointRefused(f"Postgres refuses a row: {_told(url, error)}")
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return StoreUnusable(
            f"Postgres at {shown_url(url)!r} is read-only ({_told(url, error)}); connect to "
            "the primary server, and let default_transaction_read_only be off for this user"
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return not_allowed(url, _told(url, error), grant_for(error))
    return StoreUnusable(
        f"Postgres at {shown_url(url)!r} fails: {_told(url, error)}; see its log, and check "
        "that the user may create and write tables there; what was committed is safe"
    )


def not_allowed(url: str, fact: str, grant: str) -> StoreUnusable:
    """Return the error that says which right is missing, and how it is given."""
    return StoreUnusable(
        f"Postgres at {shown_url(url)!r} does not allow it: {fact}. The owner of the tables is "
        f"who migrates, and may create and write tables there; who drives runs needs {grant} TO "
        "its user: see Rights in docs/how-to/many-workers.md of the kit"
    )


def cause(url: str, error: Exception) -> Exception | None:
    """Return what caused an error, to be shown with it; None where that would tell a secret."""
    text = "".join(format_exception(error))
    return error if PostgresUrl.read(url).hide_in(text) == text else None


def _told(url: str, error: Exception) -> str:
    """Return what an error says of a connection, but for what the URL has that is secret."""
    return PostgresUrl.read(url).hide_in(first_line(error))


def first_line(error: Exception) -> str:
    """Return the first line of a message; of one that says nothing, its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
