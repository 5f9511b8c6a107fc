"""Takes what was deleted out of a SQLite file: no byte of it stays in the file or in its log.

Deleted rows lie in free pages until these are used again, and pages as they were in the log. So the
file is written anew (VACUUM), and the log is copied into it and cut to nothing. Readers of an older
state keep the log, so it is asked for again for a while.
"""

import time
from collections.abc import Sequence

import apsw

from substrate.store.sqlite.file import explained
from substrate.store.sqlite.opening import LOCK_WAIT, pause

_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
_STILL_THERE = (
    "the log beside the SQLite file, since another process reads in it all the time: end that one, "
    "and forget again"
)


def scrubbed(db: apsw.Connection) -> Sequence[str]:
    """Write the file anew and cut its log; return what is left where that could not be."""
    began = time.monotonic()
    with explained(db, LOCK_WAIT):
        _until_free(db, began)
        while not _is_cut(db):
            waited = time.monotonic() - began
            if waited > LOCK_WAIT:
                return [_STILL_THERE]
            pause(waited)
    return []


def _until_free(db: apsw.Connection, began: float) -> None:
    """Write the file anew, as soon as nobody else writes."""
    while True:
        try:
            db.execute("VACUUM").fetchall()
        except apsw.BusyError:
            waited = time.monotonic() - began
            if waited > LOCK_WAIT:
                raise
            pause(waited)
        else:
            return


def _is_cut(db: apsw.Connection) -> bool:
    try:
        ((is_busy, _, _),) = db.execute(_CHECKPOINT).fetchall()
    except apsw.BusyError:
        return False
    return not is_busy
