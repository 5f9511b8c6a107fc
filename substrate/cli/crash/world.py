"""The folder that an agent works in, copied for each case, and what files are left in it.

Invariants: what an editor, git, a cache or an environment keeps beside the agent is not copied, nor
are its keys (``.env``) and its runs. A link that points out of the folder points there in the copy,
too: what lies there is shared.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from hashlib import file_digest
from pathlib import Path

from substrate.values.errors import Misuse

MOST_BYTES = 256 * 1024 * 1024
"""How large a folder is copied at most, once for each case."""

_LEFT_OUT = (
    *(".git", ".hg", ".venv", "venv", "node_modules", ".tox", ".env", ".env.*", ".envrc"),
    *(".idea", ".vscode", ".*_cache", ".hypothesis", "*.egg-info"),
)
_NOT_COMPARED = ("__pycache__", "*.pyc")


class CannotCopy(Misuse):
    """The fork's folder is too large to be copied for each case, or cannot be. Nothing was done."""


def copy_folder(source: Path, target: Path, without: tuple[Path, ...] = ()) -> None:
    """Copy a folder, without what is left out, and without these files.

    What lies in one of these, where it is a folder, is left out, too. Raises `CannotCopy`, with the
    largest things in it where it is too large.
    """
    try:
        _copy(source, target, without)
    except OSError as error:
        at = error.filename2 or error.filename or str(source)
        raise CannotCopy(
            f"{at!r} cannot be copied: {error.strerror}; each kill works in a copy of "
            f"{str(source)!r}, in the folder that TMPDIR names"
        ) from error


def _copy(source: Path, target: Path, without: tuple[Path, ...]) -> None:
    sizes: dict[str, int] = {}
    for path in _files(source, without):
        if not path.is_symlink():
            top = path.relative_to(source).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    if sum(sizes.values()) > MOST_BYTES:
        most = sorted(sizes, key=lambda name: -sizes[name])[:3]
        told = ", ".join(f"{name} ({sizes[name] / 1e6:,.0f} MB)" for name in most)
        raise CannotCopy(
            f"{str(source)!r} has {sum(sizes.values()) / 1e6:,.0f} MB, and is copied for each "
            f"kill; put what is large outside, with a link to it: {told}"
        )
    target.mkdir(parents=True)
    for path in list(_files(source, without)):
        there = target / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            there.symlink_to(_link_of(path, source))
        else:
            shutil.copy2(path, there)


def files_in(folder: Path) -> Mapping[str, str]:
    """Return a hash of each file of a folder, by its path in it."""
    found = {}
    for path in _files(folder):
        name = str(path.relative_to(folder))
        if any(fnmatch(part, each) for part in Path(name).parts for each in _NOT_COMPARED):
            continue
        if not path.is_symlink():
            with path.open("rb") as file:
                found[name] = file_digest(file, "sha256").hexdigest()
    return found


def _files(folder: Path, without: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield each file and link in a folder, but for those left out."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if any(fnmatch(entry.name, each) for each in _LEFT_OUT) and entry.name != ".env.example":
            continue
        if Path(entry.path) in without:
            continue
        if entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), without)


def _link_of(path: Path, source: Path) -> str:
    """Return where a link points in the copy: the same if that is in the folder, else from afar."""
    to = path.readlink()
    there = (path.parent / to).resolve()
    is_inside = not to.is_absolute() and there.is_relative_to(source.resolve())
    return str(to if is_inside else (path.parent / to).absolute())
