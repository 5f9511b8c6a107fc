"""``python -m agent.begin ID URL``: begin to watch a page. A worker does the rest.

The same id twice is the same run: nothing is begun anew.
"""

import asyncio
import os
import sys

from agent.watch import watch
from substrate import connect


async def begin(run_id: str, url: str) -> None:
    """Start the run; nobody has to be there to drive it."""
    async with connect(os.environ.get("DATABASE_URL") or "sqlite:///runs.db") as client:
        await client.start(watch.of(url), id=run_id)
    print(f"{run_id} watches {url}")


if __name__ == "__main__":
    asyncio.run(begin(*sys.argv[1:]))
