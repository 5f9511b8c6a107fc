"""A lock on a file that a process holds for as long as it lives: how others learn of its death.

The kernel frees the lock when the process dies, however it dies. So a lock that is there and free
is proof of a death on this host, and a lock that isn't there proves nothing. ``flock`` it is: the
locks of ``lockf`` are shared by a whole process and lost when any handle on the file is closed. A
forked orphan may hold the lock on; then nobody knows, and the lease decides.
"""

import fcntl
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from substrate.values.records import Owner

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def lock_file(folder: Path, owner: Owner) -> Path | None:
    """Return the lock file of a worker in a folder; None for a name that is no file's there.

    Names of workers are read from rows, and the files of dead ones are removed: what stands in a
    row must not lead to another file.
    """
    return folder / owner if _NAME.fullmatch(owner) else None


class LifeLock:
    """The lock of one worker, held by the process that made it. Raises `OSError` where it can't."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(mode=0o700, exist_ok=True)
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise

    def release(self) -> None:
        """Give the lock up. The file goes first: found free, it would tell of a death."""
        remove(self._file)
        os.close(self._handle)


def is_free(file: Path) -> bool:
    """Whether the process that held this lock has died: it is there, and free."""
    try:
        probe = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Between our two looks its process may have removed it and given it up, alive and well.
        return file.exists()
    except OSError:
        return False
    finally:
        os.close(probe)


def remove(file: Path) -> None:
    """Remove the lock of a worker whose runs have been taken back."""
    with suppress(FileNotFoundError, PermissionError, IsADirectoryError):
        file.unlink()


def host_folder() -> Path | None:
    """Return where the processes of this user keep locks on this host; None where they cannot.

    Containers that share no temporary folder find no locks of each other, and so prove nothing.
    """
    folder = Path(tempfile.gettempdir()) / f"ostinato-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = folder.stat().st_uid == os.getuid() and not folder.is_symlink()
    except OSError:
        return None
    return folder if is_ours else None


def host_file(owner: Owner) -> Path | None:
    """Return the lock file of a worker whose store has no folder, or None; see `lock_file`."""
    folder = host_folder()
    return None if folder is None else lock_file(folder, owner)
