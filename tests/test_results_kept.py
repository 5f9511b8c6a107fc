"""What a call returns is kept as what it is, or that it can't be is told before it is lost."""

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from substrate import (
    Context,
    Done,
    OutcomeUnknown,
    RunFailed,
    RunPaused,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.agent.tool import tool
from substrate.models.messages import Json
from substrate.models.providers.scripted import call, say
from substrate.values.codec import decode
from tests.loops import TASK, make_agent, row, scripted
from tests.runs import QUICK, keys, taken_over

CALM = WorkerOptions(poll=QUICK.poll)
called: list[str] = []


@pytest.fixture(autouse=True)
def _afresh():
    called.clear()


@dataclass(frozen=True)
class Place:
    name: str
    tags: frozenset[str] = frozenset()


class Report(BaseModel):
    title: str = Field(alias="headline")
    places: list[Place]


class Opaque:
    """What has no JSON form."""


REPORT = Report(headline="Owls", places=[Place("barn", frozenset({"b", "a"}))])


async def makes(title: str) -> Report:
    called.append(title)
    return Report(headline=title, places=REPORT.places)


def makes_some(report: Report) -> dict[str, list[Place] | None]:
    called.append("some")
    return {"here": report.places, "there": None}


async def folder() -> Path:
    return Path("a/b")


def later() -> Awaitable[Path]:
    return folder()


@durable
async def child(ctx: Context, report: Report) -> Place:
    return report.places[0]


@durable
async def whole(ctx: Context, report: Report) -> list[Any]:
    made = await ctx.step(makes, "Owls")
    some = await ctx.step(makes_some, made, effect="once", timeout=timedelta(seconds=5))
    mapped = await ctx.map(makes, ["one", "two"])
    spawned = await ctx.spawn(child, report=made)
    where = await ctx.step(folder)
    assert await ctx.step(later) == where
    told = await ctx.receive("told", Report)
    await ctx.receive("go")
    assert [made, told, report] == [REPORT, REPORT, REPORT]
    assert (some, where) == ({"here": REPORT.places, "there": None}, Path("a/b"))
    assert [each.title for each in mapped] == ["one", "two"]
    return [spawned == REPORT.places[0], len(called)]


async def test_everything_comes_back(store_url):
    """Steps, maps, children, arguments and signals give what they were given, also replayed."""
    async with connect(store_url) as client:
        await client.start(whole, REPORT, id="run")
        await client.signal("run", "told", REPORT)
    async with taken_over(store_url, whole, None, REPORT) as client:
        assert await client.result("run") == [True, 4]
        input_ = (await row(client, "makes_some.0", "run")).input
    assert decode(input_)[0]["places"][0]["name"] == "barn"


async def test_objects_in_signals(sqlite_url):
    """A signal may hold dataclasses and models in lists and objects; their types read them."""

    @durable
    async def hears(ctx: Context) -> bool:
        return await ctx.receive("go", dict[str, list[Report]]) == {"all": [REPORT]}

    async with connect(sqlite_url) as client, client.work([hears], options=CALM):
        await client.start(hears, id="run")
        await client.signal("run", "go", {"all": [REPORT]})
        assert await client.result("run")


async def ordered() -> OrderedDict[str, int]:
    return OrderedDict(a=1, b=2)


async def counted() -> Counter[str]:
    return Counter("aab")


async def counted_inside() -> dict[str, Counter]:  # type: ignore[type-arg]
    return {"it": Counter("aab")}


async def defaulted() -> defaultdict[str, list[int]]:
    return defaultdict(list, a=[1])


async def queued() -> deque[int]:
    return deque([2, 1])


async def raw() -> bytearray:
    return bytearray(b"a\xff")


async def raw_text() -> bytearray:
    return bytearray(b"text")


async def raw_in_a_list() -> list[bytearray]:
    return [bytearray(b"a\xff")]


async def raw_or_nothing() -> bytearray | None:
    return bytearray(b"a")


async def raw_among_others() -> dict[str, tuple[bytearray, ...] | int]:
    return {"a": (bytearray(b"a"),), "b": 1}


RAW = [raw, raw_text, raw_in_a_list, raw_or_nothing, raw_among_others]

COLLECTIONS = [ordered, counted, counted_inside, defaulted, queued, *RAW]


@pytest.mark.parametrize("fn", COLLECTIONS, ids=lambda fn: fn.__name__)
async def test_collections(store_url, fn):
    """A collection that a step says it returns comes back as that, live and on a replay."""
    seen: list[Any] = []

    @durable
    async def run(ctx: Context) -> None:
        seen.append(await ctx.step(fn))
        await ctx.receive("go")

    async with taken_over(store_url, run) as client:
        await client.result("run")
    made = await fn()
    assert [(type(each), each) for each in seen] == [(type(made), made)] * 2
    assert [repr(each) for each in seen] == [repr(made)] * 2, "a bytearray equals its bytes"
    if isinstance(made, defaultdict):
        assert [each.default_factory for each in seen] == [list, list]
    if isinstance(made, dict):
        assert [type(each.get("it")) for each in seen] == [type(made.get("it"))] * 2


async def unordered() -> OrderedDict[str, int]:
    called.append("unordered")
    return OrderedDict(b=1, a=2)


async def bounded() -> deque[int]:
    called.append("bounded")
    return deque([1, 2], maxlen=2)


@pytest.mark.parametrize("fn", [unordered, bounded])
async def test_what_a_collection_would_lose(store_url, fn):
    """What no record of a collection gives back, its order or its bound, is told and not lost."""

    @durable
    async def run(ctx: Context) -> None:
        await ctx.step(fn, effect="once")

    async with connect(store_url) as client, client.work([run], options=CALM):
        await client.start(run, id="run")
        with pytest.raises(RunPaused, match="would not read back as collections"):
            await client.result("run")
    assert len(called) == 1


async def opaque() -> Opaque:
    called.append("opaque")
    return Opaque()


async def hides() -> list[threading.Event]:
    called.append("hides")
    return []


async def defaults() -> defaultdict:  # type: ignore[type-arg]
    called.append("defaults")
    return defaultdict(int)


async def defaults_inside() -> list[defaultdict]:  # type: ignore[type-arg]
    called.append("defaults_inside")
    return []


@pytest.mark.parametrize("effect", ["pure", "once"])
@pytest.mark.parametrize("fn", [defaults, defaults_inside])
async def test_a_defaultdict_of_nothing_said(store_url, fn, effect):
    """A defaultdict whose type does not tell of what is refused before the call."""

    @durable
    async def run(ctx: Context) -> None:
        await ctx.step(fn, effect=effect)

    async with connect(store_url) as client, client.work([run], options=CALM):
        await client.start(run, id="run")
        with pytest.raises(
            RunFailed, match=r"nothing was called: write it as defaultdict\[str, int\]"
        ):
            await client.result("run")
    assert called == []


@pytest.mark.parametrize("fn", [opaque, hides])
async def test_told_before_the_call(store_url, fn):
    """A step that can't be made twice is not made where its type says that nothing can be kept."""

    @durable
    async def order(ctx: Context) -> None:
        await ctx.step(fn, effect="once")

    async with connect(store_url) as client, client.work([order], options=CALM):
        await client.start(order, id="run")
        with pytest.raises(RunFailed, match=r"Misuse: .*\(.*:\d+\) says that it returns .*nothing"):
            await client.result("run")
    assert called == []


async def lies() -> Any:
    called.append("lies")
    return {1}


async def finds() -> Done:
    return Done("found")


@pytest.mark.parametrize("reconcile", [None, finds])
async def test_what_was_done_and_cannot_be_kept(store_url, reconcile):
    """The run is paused, never told that it failed; resumed, nobody makes the call again."""

    @durable
    async def order(ctx: Context) -> str:
        try:
            return await ctx.step(lies, effect="once", reconcile=reconcile)
        except OutcomeUnknown as error:
            return error.message

    async with connect(store_url) as client, client.work([order], options=CALM):
        await client.start(order, id="run")
        with pytest.raises(RunPaused, match="'lies': the call was made, and its result cannot be"):
            await client.result("run")
        await client.resume("run")
        came_to = await client.result("run")

    assert called == ["lies"]
    assert came_to == "found" if reconcile else came_to.startswith("'lies': the call was made, and")


async def untyped() -> Any:
    return REPORT


async def test_a_type_that_is_not_said(sqlite_url):
    """A dataclass or a model of which no annotation tells is refused, and told how it is kept."""

    @durable
    async def order(ctx: Context) -> str:
        with pytest.raises(StepFailed, match="or let the function say what it returns"):
            await ctx.step(untyped)
        return "told"

    async with connect(sqlite_url) as client, client.work([order], options=CALM):
        await client.start(order, id="run")
        assert await client.result("run") == "told"


def books(tx: Any, title: str) -> Report:
    called.append(title)
    return Report(headline=title, places=[])


async def test_in_a_transaction(store_url):
    """A transactional step gives its type, too."""

    @durable
    async def order(ctx: Context) -> str:
        return (await ctx.step(books, "Owls", effect="transactional")).title

    async with connect(store_url) as client, client.work([order], options=CALM):
        await client.start(order, id="run")
        assert await client.result("run") == "Owls"


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str


async def buys() -> Animal:
    called.append("buys")
    return Dog(name="rex", breed="pug")


async def buys_a_dog() -> Dog:
    return Dog(name="rex", breed="pug")


buys_a_dog.__name__ = "buys"


@pytest.mark.parametrize("effect", ["once", "pure"])
async def test_what_would_lose_a_part(store_url, effect):
    """What its type would not give back pauses the run, and what it gave is kept where it must."""
    mended = [buys]

    @durable
    async def order(ctx: Context) -> str:
        bought = await ctx.step(mended[0], effect=effect)
        return f"{bought!r}"

    async with connect(store_url) as client, client.work([order], options=CALM):
        await client.start(order, id="run")
        with pytest.raises(RunPaused, match="result would not read back as Animal"):
            await client.result("run")
        recorded = await keys(client, "run")
        mended[0] = buys_a_dog
        await client.resume("run")
        assert await client.result("run") == "Dog(name='rex', breed='pug')"

    assert called == ["buys"]
    assert recorded == (["buys.0", "run"] if effect == "once" else ["run"])


SAYS = {"int": 5, "list": [5], "model": Animal(name="rex"), "float": 5, "tuple": (5,)}


@tool(effect="pure")
async def count(kind: str) -> int:
    """Count."""
    called.append(kind)
    return SAYS[kind]


@tool
async def charge(kind: str) -> list[int]:
    """Charge."""
    called.append(kind)
    return SAYS[kind]


@tool
async def steps(ctx: Context, kind: str) -> Animal:
    """Do both."""
    return await ctx.step(count.function, kind)


WRONG = {
    "a plain tool": (call("count", kind="list"), r"count\(\) .*:\d+\) returned a list, .* int"),
    "what was done": (
        call("charge", kind="model"),
        r"charge\(\) .*:\d+\) returned a Animal.*list",
    ),
    "with a ctx": (call("steps", kind="int"), r"steps\(\) .*:\d+\) returned a int .* Animal"),
}


@pytest.mark.parametrize("asked, told", WRONG.values(), ids=WRONG)
async def test_a_tool_that_returns_something_else(store_url, asked, told):
    """It pauses the run for its author, before a model is told; what was done is kept."""
    agent = make_agent(scripted(say(asked), say("done")), [count, charge, steps])

    async with connect(store_url) as client:
        async with client.work([agent], options=CALM):
            await client.start(agent, TASK, id="a/1")
            with pytest.raises(RunPaused, match=told):
                await client.result("a/1")
            assert "model.1" not in await keys(client, "a/1")
        mended = make_agent(scripted(say(asked), say("done")), [mend(each) for each in AS_THEY_ARE])
        async with client.work([mended], options=CALM):
            await client.resume("a/1")
            assert (await client.result("a/1", mended)).text == "done"

    assert len(called) == (2 if "count" in str(asked) else 1)


def mend(name: str) -> Any:
    """Return the tool of a name, which says nothing of what it returns."""
    if name == "steps":

        async def stepping(ctx: Context, kind: str) -> Any:
            return await ctx.step(count.function, kind)

        return tool(name=name, description="Do both.")(stepping)

    async def run(kind: str) -> Any:
        called.append(kind)
        return SAYS[kind]

    effect = "pure" if name == "count" else "once"
    return tool(name=name, description="Do it.", effect=effect)(run)


AS_THEY_ARE = ("count", "charge", "steps")


@tool
async def measure(kind: str) -> float:
    """Measure."""
    return SAYS[kind]


@tool
async def lists(kind: str) -> list:
    """List."""
    return SAYS[kind]


@tool
async def rows(kind: str) -> dict[str, Json]:
    """Give rows, as a database has them."""
    return {"rows": [[Decimal("1.5"), date(2026, 1, 1), SAYS[kind]]]}


@pytest.mark.parametrize(
    "asked",
    [
        call("measure", kind="float"),
        call("lists", kind="tuple"),
        call("count", kind="int"),
        call("rows", kind="model"),
    ],
)
async def test_what_means_the_type(sqlite_url, asked):
    """An int in the place of a float, a tuple in that of a list: that is no mistake."""
    agent = make_agent(scripted(say(asked), say("done")), [measure, lists, count, rows])

    async with connect(sqlite_url) as client, client.work([agent], options=CALM):
        await client.start(agent, TASK, id="a/1")
        assert (await client.result("a/1", agent)).text == "done"
