"""Takes what was deleted out of the tables of a Postgres database, as far as its user may.

VACUUM gives dead rows free, and ANALYZE makes the planner's statistics anew, which hold values of
the columns. The bytes stay in pages until others are written there, and in the WAL until that is
recycled: only writing the tables anew takes them out of the files, and locks them for that long.
"""

from collections.abc import Sequence

from psycopg import Error
from psycopg.errors import Diagnostic

from substrate.store.memory_rows import DERIVED, TABLES
from substrate.store.postgres.connections import open_connection, prepare
from substrate.store.postgres.deadline import Deadline
from substrate.store.postgres.explain import explain

_WAIT = 3600.0  # seconds
SCRUBBED = (
    "promises",
    "signals",
    "blobs",
    "gates",
    "rules",
    *(table.name for table in TABLES),
    *DERIVED,
)
_NAMES = ", ".join(SCRUBBED)
_UNLIMITED = "SET statement_timeout = 0"
_SCRUB = f"VACUUM (ANALYZE) {_NAMES}"


async def scrubbed(url: str) -> Sequence[str]:
    """Give free what is dead in the tables; return what is left in the files, and the remedy."""
    skipped: list[str] = []

    def note(said: Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            skipped.append(said.message_primary or "")

    pages = (
        "bytes in pages of the tables, until others are written there; to write the tables anew, "
        f"each locked for that long: VACUUM FULL {_NAMES}"
    )
    left = [pages, "the server's WAL, until it is recycled, and its archive"]
    connection = None
    try:
        connection = await open_connection(prepare(url))
        with Deadline(connection, _WAIT):
            connection.add_notice_handler(note)
            await connection.execute(_UNLIMITED, prepare=False)
            await connection.execute(_SCRUB.encode(), prepare=False)
    except Error as error:
        raise explain(url, error, is_lost=connection is None or connection.closed) from error
    finally:
        if connection is not None:
            await connection.close()
    if skipped:
        left.insert(0, f"dead rows, and statistics: as the owner of the tables, run {_SCRUB}")
    return left
