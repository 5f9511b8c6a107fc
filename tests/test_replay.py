"""A replay does nothing again and comes to the same: what was settled is read, never re-done."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from substrate import Context, Promise, connect, durable
from tests.runs import QUICK, keys, reached, taken_over

calls: Counter[str] = Counter()
"""What was really called, counted outside every journal."""


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def fetch(page: Any) -> Any:
    calls["fetch"] += 1
    return page


async def weigh(page: Any) -> Any:
    calls["weigh"] += 1
    return page


def plain(page: Any) -> Any:
    calls["plain"] += 1
    return page


@durable
async def report(ctx: Context, pages: int) -> list[Any]:
    first = await ctx.step(fetch, 0)
    pair = await ctx.gather(ctx.step(fetch, 1), ctx.call(summary, 2))
    rest = await ctx.map(plain, range(pages), limit=2)
    deep = await ctx.map(summary, range(pages))
    await ctx.sleep(0.001)
    await ctx.receive("go")
    return [first, pair, rest, deep, await ctx.step(fetch, 9)]


@durable
async def summary(ctx: Context, page: int) -> int:
    one, two = await ctx.gather(ctx.step(weigh, page), ctx.step(weigh, page + 1))
    return one + two


async def test_settled_steps_are_not_executed_again(store_url):
    """After a takeover every settled step, call and map item is read, and only the new ones run."""
    async with taken_over(store_url, report, None, 3) as client:
        before = calls.copy()
        result = await client.result("run")

    assert before == {"fetch": 2, "weigh": 8, "plain": 3}
    assert calls - before == {"fetch": 1}
    assert result == [0, [1, 5], [0, 1, 2], [1, 3, 5], 9]


async def test_keys_are_names_and_ordinals_in_their_scope(store_url):
    """A key is the name and how often its scope has used it; scopes are joined by a slash."""
    async with taken_over(store_url, report, None, 2) as client:
        await client.result("run")

        assert sorted(await keys(client, "run")) == [
            "fetch.0",
            "fetch.1",
            "fetch.2",
            "go.0",
            "plain.0/0",
            "plain.0/1",
            "run",
            "sleep.0",
            "summary.0",
            "summary.0/weigh.0",
            "summary.0/weigh.1",
            "summary.1/0",
            "summary.1/0/weigh.0",
            "summary.1/0/weigh.1",
            "summary.1/1",
            "summary.1/1/weigh.0",
            "summary.1/1/weigh.1",
        ]


@durable(name="edited")
async def before_edit(ctx: Context) -> list[Any]:
    one = await ctx.step(fetch, 1)
    two = await ctx.call(summary, 2)
    await ctx.receive("go")
    return [one, two]


@durable(name="edited")
async def after_edit(ctx: Context) -> list[Any]:
    new = await ctx.step(plain, 0)
    one = await ctx.step(fetch, 1)
    await ctx.sleep(0)
    two = await ctx.call(summary, 2)
    await ctx.receive("go")
    return [new, one, two]


async def test_an_inserted_step_moves_no_other(store_url):
    """New operations of other names before and between recorded ones leave these as they are."""
    async with taken_over(store_url, before_edit, after_edit) as client:
        assert await client.result("run") == [0, 1, 5]

    assert calls == {"fetch": 1, "weigh": 2, "plain": 1}


class Colour(Enum):
    RED = "red"


@durable
async def shapes(ctx: Context) -> list[Any]:
    values = [
        (1, (2, 3)),
        Colour.RED,
        {"when": datetime(2026, 1, 2, tzinfo=UTC), "what": b"\0", "how much": Decimal("1.50")},
        float("inf"),
        "nul \0 and lone \ud800",
    ]
    got = [await ctx.step(lambda value=value: value, name="give") for value in values]
    calls[repr(got)] += 1
    await ctx.receive("go")
    return [type(value).__name__ for value in got]


async def test_a_result_is_its_decoded_record_on_the_first_run_too(store_url):
    """A tuple comes back as a list and an enum as its value, live as on replay."""
    async with taken_over(store_url, shapes) as client:
        assert await client.result("run") == ["list", "str", "dict", "float", "str"]

    (both,) = calls
    assert calls[both] == 2
    assert both.startswith("[[1, [2, 3]], 'red', {'how much': Decimal('1.50')")


@durable
async def draws(ctx: Context) -> Any:
    drawn = [ctx.now(), ctx.uuid(), ctx.random(), ctx.random()]
    await ctx.step(fetch, 1)
    one, two = await ctx.gather(ctx.call(inner_draws), ctx.call(inner_draws))
    assert not set(one) & set(two)
    drawn += [ctx.now(), one, two]
    calls[repr(drawn)] += 1
    await ctx.receive("go")
    return repr(drawn)


@durable
async def inner_draws(ctx: Context) -> list[Any]:
    await ctx.step(weigh, 1)
    return [str(ctx.uuid()), ctx.random()]


async def test_time_and_chance_repeat_themselves(store_url):
    """now(), uuid() and random() give on replay what they gave, and differ from each other."""
    async with taken_over(store_url, draws) as client:
        drawn = await client.result("run")

    assert calls[drawn] == 2


async def test_time_moves_on_with_what_was_seen(store_url):
    """now() is when the run was created, then when the last thing it saw was settled."""

    @durable
    async def watch(ctx: Context) -> list[datetime]:
        times = [ctx.now()]
        await ctx.sleep(0.05)
        times.append(ctx.now())
        await ctx.gather(ctx.step(fetch, 1), ctx.sleep(0.05))
        return [*times, ctx.now()]

    async with connect(store_url) as client, client.work([watch], options=QUICK):
        run = await client.start(watch, id="run")
        created, slept, gathered = await client.result("run", watch)
        settled = {p.key: p.settled_at for p in await client.journal("run")}

    ms = [round(time.timestamp() * 1000) for time in (created, slept, gathered)]
    assert ms == [run.created_at, settled["sleep.0"], settled["sleep.1"]]
    assert slept - created >= timedelta(milliseconds=50)


async def test_what_is_settled_does_not_yield(store_url):
    """A replay of settled operations, combinators included, never gives the event loop a turn."""
    async with taken_over(store_url, yields_to_nobody) as client:
        assert await client.result("run") == 0


@durable
async def yields_to_nobody(ctx: Context) -> int:
    turns = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await ctx.step(fetch, 1)
    await ctx.gather(ctx.step(fetch, 2), ctx.call(summary, 3), ctx.sleep(0))
    await ctx.map(plain, [1, 2])
    taken = len(turns)
    await ctx.receive("go")
    return taken


@dataclass(frozen=True)
class Order:
    item: str
    count: int
    due: datetime


class Receipt(BaseModel):
    order: Order
    total: Decimal


@durable
async def sell(ctx: Context, order: Order, tags: set[str], price: Decimal = Decimal(2)) -> Receipt:
    assert isinstance(order, Order)
    assert tags == {"a", "b"}
    receipt = await ctx.call(bill, order, price)
    assert type(receipt) is Receipt
    calls[repr(receipt)] += 1
    await ctx.receive("go")
    return receipt


@durable
async def bill(ctx: Context, order: Order, price: Decimal) -> Receipt:
    assert isinstance(order, Order)
    assert type(price) is Decimal
    return Receipt(order=order, total=price * order.count)


async def test_types_of_arguments_and_results_live(store_url):
    """Annotated dataclasses, models, sets and decimals come back as themselves, live and later."""
    order = Order("owl", 3, datetime(2026, 1, 2, tzinfo=UTC))
    async with taken_over(store_url, sell, None, order, {"a", "b"}) as client:
        receipt = await client.result("run", sell)
        plain_json = await client.result("run")

    assert receipt == Receipt(order=order, total=Decimal(6))
    assert calls == {repr(receipt): 2}
    assert plain_json["total"] == "6"


async def test_a_new_parameter_with_a_default_changes_no_record(store_url):
    """Arguments are recorded as given: a parameter that is added with a default moves nothing."""

    @durable(name="grows")
    async def before(ctx: Context, one: int) -> list[int]:
        await ctx.receive("go")
        return [one]

    @durable(name="grows")
    async def after(ctx: Context, one: int, two: int = 2) -> list[int]:
        await ctx.receive("go")
        return [one, two]

    async with taken_over(store_url, before, after, 1) as client:
        assert await client.result("run") == [1, 2]


@durable
async def tells(ctx: Context) -> None:
    ctx.emit({"at": "start"})
    await ctx.step(fetch, 1)
    ctx.emit({"at": "after the step"})
    await ctx.gather(ctx.call(tells_inside, 0), ctx.call(tells_inside, 1))
    scope = ctx.scope("scope")
    await scope.step(fetch, 2)
    ctx.emit({"at": "before the wait"})
    await scope.receive("go")
    ctx.emit({"at": "end"})
    await scope.step(fetch, 3)


@durable
async def tells_inside(ctx: Context, branch: int) -> None:
    ctx.emit({"at": f"branch {branch}"})
    await ctx.step(fetch, branch)
    await ctx.receive(f"branch{branch}")
    ctx.emit({"at": f"branch {branch} ends"})


async def test_a_replay_tells_nothing(store_url):
    """Each live event is told once: a replay is silent, in each branch until that goes on live."""
    told: list[str] = []

    def listen(run_id: str, event: dict[str, Any]) -> None:
        told.append(event["at"])

    async with connect(store_url) as client:
        async with client.work([tells], options=QUICK, on_event=listen):
            await client.start(tells, id="run")
            await client.signal("run", "branch0")
            await reached(client, "run", "tells_inside.0")
            await reached(client, "run", "tells_inside.1/branch1.0")
        first, told[:] = list(told), []
        async with client.work([tells], options=QUICK, on_event=listen):
            await client.signal("run", "branch1")
            await reached(client, "run", "scope.0/go.0")
        second, told[:] = list(told), []
        async with client.work([tells], options=QUICK, on_event=listen):
            await client.signal("run", "go")
            await client.result("run")

    assert sorted(first) == [
        "after the step",
        "branch 0",
        "branch 0 ends",
        "branch 1",
        "start",
    ]
    assert second == ["branch 1 ends", "before the wait"]
    assert told == ["end"]


async def test_a_listener_that_fails_harms_no_run(store_url):
    """An exception in the listener is logged, and the run goes on."""

    def listen(run_id: str, event: dict[str, Any]) -> None:
        raise ValueError("the listener is broken")

    @durable
    async def talk(ctx: Context) -> str:
        ctx.emit({"at": "start"})
        return "done"

    async with connect(store_url) as client, client.work([talk], options=QUICK, on_event=listen):
        await client.start(talk, id="run")
        assert await client.result("run") == "done"


async def test_a_settled_promise_is_its_row(store_url):
    """What `settled()` gives on the first run is the row that a replay reads."""
    rows: list[Promise] = []

    @durable
    async def looks(ctx: Context) -> None:
        promise: Promise = await ctx.step(fetch, [1]).settled()
        rows.append(promise)
        await ctx.receive("go")

    async with taken_over(store_url, looks) as client:
        await client.result("run")

    live, replayed = rows
    assert live == replayed


async def test_memory_does_not_grow_with_the_journal(sqlite_url):
    """A run keeps nothing of what it has recorded or replayed: 2,000 steps leave no rows behind."""
    held: list[int] = []

    @durable
    async def long(ctx: Context) -> None:
        for i in range(1000):
            await ctx.step(fetch, i)
        held.append(len(ctx.execution.journal))
        await ctx.receive("go")

    async with taken_over(sqlite_url, long) as client:
        await client.result("run")

    assert held == [0, 1]
