"""A file that a store has open here is opened by nothing else in this process.

The locks of SQLite belong to the process, not to a connection: when the process closes *any*
descriptor of the file, it has lost all its locks on it. Python's own `sqlite3` is another copy of
SQLite, and knows nothing of ours: closing its connection, or copying the file, lets other processes
write beside us, or removes the log under us. What was acknowledged would then be gone, without an
error. See https://sqlite.org/howtocorrupt.html, "Multiple copies of SQLite linked into the same
application" and "POSIX advisory locks canceled by a separate thread doing close()".

Python tells of each file before it opens it (`sys.addaudithook`). So it is refused here, in words,
and nothing is lost. What opens a file without Python is not seen.
"""

import os
import sys
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote

from substrate.values.errors import Misuse, StoreUnusable

FileId = tuple[int, int]
"""The device and the number of a file: the same under each of its names."""

_SHARED = "-shm"  # the file beside it, which has locks as well

_kept: Counter[FileId] = Counter()
_lock = Lock()
_is_watching = False


def keep(path: Path) -> FileId:
    """Refuse this process every other way to the file, until `let_go` was called as often."""
    global _is_watching  # noqa: PLW0603 - a hook can't be taken back, so there is one
    stat = path.stat()
    file = (stat.st_dev, stat.st_ino)
    with _lock:
        _kept[file] += 1
        if not _is_watching:
            _is_watching = True
            # A forked child has locks of its own, and none of ours to lose.
            os.register_at_fork(after_in_child=_kept.clear)
            sys.addaudithook(_watch)
    return file


def let_go(file: FileId) -> None:
    """Allow the file again: its last connection is closed."""
    with _lock:
        _kept[file] -= 1
        if _kept[file] <= 0:
            del _kept[file]


def check_same(path: Path, file: FileId) -> None:
    """Raise `StoreUnusable` where the path no longer names this file."""
    if _id(str(path)) != file:
        raise StoreUnusable(
            f"the SQLite file {str(path)!r} was moved, deleted or replaced while it was open; put "
            "it back, or stop this process: what it commits goes where nobody will find it"
        )


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    # It is called for everything that Python audits, thousands of times in an import.
    if event not in ("open", "sqlite3.connect") or not _kept:
        return
    path = arguments[0]
    if isinstance(path, int) or not _is_kept(path):
        return
    raise Misuse(
        f"{os.fspath(path)!r} is open here as a store, and to open it once more in this process "
        "would drop the locks of SQLite: what is committed could be lost. Read it from another "
        "process, such as the sqlite3 program; write to it in a step with effect='transactional'; "
        "copy it by VACUUM INTO from another process"
    )


def _is_kept(path: Any) -> bool:
    name = os.fsdecode(path)
    names = [name, name.removesuffix(_SHARED)]
    if name.startswith("file:"):  # a URI, if sqlite3 was told to take it for one
        names.append(unquote(name[5:].partition("?")[0]))
    return any(_id(each) in _kept for each in names)


def _id(name: str) -> FileId | None:
    try:
        stat = Path(name).stat()
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino
