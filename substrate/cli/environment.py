"""The environment, read here and nowhere below: ``.env`` in the current folder, and DATABASE_URL.

What is set outside wins over the file. A line of it is ``KEY=VALUE``, with ``export`` before it or
without; a value in quotes is taken as it stands between them, one without ends before `` #``.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from substrate.values.errors import Misuse

DEFAULT_DATABASE = "sqlite:///runs.db"

_LINE = re.compile(
    r"""\s* (?:export\s+)? (?P<key>[A-Za-z_][A-Za-z0-9_]*) \s*=\s*
        (?: '(?P<single>[^']*)' | "(?P<double>[^"]*)" | (?P<bare>[^\s'"\#] (?:\S|\s(?!\s*\#))*)? )
        \s* (?:\#.*)?""",
    re.VERBOSE,
)


class DotenvBroken(Misuse):
    """A line of ``.env`` is none. Nothing was read from the file, and nothing was started."""


def load_dotenv(folder: Path) -> None:
    """Set what the folder's ``.env`` has and the environment does not. Raises `DotenvBroken`."""
    for key, value in read_dotenv(folder / ".env").items():
        os.environ.setdefault(key, value)


def read_dotenv(file: Path) -> Mapping[str, str]:
    """Return what the file sets; nothing where there is none."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DotenvBroken(
            f"{file.name} cannot be read: {error}; mend it, or move it away"
        ) from None
    written = {
        n: line for n, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"
    }
    return dict(_read_line(f"{file.name}:{number}", line) for number, line in written.items())


def database_url() -> str:
    """Return where runs live: DATABASE_URL, or a SQLite file in the current folder."""
    return os.environ.get("DATABASE_URL") or DEFAULT_DATABASE


def timezone() -> str | None:
    """Return the time zone in which the person who asks lives: OSTINATO_TIMEZONE, if it is set."""
    return os.environ.get("OSTINATO_TIMEZONE") or None


def _read_line(place: str, line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:  # the line may hold a secret, so it is not shown
        raise DotenvBroken(f"{place} sets nothing; write KEY=VALUE, and close its quotes")
    return match["key"], match["single"] or match["double"] or (match["bare"] or "").rstrip()
