"""A tool and a durable function can be called as the functions that they are, as unit tests do."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from substrate import Context, Misuse, RunFailed, connect, durable
from substrate.agent.tool import tool
from tests.runs import QUICK, keys


@tool(effect="pure")
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool
async def fetch(page: int) -> str:
    """Return a page."""
    await asyncio.sleep(0)
    return f"page {page}"


@tool
async def collect(ctx: Context, order: int) -> str:
    """Charge for an order."""
    return await ctx.step(fetch.function, order)


@durable
async def order(ctx: Context, item: str, pieces: int = 1) -> str:
    return f"{pieces} {item} for {ctx.run_id}"


async def test_tools():
    """A plain tool is plain, an async one is async, and one that takes a ctx is given one."""
    assert add(2, b=3) == 5
    assert await fetch(7) == "page 7"

    async def step(fn: Any, *args: Any) -> Any:
        return await fn(*args)

    assert await collect(SimpleNamespace(step=step), 7) == "page 7"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        add()  # type: ignore[call-arg]


async def test_a_tool_in_a_run(sqlite_url):
    """In a run a tool is called with the run's own ctx, and its steps are the run's."""

    @durable
    async def runs(ctx: Context) -> str:
        return await collect(ctx, 7)

    async with connect(sqlite_url) as client, client.work([runs], options=QUICK):
        await client.start(runs, id="run")
        assert await client.result("run", runs) == "page 7"
        assert await keys(client, "run") == ["fetch.0", "run"]


async def test_durable_functions():
    """A durable function is called with what stands for its context, and nothing is recorded."""
    fake: Any = SimpleNamespace(run_id="order/1")

    assert await order(fake, "lamp", pieces=2) == "2 lamp for order/1"


@pytest.mark.parametrize("given", ["lamp", 3, None, order])
def test_no_context(given):
    """Called without a context, it says what to write instead."""
    with pytest.raises(
        Misuse, match=r"in the place of its ctx; write ctx\.call\(order, …\) inside"
    ):
        order(given, "lamp")


async def test_a_tool_as_a_step(sqlite_url):
    """A tool in the place of a step's function is refused, with what to write."""

    @durable
    async def runs(ctx: Context) -> int:
        return await ctx.step(add, 2)

    async with connect(sqlite_url) as client, client.work([runs], options=QUICK):
        await client.start(runs, id="run")
        with pytest.raises(RunFailed, match=r"'add' is no plain function; .* add\.function"):
            await client.result("run")


@pytest.mark.parametrize("operation", ["call", "spawn"])
async def test_a_tool_as_a_durable_function(sqlite_url, operation):
    """A tool in the place of a durable function is refused, with what to write."""

    @durable
    async def runs(ctx: Context) -> Any:
        return await getattr(ctx, operation)(collect, 7)

    told = r"'collect' is a tool; put @durable on a function that calls it like .*: collect\(…\)"
    async with connect(sqlite_url) as client, client.work([runs], options=QUICK):
        await client.start(runs, id="run")
        with pytest.raises(RunFailed, match=told):
            await client.result("run")
        with pytest.raises(Misuse, match=told):
            await client.start(collect, 7, id="collect")  # type: ignore[arg-type]


async def test_a_plain_function_that_is_started(sqlite_url):
    """Started without `@durable`, a function is refused with the decorator's name."""

    async def plain(ctx: Context, item: str) -> None: ...

    async with connect(sqlite_url) as client:
        with pytest.raises(
            Misuse, match=r"function plain \(.* is no durable function; put @durable"
        ):
            await client.start(plain, "lamp", id="run")  # type: ignore[arg-type]
