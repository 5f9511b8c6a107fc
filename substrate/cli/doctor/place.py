"""Where the agent runs: Python and the kit, ``.env``, the folder, the time zone."""

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from substrate.cli import keyboard
from substrate.cli.doctor.finding import Finding, fail, ok, warn
from substrate.cli.environment import DotenvBroken, load_dotenv, read_dotenv, timezone
from substrate.installed import how_to_add, origin, version
from substrate.models.day import zone_of

LEAST_FREE = 200_000_000
"""How many bytes a folder should have left for runs and what tools write."""


def look_at_dotenv(folder: Path) -> Iterator[Finding]:
    """Set what ``.env`` sets, as each command does, and say how it is."""
    file = folder / ".env"
    try:
        names = sorted(read_dotenv(file))
        load_dotenv(folder)
    except DotenvBroken as error:
        yield fail(".env", str(error))
        return
    if not file.exists():
        yield ok(".env", "there is none: what is set outside counts")
        return
    is_open = stat.S_IMODE(file.stat().st_mode) & 0o077
    said = f"sets {', '.join(names) or 'nothing'}"
    if is_open and os.name == "posix":
        yield warn(".env", f"{said}, and others on this machine can read it", "chmod 600 .env")
    else:
        yield ok(".env", said)


def look_at_place(folder: Path) -> Iterator[Finding]:
    """Say which Python and kit these are, and whether the folder can be written to."""
    where = origin()
    yield ok(
        "python", f"{platform.python_version()}, ostinato {version()}{f' ({where})' * bool(where)}"
    )
    yield _folder(folder)
    yield from _hidden(folder)
    yield from _keyboard()
    if zone := timezone():
        try:
            zone_of(zone)
            yield ok("time zone", f"the agent is told the day in {zone}")
        except ValueError as error:
            yield fail("time zone", f"OSTINATO_TIMEZONE: {error}")


def _hidden(folder: Path) -> Iterator[Finding]:
    """Tell of files that Python's own modules of that name hide, or are hidden by."""
    for file in sorted(folder.glob("*.py")):
        if file.stem in sys.stdlib_module_names:
            said = f"{file.name} has the name of a module of Python's, and `import {file.stem}`"
            yield warn("folder", f"{said} means that one", "give it another name")


def _keyboard() -> Iterator[Finding]:
    try:
        keyboard.check_installed()
    except keyboard.KeyboardMissing:
        said = "prompt-toolkit is not installed: no chat at a terminal, and no question in line"
        yield warn("keyboard", said, how_to_add("chat"))


def _folder(folder: Path) -> Finding:
    shown = str(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return fail(
            "folder",
            f"{shown!r} cannot be written to: {error.strerror}",
            "start the agent where it may write, or grant that: runs.db and what tools write are "
            "in the current folder",
        )
    if free < LEAST_FREE:
        said = f"{shown!r} has {free / 1e6:,.0f} MB left"
        return warn("folder", said, "make room: on a full disk nothing is recorded, and runs stop")
    return ok("folder", f"{shown!r} can be written to, {free / 1e9:,.0f} GB left")
