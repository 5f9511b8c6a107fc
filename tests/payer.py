"""An agent that asks Anthropic's own client, in a worker process that a test may kill."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from substrate import WorkerOptions, connect
from substrate.agent.tool import tool
from substrate.models.model import Model, disconnect
from tests.crew import LEASE, WorkerProcess
from tests.loops import make_agent
from tests.processes import Process

LIMITS = WorkerOptions(
    lease=LEASE, poll=timedelta(milliseconds=20), idle_timeout=timedelta(milliseconds=500)
)


@tool(effect="pure")
def look(what: str) -> str:
    """Look something up."""
    return f"{what}: two"


agent = make_agent(Model("anthropic:claude-sonnet-5-5"), [look])


@contextmanager
def payer(url: str, server: str) -> Iterator[WorkerProcess]:
    """Start a worker process whose model is at this server; it is gone when the block ends."""
    process = Process(target=_be_payer, args=(url, server))
    process.start()
    try:
        yield WorkerProcess(process)
    finally:
        process.kill()
        process.join()


def _be_payer(url: str, server: str) -> None:
    os.environ |= {"ANTHROPIC_API_KEY": "a-key", "ANTHROPIC_BASE_URL": server}
    asyncio.run(_pay(url))


async def _pay(url: str, **limits: Any) -> None:
    async with connect(url) as client, client.work([agent], options=LIMITS):
        try:
            await asyncio.Event().wait()
        finally:
            await disconnect()
