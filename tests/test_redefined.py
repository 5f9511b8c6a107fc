"""A function that is defined anew is driven as it is now; another under its name is refused."""

import types
from typing import Any

import pytest

from substrate import Context, Durable, Misuse, RunFailed, connect, durable
from tests.runs import QUICK

CELL = """
from substrate import Context, durable

@durable
async def order(ctx: Context, n: int) -> int:
    return n + {more}

@durable
async def give_back(ctx: Context) -> None:
    done.append({more})
"""


def cell(more: int, done: list[int]) -> types.SimpleNamespace:
    """Run a notebook's cell, which defines its functions anew; return what they are now."""
    names: dict[str, Any] = {"__name__": "notebook", "done": done}
    exec(CELL.format(more=more), names)
    return types.SimpleNamespace(**names)


async def test_a_cell_that_is_run_again(store_url):
    """After a cell has redefined a function, a run that is started with it runs the new code."""
    first = cell(5, [])
    async with connect(store_url) as client, client.work([first.order], options=QUICK):
        await client.start(first.order, 3, id="first")
        assert await client.result("first") == 8
        second = cell(10, [])
        await client.start(second.order, 3, id="second")
        assert await client.result("second") == 13


async def test_a_child_that_is_redefined(store_url):
    """A child of a function that was redefined runs the new code."""
    now = [cell(5, [])]

    @durable
    async def parent(ctx: Context) -> int:
        return await ctx.spawn(now[0].order, 3)

    async with connect(store_url) as client, client.work([parent, now[0].order], options=QUICK):
        await client.start(parent, id="first")
        assert await client.result("first") == 8
        now[0] = cell(10, [])
        await client.start(parent, id="second")
        assert await client.result("second") == 13


async def test_an_undo_that_is_redefined(sqlite_url):
    """An undo that was redefined is known, and is called as it is now."""
    done: list[int] = []
    now = [cell(1, done)]

    async def charge() -> None: ...

    @durable
    async def parent(ctx: Context) -> None:
        await ctx.step(charge, undo=now[0].give_back)
        raise ValueError("sold out")

    works = [parent, now[0].give_back]
    async with connect(sqlite_url) as client, client.work(works, options=QUICK):
        now[0] = cell(2, done)
        await client.start(parent, id="run")
        with pytest.raises(RunFailed, match="sold out"):
            await client.result("run")
    assert done == [2]


@durable(name="order")
async def here(ctx: Context, n: int) -> str:
    return "here"


@durable(name="order")
async def there(ctx: Context, n: int) -> str:
    return "there"


async def test_another_function_under_the_name(store_url):
    """A run of another function under a name that the worker knows is refused, with both told."""

    @durable
    async def parent(ctx: Context) -> str:
        try:
            return await ctx.spawn(there, 1)
        except Misuse as error:
            return str(error)

    told = r"'order', version 1, is tests.test_redefined.there here, and tests.test_redefined.here"
    async with connect(store_url) as client, client.work([here, parent], options=QUICK):
        with pytest.raises(Misuse, match=told):
            await client.start(there, 1, id="run")
        await client.start(parent, id="parent")
        assert "give the right one to work([…])" in await client.result("parent")
        await client.start(here, 1, id="run")
        assert await client.result("run") == "here"


async def test_what_one_function_makes_twice(sqlite_url):
    """A durable function that is made by another, each time it is asked for, is one function."""

    def make() -> Durable[..., str]:
        @durable
        async def made(ctx: Context) -> str:
            return "made"

        return made

    async with connect(sqlite_url) as client, client.work([make()], options=QUICK):
        await client.start(make(), id="run")
        assert await client.result("run") == "made"


async def test_two_under_one_name(sqlite_url):
    """Two functions of one name and version are refused; the same one twice is one."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"two functions 'order', version 1: tests"):
            async with client.work([here, there], options=QUICK):
                pass
        async with client.work([here, here], options=QUICK):
            await client.start(here, 1, id="run")
            assert await client.result("run") == "here"


async def test_where_no_worker_is(sqlite_url):
    """A client without a worker starts whatever it is given: who drives it knows its own code."""
    async with connect(sqlite_url) as client:
        await client.start(there, 1, id="run")
        async with client.work([here], options=QUICK):
            assert await client.result("run") == "here"
