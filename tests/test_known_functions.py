"""A worker knows what it is given and what that can come to; what nobody knows is said at once."""

import asyncio
import importlib
import logging
import sys
import textwrap
from contextlib import suppress
from functools import partial, wraps
from typing import Any

import pytest

from substrate import Context, Durable, Misuse, RunPaused, WorkerOptions, connect, durable
from substrate.agent.tool import tool
from substrate.engine.function.reachable import reached
from substrate.models.providers.scripted import call, say
from substrate.values.ids import RunId
from substrate.values.records import Owner
from tests.loops import TASK, make_agent, scripted
from tests.runs import QUICK, keys
from tests.runs import reached as until_reached
from tests.stores import LANE, OTHER, OWNER, beating, database, eventually, new_run, opened

CALM = WorkerOptions(poll=QUICK.poll)
called: list[str] = []


@pytest.fixture(autouse=True)
def _afresh():
    called.clear()


async def charge(cents: int) -> str:
    called.append(f"charge {cents}")
    return "charged"


@durable
async def deep(ctx: Context) -> str:
    return "deep"


@durable
async def refund(ctx: Context, cents: int) -> None:
    called.append(f"refund {cents}")


class Book:
    """A class with a function of its own."""

    undo = refund

    def begin(self, ctx: Context) -> Any:
        return ctx.spawn(deep)


BOOK = Book()
FLOWS = {"deep": [(deep,)]}


def helper(ctx: Context) -> Any:
    return ctx.spawn(deep)


def wrapped(function: Any) -> Any:
    @wraps(function)
    async def inner(*args: Any) -> Any:
        return await function(*args)

    return inner


def uses(body: Any) -> Durable[..., Any]:
    """Return a durable function that has this to call, and nothing else."""

    @durable
    async def root(ctx: Context) -> Any:
        return body

    return root


@tool
async def collect(ctx: Context, cents: int) -> str:
    """Collect money."""
    return await ctx.step(charge, cents, undo=refund)


WAYS = {
    "by its name": (lambda ctx: ctx.spawn(deep), {"deep"}),
    "in a helper": (helper, {"deep"}),
    "in a function inside": (lambda ctx: [helper for _ in ctx], {"deep"}),
    "in a collection": (lambda ctx: FLOWS["deep"], {"deep"}),
    "in a partial": (partial(helper), {"deep"}),
    "of an object": (lambda ctx: BOOK.begin, {"deep", "refund"}),
    "in a bound method": (BOOK.begin, {"deep", "refund"}),
    "in what is wrapped": (wrapped(helper), {"deep"}),
    "in a tool": ([collect], {"refund"}),
    "in a default": (lambda ctx, flow=deep: flow, {"deep"}),
    "nowhere": (lambda ctx: logging.getLogger("x"), set()),
}


MODULE = """
from substrate import Context, durable

async def charge(cents: int) -> str:
    return "charged"

@durable
async def one(ctx: Context) -> str:
    return "one"

@durable
async def other(ctx: Context) -> None: ...

def begin(ctx):
    return ctx.spawn(one)

tools = [begin, lambda ctx: ctx.step(charge, 5, undo=other)]
"""

WHOLE = {
    "by its name": "import {0} as hooks\ndef body(ctx): return use(ctx, hooks)",
    "of a package": "import {0}\nimport holder\ndef body(ctx): return use(ctx, holder.hooks)",
    "in a variable": "import {0} as hooks\ndef body(ctx):\n  own = hooks\n  return own.tools",
    "by name of an attribute": 'import {0} as m\ndef body(ctx): return getattr(m, "tools")',
    "imported inside": "def body(ctx):\n  import {0} as hooks\n  return use(ctx, hooks)",
    "from a package inside": "def body(ctx):\n  from holder import hooks as h\n  return use(h)",
    "in a function inside": "import {0} as hooks\ndef body(ctx): return [use(hooks) for _ in ctx]",
    "in a default": "import {0}\ndef body(ctx, hooks={0}): return use(ctx, hooks)",
    "in a collection": "import {0}\nALL = {{'a': [{0}]}}\ndef body(ctx): return ALL",
    "in a namespace": (
        "import {0}\nfrom types import SimpleNamespace\n"
        "ALL = SimpleNamespace(a={0})\ndef body(ctx): return ALL.a"
    ),
    "in a closure": (
        "import {0}\ndef make(hooks):\n  return lambda ctx: use(ctx, hooks)\nbody = make({0})"
    ),
    "in a partial": (
        "import {0}\nfrom functools import partial\n"
        "def begin(hooks, ctx): ...\nbody = partial(begin, {0})"
    ),
    "of an object": (
        "import {0}\nclass Crew:\n  def __init__(self): self.hooks = {0}\n"
        "CREW = Crew()\ndef body(ctx): return CREW.hooks"
    ),
}
PARTS = {
    "of which an attribute is named": "import {0} as hooks\ndef body(ctx): return hooks.begin",
    "of which one is named inside": "def body(ctx):\n  import {0}\n  return {0}.begin",
    "whose attribute is a value": "import {0}\nimport holder\ndef body(c): holder.hooks.begin(c)",
}


