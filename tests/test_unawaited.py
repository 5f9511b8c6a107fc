"""A call that nobody awaits is found in a tool before a model is asked, and no other call is."""

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest

from substrate import Context
from substrate.agent.hook_checks import tools_fault
from substrate.agent.tool import tool


async def fetch(what: str = "") -> str:
    """Fetch something."""
    return what


@tool(effect="pure")
async def other(what: str = "") -> str:
    """Be another tool."""
    return what


class Shop:
    """Something with methods."""

    async def fetch(self) -> None:
        """Fetch something."""


shop = Shop()


async def alone(what: str) -> str:
    fetch(what)
    return what


async def within(what: str) -> str:
    for _ in what:
        if what:
            asyncio.sleep(1)
    return what


async def another_tool(what: str) -> str:
    other(what)
    return what


async def returned(what: str) -> str:
    return fetch(what)  # type: ignore[return-value]


def plain(what: str) -> str:
    fetch(what)
    return what


async def with_ctx(ctx: Context, what: str) -> str:
    fetch(what)
    return await ctx.step(fetch, what)


async def kept(what: str) -> str:
    made = fetch(what)  # noqa: F841
    return what


async def kept_with_its_type(what: str) -> str:
    made: Any = fetch(what)  # noqa: F841
    return what


async def kept_in_passing(what: str) -> str:
    (made := fetch(what))  # noqa: F841, PLW0131
    return what


async def several_kept(what: str) -> str:
    made = [fetch(what) for _ in what]  # noqa: F841
    return what


async def kept_twice(what: str) -> str:
    made = fetch(what)
    made = fetch(what)  # noqa: F841
    return what


async def in_a_list(what: str) -> str:
    [fetch(what), fetch(what)]
    return what


async def in_a_generator(what: str) -> str:
    (fetch(what) for _ in what)
    return what


async def in_a_set(what: str) -> str:
    {fetch(what) for _ in what}
    return what


async def in_a_dict(what: str) -> str:
    {each: fetch(what) for each in what}
    return what


async def in_a_condition(what: str) -> str:
    fetch(what) if what else None
    return what


async def after_and(what: str) -> str:
    what and fetch(what)
    return what


INSIDE = [in_a_list, in_a_generator, in_a_set, in_a_dict, in_a_condition, after_and]
KEPT = [kept, kept_with_its_type, kept_in_passing, several_kept, kept_twice]

FOUND = [alone, within, another_tool, returned, plain, with_ctx, *INSIDE, *KEPT]


@pytest.mark.parametrize("function", FOUND, ids=lambda each: each.__name__)
def test_it_is_found(function: Any) -> None:
    """The line is told, and what to write there."""
    told = tools_fault([tool(description="Do.")(function)]) or ""

    assert told.startswith(f"`tools` has the tool {function.__name__!r}: in {__file__}:")
    assert "is async, and nobody awaits it, so it does nothing; write `await " in told
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = lines[int(told.partition(f"{__file__}:")[2].partition(":")[0]) - 1]
    assert any(each in line for each in ("fetch(what)", "asyncio.sleep(1)", "other(what)"))


async def awaited(what: str) -> str:
    await fetch(what)
    return await fetch(what)


async def handed_over(what: str) -> str:
    task = asyncio.create_task(fetch(what))
    await asyncio.gather(fetch(what), task)
    functools.partial(fetch, what)
    return what


async def of_a_task(what: str) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(fetch(what))
    return what


async def shadowed(what: str) -> str:
    fetch = print
    fetch(what)
    return what


async def its_own(what: str) -> str:
    async def made() -> None:
        return None

    def later() -> Any:
        return fetch(what)

    return str(await made() or later)


def hands_on(what: str) -> Any:
    return fetch(what)


async def of_an_object(what: str) -> str:
    await shop.fetch()
    print(what)
    return what


LEFT = [awaited, handed_over, of_a_task, shadowed, its_own, hands_on, of_an_object]


@pytest.mark.parametrize("function", LEFT, ids=lambda each: each.__name__)
def test_others_are_not(function: Any) -> None:
    """What is awaited, handed to somebody, or means something else is left alone."""
    assert tools_fault([tool(description="Do.")(function)]) is None


def test_what_has_no_source() -> None:
    """A function whose source nobody has is taken as it is."""
    names: dict[str, Any] = {"fetch": fetch, "__name__": "typed"}
    exec("async def made(what: str) -> str:\n    fetch(what)\n    return what", names)

    assert tools_fault([tool(description="Do.")(names["made"])]) is None
