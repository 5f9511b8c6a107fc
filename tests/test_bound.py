"""A function that has its arguments already is called as if they were given beside it."""

from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, Misuse, RunFailed, bound, connect, durable
from tests.runs import QUICK, reached


async def charge(cents: int, currency: str = "EUR", *, idempotency_key: str = "") -> str:
    return f"{cents} {currency} {bool(idempotency_key)}"


def price(item: str, pieces: int = 1) -> int:
    return len(item) * pieces


@durable
async def kid(ctx: Context, item: str, pieces: int = 1) -> list[str]:
    return [item] * pieces


@durable
async def beside(ctx: Context) -> list[Any]:
    return [
        await ctx.step(charge, 5, currency="USD", effect="idempotent"),
        await ctx.step(price, "lamp", name="priced"),
        await ctx.spawn(kid, "lamp", pieces=2, timeout=60),
        await ctx.receive("go"),
    ]


@durable(name="beside")
async def before(ctx: Context) -> list[Any]:
    return [
        await ctx.step(bound(charge, 5, currency="USD"), effect="idempotent"),
        await ctx.step(bound(price, "lamp"), name="priced"),
        await ctx.spawn(kid.of("lamp", pieces=2), timeout=timedelta(minutes=1)),
        await ctx.receive("go"),
    ]


async def test_it_is_the_same_call(store_url):
    """What is bound has the key and the record of the same call with its arguments beside it."""
    async with connect(store_url) as client:
        async with client.work([beside, kid], options=QUICK):
            await client.start(beside, id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go", "on")
        async with client.work([before, kid], options=QUICK):
            result = await client.result("run", before)

    assert result == ["5 USD True", 4, ["lamp", "lamp"], "on"]


async def test_it_is_started(store_url):
    """A run of a bound function is that of the function with these arguments."""
    async with connect(store_url) as client, client.work([kid], options=QUICK):
        first = await client.start(kid.of("lamp", pieces=2), id="run")
        again = await client.start(kid, "lamp", 2, id="run")

        assert (first.id, again.id) == ("run", "run")
        assert await client.result("run", kid) == ["lamp", "lamp"]


@durable
async def counts(ctx: Context, rest: int, step: int = 1) -> int:
    if rest > 0:
        return ctx.continue_as(counts.of(rest - step, step=step))
    return rest


@durable
async def continues_another(ctx: Context) -> int:
    return ctx.continue_as(counts.of(3))


async def test_it_is_continued(store_url):
    """A generation of a bound function is called with these arguments; it must be the run's own."""
    functions = [counts, continues_another]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        await client.start(counts, 4, 2, id="run")
        assert await client.result("run", counts) == 0
        assert (await client.get("run")).generation == 2
        await client.start(continues_another, id="another")
        with pytest.raises(RunFailed, match="is not this run's function, which is 'continues_an"):
            await client.result("another")


TWICE = {
    "a step": lambda ctx: ctx.step(bound(price, "lamp"), 2),
    "by name": lambda ctx: ctx.step(bound(price, "lamp"), pieces=2),
    "a child": lambda ctx: ctx.spawn(kid.of("lamp"), 2),
}


@pytest.mark.parametrize("work", TWICE.values(), ids=TWICE)
async def test_arguments_in_two_places(sqlite_url, work):
    """Arguments beside a function that has its own are refused: nobody would know the order."""

    @durable
    async def runs(ctx: Context) -> Any:
        return await work(ctx)

    async with connect(sqlite_url) as client, client.work([runs, kid], options=QUICK):
        await client.start(runs, id="run")
        with pytest.raises(
            RunFailed, match="has its arguments, and is given 1 more; give all in one place"
        ):
            await client.result("run")
        with pytest.raises(Misuse, match="kid has its arguments, and is given 1 more"):
            await client.start(kid.of("lamp"), "lamp", id="kid")  # type: ignore[call-overload]


NOT_CALLED = {
    "map": lambda ctx: ctx.map(bound(price, "lamp"), [1]),
    "twice": lambda ctx: ctx.step(bound(bound(price, "lamp"))),
}


@pytest.mark.parametrize("work", NOT_CALLED.values(), ids=NOT_CALLED)
async def test_where_others_would_be_given(sqlite_url, work):
    """What is bound is refused where it would be given arguments, by name and without values."""

    @durable
    async def runs(ctx: Context) -> Any:
        return await work(ctx)

    async with connect(sqlite_url) as client, client.work([runs, kid], options=QUICK):
        await client.start(runs, id="run")
        with pytest.raises(RunFailed, match=r"'price' is bound to its arguments, .* itself"):
            await client.result("run")
    assert repr(bound(price, "lamp")) == "<Bound price>"


async def test_what_does_not_fit(sqlite_url):
    """Arguments that do not fit are refused where the call is made, as anywhere."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"kid\(\) cannot be called so: .* 'peaces'"):
            await client.start(kid.of("lamp", peaces=2), id="run")  # type: ignore[call-arg]
