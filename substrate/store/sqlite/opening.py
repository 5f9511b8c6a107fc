"""How a SQLite file is opened: made where it is missing, and set up so that commits last.

- WAL and ``synchronous=FULL``: what was committed survives power loss. ``fullfsync`` is for macOS,
  whose ``fsync`` leaves data in the disk's cache; elsewhere it does nothing.
- What is made here is its owner's alone, whatever the umask; a file that is there keeps its rights.
  SQLite gives the files beside it the same.
"""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import apsw

from substrate.values.errors import StoreUnusable

LOCK_WAIT = 30.0
"""How many seconds a transaction waits for other processes' writes."""

_RETRY_PAUSE = 0.0003  # the built-in busy handler is unfair: waits of 0.7 s where these take 0.1
_SOON = 1.0  # for so many seconds a lock is thought to be free soon; then it costs no CPU to wait
_LONG_PAUSE = 0.01

_DURABLE = """
PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON
"""
_MADE_S = 1.0  # for so long another process may be making the file


def pause(waited: float) -> None:
    """Sleep before a lock is asked for again that others have held for so many seconds."""
    time.sleep(_RETRY_PAUSE if waited < _SOON else _LONG_PAUSE)


def check_no_folder(path: Path) -> None:
    """Raise `StoreUnusable` where a folder is named in the place of a file."""
    if path.is_dir():
        raise StoreUnusable(
            f"SQLite cannot use {str(path)!r}, since it is a folder; name a file in it, as in "
            f"{str(path / 'runs.db')!r}"
        )


def open_file(path: Path) -> apsw.Connection:
    """Open the file for reading and writing, creating it; raise `StoreUnusable` when impossible."""
    check_no_folder(path)
    try:
        _make_folder(path.parent)
        if not path.exists():
            _create(path.resolve())
        connection = apsw.Connection(str(path))
    except (apsw.Error, OSError) as error:
        raise unusable(path, error) from error
    try:
        _check_one_name(path)
        _set_up(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.Error | OSError):
            raise unusable(path, error) from error
        raise
    return connection


def _check_one_name(path: Path) -> None:
    """Refuse a file with several names (hard links): SQLite keeps a log by name, so it would tear.

    A file that is just being made has two for a moment: see `_create`.
    """
    began = time.monotonic()
    while path.stat().st_nlink > 1:
        if time.monotonic() - began > _MADE_S:
            raise StoreUnusable(
                f"the SQLite file {str(path)!r} has another name, a hard link, and SQLite would "
                "keep a second log of it under that; remove the other name, or use a symbolic link"
            )
        pause(0)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, for their owner only: `Path.mkdir` leaves these open."""
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)


def _create(path: Path) -> None:
    """Make the file, empty and for its owner only, unless somebody else has just made it.

    It is made under another name: were it opened and closed here under its own, a connection that
    another thread has to it meanwhile would lose its locks by that.
    """
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        os.fchmod(handle, 0o600)
        os.close(handle)
        with suppress(OSError):  # it is there, or its disk has no links, and no rights to give
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def unusable(path: Path | str, error: Exception) -> StoreUnusable:
    """Return the error that says what is wrong with the file and what to do."""
    match error:
        case apsw.NotADBError() | apsw.CorruptError():
            cure = "restore it from a backup, or move it away to begin with an empty one"
        case apsw.ReadOnlyError() | PermissionError():
            cure = "make the file and its folder writable for this user"
        case apsw.CantOpenError() | OSError():
            cure = "check that its folder exists and is writable for this user"
        case apsw.FullError():
            cure = "free some space on its disk"
        case _:
            cure = "check the file and its disk"
    return StoreUnusable(f"SQLite cannot use {str(path)!r} ({error}); {cure}")


def _set_up(connection: apsw.Connection) -> None:
    if connection.readonly("main"):
        raise PermissionError("it is read-only")
    _enter_wal(connection)
    connection.execute(_DURABLE).fetchall()
    connection.execute("PRAGMA schema_version").fetchall()


def _enter_wal(connection: apsw.Connection) -> None:
    """Switch to WAL, as the first of perhaps several processes that all want to."""
    began = time.monotonic()
    while True:
        try:
            ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            waited = time.monotonic() - began
            if waited > LOCK_WAIT:
                raise
            pause(waited)
            continue
        if mode != "wal":
            raise OSError("its file system has no shared memory, as a local disk does")
        return
