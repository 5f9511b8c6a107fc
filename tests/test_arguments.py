"""A step is called with its arguments as they were when it was asked for, live and on replay."""

from collections import deque
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from substrate import Context, Done, NotDone, OutcomeUnknown, Retry, connect, durable
from substrate.agent.tool import tool
from substrate.agent.tool_call import call_of
from substrate.engine.function.arguments import copied
from substrate.models.messages import ToolCall
from substrate.values.codec import decode
from tests.runs import QUICK, taken_over

given: list[Any] = []


@pytest.fixture(autouse=True)
def _afresh():
    given.clear()


def sorts(rows: list[int]) -> int:
    rows.sort()
    return len(rows)


async def sorts_async(rows: list[int], *, by: dict[str, list[int]]) -> int:
    rows.sort()
    by["order"].append(1)
    return len(rows)


def writes_sorted(tx: Any, rows: list[int]) -> int:
    rows.sort()
    return len(rows)


async def look(rows: list[int]) -> list[int]:
    return rows


@durable
async def changes(ctx: Context) -> Any:
    rows, order, items = [3, 1, 2], {"order": [0]}, [[2, 1], [4, 3]]
    await ctx.step(sorts, rows)
    await ctx.step(sorts_async, rows, by=order)
    await ctx.step(writes_sorted, rows, effect="transactional")
    await ctx.map(sorts, items)
    before_go = await ctx.step(look, [rows, order, items])
    await ctx.receive("go")
    return [before_go, await ctx.step(look, [rows, order, items])]


async def test_live_and_replay(store_url):
    """What a step does to its arguments reaches nobody: live and replayed code see the same."""
    untouched = [[3, 1, 2], {"order": [0]}, [[2, 1], [4, 3]]]

    async with taken_over(store_url, changes) as client:
        assert await client.result("run") == [untouched, untouched]


async def test_a_caller_that_changes_them_later(store_url):
    """What is changed between the call and its await is neither given nor recorded."""

    @durable
    async def late(ctx: Context) -> Any:
        queue = [1]
        first, many = ctx.step(look, queue), ctx.map(look, [queue, queue])
        queue.append(2)
        return [await first, *await many]

    async with connect(store_url) as client, client.work([late], options=QUICK):
        await client.start(late, id="run")
        assert await client.result("run") == [[1], [1], [1]]
        rows = {row.key: decode(row.input or "null") for row in await client.journal("run")}

    assert rows["look.0"] == rows["look.1/0"] == rows["look.1/1"] == [[1]]


async def test_each_attempt(store_url):
    """Every attempt is given the arguments anew, whatever the one before did to them."""

    def flaky(rows: list[int]) -> int:
        given.append(list(rows))
        rows.clear()
        if len(given) < 3:
            raise ConnectionResetError("again")
        return len(given)

    @durable
    async def tries(ctx: Context) -> int:
        return await ctx.step(flaky, [1, 2], retry=Retry(max_attempts=3, initial=0))

    async with connect(store_url) as client, client.work([tries], options=QUICK):
        await client.start(tries, id="run")
        assert await client.result("run") == 3

    assert given == [[1, 2]] * 3


async def test_reconcile_and_undo(store_url):
    """`reconcile` and `undo` get the arguments as recorded, not as the call has left them."""

    async def spoils(rows: list[int]) -> None:
        rows.append(9)
        raise ConnectionResetError("who knows")

    async def asked(rows: list[int], idempotency_key: str) -> Done | NotDone | None:
        given.append(["asked", *rows, len(idempotency_key)])
        rows.append(8)
        return None

    @durable
    async def undoes(ctx: Context, rows: list[int]) -> None:
        given.append(["undoes", *rows])

    @durable
    async def order(ctx: Context) -> None:
        rows = [1]
        pending = ctx.step(spoils, rows, effect="once", reconcile=asked, undo=undoes)
        rows.append(7)
        with pytest.raises(OutcomeUnknown):
            await pending
        raise ValueError("off")

    async with connect(store_url) as client, client.work([order, undoes], options=QUICK):
        await client.start(order, id="run")
        with pytest.raises(Exception, match="off"):
            await client.result("run")

    assert given == [["asked", 1, 36], ["undoes", 1]]


async def test_a_tool(sqlite_url):
    """A tool that changes what the model gave it changes no message of the conversation."""

    @tool
    async def spoils(table: dict[str, Any]) -> str:
        """Spoil a table."""
        table.clear()
        return "done"

    call = ToolCall("c1", "spoils", {"table": {"a": 1}})

    @durable
    async def agent(ctx: Context) -> Any:
        await call_of(ctx, {"spoils": spoils}, call, key=ctx.take_key("spoils"))
        return call.arguments

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, id="run")
        assert await client.result("run") == {"table": {"a": 1}}


def test_copies():
    """A copy is equal, of the same types, and has nothing mutable in common."""
    value = {"rows": [1, [2.5, None]], "pair": ({"a": b"b"}, "c"), "more": deque([[1]])}

    copy = copied(value)

    assert copy == value
    assert type(copy["pair"]) is tuple
    assert type(copy["more"]) is deque
    for mine, theirs in (
        (copy, value),
        (copy["rows"][1], value["rows"][1]),
        (copy["pair"][0], value["pair"][0]),
        (copy["more"][0], value["more"][0]),
    ):
        assert mine is not theirs


async def test_a_tool_s_attempts(sqlite_url):
    """What the model gave is checked once for an attempt, and no two attempts share an object."""
    checks: list[Any] = []

    def checked(rows: list[int]) -> list[int]:
        checks.append(rows)
        return rows

    @tool(effect="pure", retry=Retry(max_attempts=3, initial=0))
    async def flaky(rows: Annotated[list[int], AfterValidator(checked)]) -> int:
        """Fail twice."""
        given.append(list(rows))
        rows.clear()
        if len(given) < 3:
            raise ConnectionResetError("again")
        return len(given)

    @durable
    async def agent(ctx: Context) -> Any:
        call = ToolCall("c1", "flaky", {"rows": [1, 2]})
        return await call_of(ctx, {"flaky": flaky}, call, key=ctx.take_key("flaky"))

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, id="run")
        assert await client.result("run") == 3

    assert given == [[1, 2]] * 3
    assert len(checks) == len(given)
