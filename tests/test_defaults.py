"""What a run was started with is recorded whole: a deploy that changes a default changes no run."""

from typing import Any

import pytest

from substrate import Context, IdTaken, Misuse, connect, durable
from substrate.values.codec import decode
from substrate.values.ids import RunId
from tests.runs import QUICK, keys, reached
from tests.stores import new_run

SECRET = object()
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _afresh():
    seen.clear()


async def note(what: Any) -> Any:
    seen.append(what)
    return what


def waiting(default: int) -> Any:
    """Return a function as one deploy has it: with this default."""

    @durable
    async def waits(ctx: Context, name: str, number: int = default, key: Any = SECRET) -> list[Any]:
        await ctx.step(note, number)
        await ctx.receive("go")
        return [name, number, key is SECRET]

    return waits


def spawning(default: int) -> Any:
    child = waiting(default)

    @durable
    async def spawns(ctx: Context) -> Any:
        return await ctx.spawn(child, "child")

    return spawns


async def test_a_default_that_is_changed(store_url):
    """A run goes on with the default that it was started with, and is the same when asked again."""
    first, second = waiting(1), waiting(2)
    async with connect(store_url) as client:
        async with client.work([first], options=QUICK):
            await client.start(first, "a", id="run")
            await reached(client, "run", "go.0")
        async with client.work([second], options=QUICK):
            await client.start(second, "a", id="run")
            await client.signal("run", "go")
            assert await client.result("run") == ["a", 1, True]
        with pytest.raises(IdTaken):
            await client.start(second, "a", 3, id="run")
        own = await client.store.promise(RunId("run"))

    assert decode(own.input) == {"(default)": {"number": 1}, "name": "a"}
    assert seen == [1]


async def test_a_default_of_a_child(store_url):
    """A child keeps its default, and its parent finds it again under another one."""
    async with connect(store_url) as client:
        async with client.work([spawning(1)], options=QUICK):
            await client.start(spawning(1), id="run")
            await reached(client, "run", "waits.0")
            await reached(client, "run#waits.0", "go.0")
        await client.signal("run#waits.0", "go")
        async with client.work([spawning(2)], options=QUICK):
            assert await client.result("run") == ["child", 1, True]
            assert await keys(client, "run") == ["waits.0", "run"]
    assert seen == [1]


async def test_a_default_that_is_gone(store_url):
    """A parameter that was never given may be taken out under a run that waits."""

    @durable(name="waits")
    async def without(ctx: Context, name: str) -> list[Any]:
        await ctx.step(note, 1)
        await ctx.receive("go")
        return [name]

    first = waiting(1)
    async with connect(store_url) as client:
        async with client.work([first], options=QUICK):
            await client.start(first, "a", id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        async with client.work([without], options=QUICK):
            assert await client.result("run") == ["a"]


async def test_a_run_of_before(store_url):
    """A run that was started without a record of its defaults goes on with those there are."""
    function = waiting(4)
    async with connect(store_url) as client:
        old = new_run("run", function="waits", input='{"name":"a"}')
        await client.store.start(old)
        await client.signal("run", "go")
        async with client.work([function], options=QUICK):
            assert await client.result("run") == ["a", 4, True]


async def test_generations(store_url):
    """A generation keeps the defaults that it was begun with."""

    def counting(default: int) -> Any:
        @durable
        async def counts(ctx: Context, round_: int, step: int = default) -> list[int]:
            if round_ == 0:
                return ctx.continue_as(1)
            await ctx.receive("go")
            return [round_, step]

        return counts

    async with connect(store_url) as client:
        async with client.work([counting(5)], options=QUICK):
            await client.start(counting(5), 0, id="run")
            await reached(client, "run", "g1/go.0")
        await client.signal("run", "go")
        async with client.work([counting(6)], options=QUICK):
            assert await client.result("run") == [1, 5]


@durable
async def takes(
    ctx: Context,
    number: int = 0,
    text: str = "",
    many: list = None,  # noqa: RUF013 - as many write it
    ratio: float = 0.0,
) -> list[Any]:
    return [number, text, many, ratio]


@pytest.mark.parametrize(
    "given, told",
    [
        ({"number": "x"}, r"takes\(\) takes number: int, and was given a str"),
        ({"number": None}, "was given a NoneType"),
        ({"number": 1.5}, "was given a float"),
        ({"text": 5}, "takes text: str, and was given a int"),
        ({"many": {"a": 1}}, "takes many: list, and was given a dict"),
        ({"ratio": "1"}, "takes ratio: float, and was given a str"),
    ],
)
async def test_arguments_of_plain_types(sqlite_url, given, told):
    """An argument that is not of the plain type that it is annotated with is refused at start."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=told):
            await client.start(takes, id="run", **given)
        assert await client.list() == []


async def test_arguments_that_mean_the_type(sqlite_url):
    """A tuple for a list, an int for a float, a default of another type: these are taken."""
    async with connect(sqlite_url) as client, client.work([takes], options=QUICK):
        await client.start(takes, True, "a", (1, 2), 3, id="run")
        await client.start(takes, many=None, id="none")
        assert await client.result("run") == [True, "a", [1, 2], 3]
        assert await client.result("none") == [0, "", None, 0.0]