@pytest.fixture
def body_of(tmp_path, monkeypatch):
    """Return what makes modules of text, and gives `body` of the last: it uses the first."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hooks_of_test.py").write_text(MODULE)
    (tmp_path / "holder").mkdir()
    kit = "from substrate import Context\n"
    (tmp_path / "holder" / "__init__.py").write_text(f"{kit}import hooks_of_test as hooks\n")
    (tmp_path / "holder" / "hooks.py").write_text(MODULE)

    def make(text: str) -> Any:
        (tmp_path / "uses_of_test.py").write_text(kit + text.format("hooks_of_test") + "\n")
        return importlib.import_module("uses_of_test").body

    yield make
    for name in ("hooks_of_test", "holder", "holder.hooks", "uses_of_test"):
        sys.modules.pop(name, None)


def load(name: str) -> None:
    with suppress(ImportError):
        importlib.import_module(name)


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_module_that_is_a_value(body_of, text):
    """Of a module that is handed on, in whatever it stands, everything is found."""
    assert {each.name for each in reached([uses(body_of(text))], load)} == {"root", "one", "other"}


@pytest.mark.parametrize("text", PARTS.values(), ids=PARTS)
def test_a_module_whose_attributes_are_named(body_of, text):
    """Of a module that is no value, only what is named is found."""
    assert {each.name for each in reached([uses(body_of(text))], load)} == {"root", "one"}


@pytest.mark.parametrize("body, names", WAYS.values(), ids=WAYS)
def test_what_is_reached(body, names):
    """A function is found by what its code names, in whatever that stands."""
    root = uses(body)

    assert {each.name for each in reached([root])} == names | {"root"}
    assert reached([root])[0] is root


JOBS = """
from substrate import Context, durable

async def look(topic: str) -> str:
    return f"{topic}: two"

@durable
async def research(ctx: Context, topic: str) -> str:
    return await ctx.step(look, topic)

@durable
async def aside(ctx: Context) -> None: ...

def unused(ctx):
    return ctx.spawn(aside)
"""

PLANS = """
from substrate import Context, durable
import jobs_of_test as jobs

@durable
async def plan(ctx: Context, topic: str) -> str:
    return await ctx.spawn(jobs.research, topic)

@durable
async def later(ctx: Context, topic: str) -> str:
    from jobs_of_test import research
    return await ctx.spawn(research, topic)
"""


@pytest.fixture
def plans(tmp_path, monkeypatch):
    """Return a module that uses functions of another."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {"jobs_of_test": JOBS, "plans_of_test": PLANS}.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    yield importlib.import_module("plans_of_test")
    for name in ("jobs_of_test", "plans_of_test"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["plan", "later"])
async def test_a_child_in_another_file(sqlite_url, plans, name):
    """A child is driven by who knows its parent, and goes on elsewhere with who knows that."""
    function = getattr(plans, name)

    assert {each.name for each in reached([function])} == {name, "research"}
    async with connect(sqlite_url) as client:
        await client.start(function, "owls", id="run")
        async with client.work([function], options=QUICK):
            assert await client.result("run") == "owls: two"


@durable
async def makes_its_child(ctx: Context) -> str:
    @durable
    async def hidden(inner: Context) -> str:
        return "found"

    return await ctx.spawn(hidden)


@durable(name="hidden")
async def known_hidden(ctx: Context) -> str:
    return "known"


@durable
async def makes_its_undo(ctx: Context) -> str:
    @durable
    async def hidden(inner: Context, cents: int) -> None: ...

    return await ctx.step(charge, 5, effect="once", undo=hidden)


async def paused(client: Any, run_id: str) -> str:
    """Return what a run is paused for."""
    with pytest.raises(RunPaused) as caught:
        await client.result(run_id)
    failure = caught.value.failure
    assert failure.type == "UnknownFunction"
    return failure.message


@pytest.mark.parametrize("function", [makes_its_child, makes_its_undo])
async def test_what_is_made_while_it_runs(store_url, function):
    """What no later process could find pauses the run, named with its line, before it is used."""
    async with connect(store_url) as client, client.work([function], options=CALM):
        await client.start(function, id="run")
        told = await paused(client, "run")
        assert await keys(client, "run") == ["run"]

    assert "'hidden'" in told
    assert "test_known_functions.py:" in told
    assert "define it at the top of a module" in told
    assert "write work([…, hidden])" in told
    assert called == []


async def test_a_child_that_another_worker_knows(store_url):
    """A child that this worker does not know is left to one that does."""
    async with (
        connect(store_url) as client,
        connect(store_url) as other,
        client.work([makes_its_child], options=QUICK),
        other.work([known_hidden], options=QUICK),
    ):
        await client.start(makes_its_child, id="run")
        assert await client.result("run") == "known"


