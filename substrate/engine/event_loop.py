"""Checks that the caller runs under asyncio, the only event loop that the kit supports."""

import asyncio

from substrate.values.errors import Misuse


def check_loop() -> None:
    """Raise `Misuse` if the caller is not an asyncio task.

    A running loop is not enough: trio in guest mode runs its tasks inside an asyncio loop, but its
    tasks cannot await asyncio's futures. Then there is a loop, but no current task.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        raise Misuse(
            "ostinato runs under asyncio only, and this is no task of asyncio's; start it with "
            "asyncio.run(main()), or anyio.run(main, backend='asyncio') in place of trio"
        )
