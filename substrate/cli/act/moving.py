"""`memory export` and `memory import`: a namespace as lines of JSON."""

import asyncio
from pathlib import Path

from rich.text import Text

from substrate.cli.database import open_or_make_database, opened
from substrate.cli.errors import UsageError, blaming_what_was_typed
from substrate.cli.fork import check_there
from substrate.cli.format import visible_json
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_screen, put
from substrate.cli.streams import write
from substrate.values.errors import InvalidId

_EACH = 10_000  # changes between two words on how far it is


async def export(invocation: Invocation, namespace: str, to: str | None) -> int:
    """Print a namespace, a line of JSON each, or write it into a file when it is whole."""
    async with opened(invocation) as client:
        try:
            if to is None:
                async for line in client.export_memory(namespace):
                    write(visible_json(line))
                return 0
            part = Path(f"{to}.part")
            with await asyncio.to_thread(part.open, "w", encoding="utf-8") as file:
                async for line in client.export_memory(namespace):
                    file.write(line)
            await asyncio.to_thread(part.replace, to)
        except (InvalidId, OSError) as error:
            raise UsageError(str(error)) from None
    return 0


async def import_exported(invocation: Invocation, file: str, into: str | None) -> int:
    """Import a file, and say how many changes were new."""
    check_there(invocation.package)
    async with open_or_make_database() as client:  # it may be where everything begins
        try:
            with blaming_what_was_typed():
                new = await client.import_memory(file, into=into, on_progress=_tell)
        except (InvalidId, OSError) as error:
            raise UsageError(str(error)) from None
    if invocation.is_json:
        print_document({"new": new})
    else:
        put(open_screen(), Text(f"{new} changes were new"))
    return 0


def _tell(n: int, last_n: int) -> None:
    if n // _EACH > (n - 256) // _EACH and n < last_n:
        put(open_screen(), Text(f"change {n} of {last_n}", "dim"))
