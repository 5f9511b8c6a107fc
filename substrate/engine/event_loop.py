"""Under what the kit runs: asyncio, and nothing else."""

import asyncio

from substrate.values.errors import Misuse


def check_loop() -> None:
    """Raise `Misuse` where the caller is no task of asyncio's.

    Trio in guest mode runs its tasks within a loop of asyncio's, where none of asyncio's futures
    can be awaited: there is a loop then, and no task.
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
