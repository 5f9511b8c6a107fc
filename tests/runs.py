"""What tests of runs share: limits that are quick, and ways to see how far a run has come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from substrate import Client, Durable, WorkerOptions, connect
from tests.stores import eventually

QUICK = WorkerOptions(
    lease=timedelta(seconds=1), poll=timedelta(milliseconds=20), shutdown_grace=timedelta(seconds=5)
)


async def keys(client: Client, run_id: str) -> list[str]:
    """Return the keys of a run's journal, in the order in which they came to be as they are."""
    return [promise.key for promise in await client.journal(run_id)]


async def reached(client: Client, run_id: str, key: str) -> None:
    """Return when this key is in the run's journal."""

    async def is_there() -> bool:
        return key in await keys(client, run_id)

    await eventually(is_there)


@asynccontextmanager
async def taken_over(
    url: str, first: Durable[..., Any], second: Durable[..., Any] | None = None, *args: Any
) -> AsyncIterator[Client]:
    """Drive the run `run` until it waits for the signal `go`, and go on with it on another worker.

    The other one knows the function as `second`, where that is given. Yields what drives it there.
    """
    async with connect(url) as client:
        async with client.work([first], options=QUICK):
            await client.start(first, *args, id="run")
            await reached(client, "run", "go.0")
        async with client.work([second or first], options=QUICK):
            await client.signal("run", "go")
            yield client