async def test_a_child_of_another_queue(store_url):
    """A child of another queue is started, since its workers may come later."""

    @durable
    async def parent(ctx: Context) -> str:
        @durable
        async def hidden(inner: Context) -> str:
            return "found"

        return await ctx.spawn(hidden, queue="gpu")

    async with connect(store_url) as client, client.work([parent], options=QUICK):
        await client.start(parent, id="run")
        await until_reached(client, "run", "hidden.0")
        async with client.work([known_hidden], queue="gpu", options=QUICK):
            assert await client.result("run") == "known"


@tool
async def delegate(ctx: Context, topic: str) -> str:
    """Let another run do it."""
    return await ctx.call(makes_its_child)


@tool
async def pay(ctx: Context, cents: int) -> str:
    """Pay."""

    @durable
    async def hidden(inner: Context, cents: int) -> None: ...

    return await ctx.step(charge, cents, effect="once", undo=hidden)


@pytest.mark.parametrize("asked", [call("delegate", topic="owls"), call("pay", cents=5)])
async def test_in_a_tool(store_url, asked):
    """A model is never told of a child or an undo that nobody could find: the run is paused."""
    agent = make_agent(scripted(say(asked), say("done")), [delegate, pay])

    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="run")
        assert "'hidden'" in await paused(client, "run")
        assert "model.1" not in await keys(client, "run")
    assert called == []


async def test_an_undo_that_would_be_given_something_else(store_url):
    """An undo whose default would be taken by an argument of another name is refused, unused."""

    @durable
    async def gives_back(ctx: Context, reason: str = "cancelled", result: Any = None) -> None:
        called.append(f"back {reason}")

    @durable
    async def order(ctx: Context) -> str:
        with pytest.raises(Misuse, match=r"would be given the step's 'cents' as 'reason'"):
            await ctx.step(charge, 5, undo=gives_back)
        return "told"

    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.start(order, id="run")
        assert await client.result("run") == "told"
    assert called == []


@durable(name="order", version=2)
async def order(ctx: Context) -> str:
    return "done"


async def test_a_run_that_no_worker_knows(store_url, caplog):
    """It waits; the log says so once, of the worker's and for who waits for its result."""
    caplog.set_level(logging.WARNING, "ostinato")

    async with (
        connect(store_url) as client,
        connect(store_url) as other,
        client.work([deep], options=QUICK),
    ):
        await client.start(order, id="run")
        waiting = asyncio.create_task(other.result("run"))
        await eventually(lambda: len(caplog.messages) >= 2)
        async with other.work([order], options=QUICK):
            assert await waiting == "done"
    ours, all_ = sorted(caplog.messages)
    assert ours.startswith("run run waits for a worker of queue 'default' that knows order v2, and")
    assert all_.startswith("runs of order v2 wait for a worker of queue 'default' that knows it")
    assert "to work([…]), or start the code that has it" in ours
    assert "to work([…]), or start the code that has it" in all_


async def test_lanes(store_url):
    """A store tells what living workers know, and which lanes have runs that are ready."""
    async with opened(store_url) as store:
        assert await store.known_lanes() == frozenset()
        assert await store.ready_lanes() == []
        for number, name in enumerate(("b", "a", "b")):
            await store.start(new_run(RunId(f"r/{number}"), function=name))
        assert await store.ready_lanes() == ["default/a/1", "default/b/1"]
        assert await store.ready_lanes(limit=1) == ["default/a/1"]

        async with beating(store, OWNER), beating(store, OTHER):
            assert await store.known_lanes() is None  # they may be of an older kit
            await store.write_lanes(OWNER, [LANE])
            await store.write_lanes(OTHER, ["default/a/1", LANE])
            await store.write_lanes(OTHER, ["default/a/1", LANE])
            assert await store.known_lanes() == {"", LANE, "default/a/1"}
        assert await store.known_lanes() == frozenset()


async def test_what_is_no_function_of_a_result(sqlite_url):
    """A plain function is refused where a durable one is meant, with what to write."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match="is no durable function; put @durable on it"):
            await client.start(charge, 5, id="run")
        with pytest.raises(Misuse, match="is no durable function; put @durable on it"):
            await client.result("run", charge)


async def test_many_workers_at_once(store_url):
    """Workers that come and go at the same moment all tell what they know, and leave nothing."""
    async with opened(store_url) as store:
        owners = [Owner(f"{OWNER}-{n}") for n in range(8)]

        async def come_and_go(owner: Owner) -> None:
            for _ in range(3):
                async with beating(store, owner):
                    await store.write_lanes(owner, [LANE, f"default/{owner}/1"])

        await asyncio.gather(*map(come_and_go, owners))
        async with beating(store, OTHER):
            await store.write_lanes(OTHER, [LANE])
            assert await store.known_lanes() == {"", LANE}
    with database(store_url) as db:
        assert {row[0] for row in db.rows("SELECT incarnation FROM lanes")} == {OTHER}
