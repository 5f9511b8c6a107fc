"""What the processes that are forked need not do again: it is done here, before them.

It is imported last by the process that others are forked from (`tests/processes.py`). One run of
each kind is driven to its end there, in a database that goes away with it: so what is made once of
a function's types, and what is imported when it is first used, is there. And what there is is left
alone by the garbage collector: a collection in one of them would look at, and so copy, all of it.
"""

import asyncio
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

from tests import (
    advised,
    asker,
    deferrer,
    delegating,
    desk,
    everything,
    interventions,
    memories,
    surveying,
    talking,
)

__all__: list[str] = []

DRIVEN: tuple[Any, ...] = (
    *(advised, asker, deferrer, delegating, desk, everything),
    *(interventions, memories, surveying, talking),
)
"""Modules of a case that is killed at its commits."""


def _drive_each() -> None:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for module in DRIVEN:
            world = Path(folder) / module.__name__
            world.mkdir()
            case = module.Case(f"sqlite:///{world}/runs.db", "first", world)
            if module is everything:
                asyncio.run(everything.prepare(case))
            module._drive(case, 0, module.Side.BEFORE)
        os.chdir(here)


_drive_each()
# Those that are forked live for one run.
gc.disable()
gc.collect()
gc.freeze()
