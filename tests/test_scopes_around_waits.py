"""A cancel scope of one's own round a wait is a mistake that is named, whatever is waited for."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, RunFailed, RunStatus, WorkerOptions, connect, durable
from substrate.agent import answer, ask_person
from tests.runs import QUICK
from tests.stores import eventually
from tests.test_approvals import open_gates

WARM = WorkerOptions(poll=0.05, idle_timeout=60)


@durable
async def child(ctx: Context) -> str:
    return await ctx.receive("go", str)


async def wait_in(ctx: Context, kind: str) -> Any:
    match kind:
        case "a question":
            return await ask_person(ctx, "Who?", type=str)
        case "a signal":
            return await ctx.receive("go", str)
        case "a timer":
            return await ctx.sleep(timedelta(days=1))
    return await ctx.spawn(child)


KINDS = ["a question", "a signal", "a timer", "a child"]


@durable
async def in_scope(ctx: Context, kind: str, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await wait_in(ctx, kind)
    except TimeoutError:
        return "timed out"


@pytest.mark.parametrize("kind", KINDS)
async def test_it_ends_the_wait(store_url: str, kind: str) -> None:
    """Where it cuts a wait off, the run fails and says what to give instead; nobody is asked."""
    async with connect(store_url) as client, client.work([in_scope, child], options=WARM):
        await client.start(in_scope, kind, 0.1, id="r")
        with pytest.raises(RunFailed, match=r"cancelled from outside; do not wrap it in .*timeout"):
            await client.result("r")
        assert await open_gates(client) == []


@pytest.mark.parametrize("kind", ["a question", "a signal"])
async def test_it_is_gone_with_the_process(store_url: str, kind: str) -> None:
    """A run that is suspended waits without it: the wait ends by what it waits for."""
    async with (
        connect(store_url) as client,
        client.work([in_scope, child], options=QUICK) as worker,
    ):
        await client.start(in_scope, kind, 30, id="r")
        await worker.run_until_idle()
        assert (await client.get("r")).status is RunStatus.SUSPENDED
        if kind == "a question":
            (gate,) = await eventually(lambda: open_gates(client))
            await answer(client, gate, "ada", by="bob")
        else:
            await client.signal("r", "go", "ada")
        assert await client.result("r") == "ada"
