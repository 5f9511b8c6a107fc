"""What a child did is given back though its undo failed: resumed, the child goes on with that."""

import os
from collections import Counter

import pytest

from substrate import (
    Client,
    Context,
    RunCancelled,
    RunDead,
    RunEnded,
    RunFailed,
    RunStatus,
    connect,
    durable,
)
from substrate.agent import Agent, Policy, Task, answered, delegate, deny, tool
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.records import Owner, PromiseState
from tests.runs import QUICK, reached
from tests.stores import crash
from tests.test_approvals import open_gates, settle

done: Counter[str] = Counter()
away: set[str] = set()


@pytest.fixture(autouse=True)
def _afresh():
    done.clear()
    away.clear()
    away.add("the other side")


async def do(what: str) -> str:
    done[what] += 1
    return what


@durable
async def give_back(ctx: Context, what: str) -> None:
    if away:
        raise OSError("the other side is away")
    await ctx.step(do, f"give back {what}")


@durable
async def ask_back(ctx: Context, what: str) -> None:
    """Give back once somebody says so; in company, that of an undo's own child."""
    if away:
        raise OSError("the other side is away")
    await ctx.spawn(gives, f"{await ctx.receive('yes', str)} {what}")


@durable
async def gives(ctx: Context, what: str) -> None:
    await ctx.step(do, what)


@durable
async def books(ctx: Context, what: str, how: str = "fails") -> None:
    await ctx.step(do, f"first {what}", undo=give_back)
    await ctx.step(do, what, undo=ask_back if how == "asks" else give_back)
    if how == "waits":
        await ctx.receive("never")
    raise ValueError("all for nothing")


@durable
async def hopes(ctx: Context, how: str = "fails") -> str:
    try:
        await ctx.spawn(books, "owl", how)
    except RunFailed as error:
        return f"{type(error).__name__}: {await ctx.receive('go', str)}"
    return "booked"


ALL = [hopes, books, give_back, ask_back, gives]
CHILD = "run#books.0"


async def dead(client: Client, how: str = "fails") -> None:
    """Start a run whose child is dead, since it could not be undone."""
    await client.start(hopes, how, id="run")
    await reached(client, "run", "go.0" if how != "waits" else "books.0")


async def test_it_is_undone_in_the_end(store_url):
    """A dead child whose parent was told is undone once it is resumed, and not called again."""
    async with connect(store_url) as client, client.work(ALL, options=QUICK):
        await dead(client)
        told = await client.store.promise(CHILD)
        with pytest.raises(RunDead, match="Resumed, it goes on with that undo"):
            await client.result(CHILD)

        away.clear()
        assert (await client.resume(CHILD)).status is RunStatus.READY
        with pytest.raises(RunFailed, match=r"what run#books\.0 did is undone by now; before, its"):
            await client.result(CHILD)
        child = await client.get(CHILD)
        stands = await client.store.promise(CHILD)
        await client.signal("run", "go", "on")
        assert await client.result("run") == "RunDead: on"
        with pytest.raises(RunEnded, match="is failed, and its parent 'run' was told so"):
            await client.resume(CHILD)

    assert child.status is RunStatus.FAILED
    assert done == {"first owl": 1, "owl": 1, "give back first owl": 1, "give back owl": 1}
    assert told == stands
    assert (stands.state, "could not be undone" in stands.error) == (PromiseState.REJECTED, True)


async def test_it_fails_again(store_url):
    """As often as its undo fails it is dead, and can be resumed, also where all above has ended."""
    async with connect(store_url) as client, client.work(ALL, options=QUICK):
        await dead(client)
        await client.signal("run", "go", "on")
        assert await client.result("run") == "RunDead: on"
        for number in (1, 2):
            await client.resume(CHILD)
            await reached(client, CHILD, f"unwind/do.1/{number}")
            with pytest.raises(RunDead):
                await client.result(CHILD)
        above = await client.journal("run")
        away.clear()
        await client.resume(CHILD)
        with pytest.raises(RunFailed, match="undone by now"):
            await client.result(CHILD)
        assert await client.journal("run") == above
        assert await client.result("run") == "RunDead: on"

    assert (done["owl"], done["give back owl"], done["give back first owl"]) == (1, 1, 1)


async def test_an_undo_that_waits(store_url):
    """Its undo may ask, wait and have a child of its own, though its parent has gone on."""
    async with connect(store_url) as client, client.work(ALL, options=QUICK) as worker:
        await dead(client, "asks")
        await client.signal("run", "go", "on")
        await client.result("run")
        away.clear()
        await client.resume(CHILD)
        await worker.run_until_idle()
        assert (await client.get(CHILD)).status is RunStatus.SUSPENDED
        await client.signal(CHILD, "yes", "return")
        with pytest.raises(RunFailed, match="undone by now"):
            await client.result(CHILD)

    assert (done["return owl"], done["give back first owl"]) == (1, 1)


async def test_a_cancelled_child(store_url):
    """One that was cancelled, and then could not be undone, is cancelled once it is undone."""
    async with connect(store_url) as client, client.work(ALL, options=QUICK):
        await client.start(hopes, "waits", id="run")
        await reached(client, "run", "books.0")
        await reached(client, CHILD, "never.0")
        await client.cancel(CHILD)
        await reached(client, "run", "go.0")
        away.clear()
        await client.resume(CHILD)
        with pytest.raises(RunCancelled, match=r"is cancelled; before, RunDead: 'do\.1' could not"):
            await client.result(CHILD)
        assert (await client.get(CHILD)).status is RunStatus.CANCELLED
        assert not (await client.get("run")).status.has_ended

    assert (done["give back owl"], done["give back first owl"]) == (1, 1)


async def test_an_undo_that_kills_its_workers(store_url):
    """A child that crashed its workers while it was undone is resumed; another one is not."""
    doomed = "bad/books/1"

    async def kill(client: Client) -> None:
        for number in range(3):
            await crash(client.store, Owner(f"doomed-{os.urandom(4).hex()}-{number}"), doomed)

    @durable
    async def crowd(ctx: Context) -> str:
        try:
            await ctx.spawn(books, "owl", "fails", queue="bad")
        except RunDead as error:
            return error.failure.message
        return "booked"

    async with connect(store_url) as client, client.work([crowd], options=QUICK):
        await client.start(crowd, id="run")
        async with client.work(ALL, queue="bad", options=QUICK):
            assert "could not be undone" in await client.result("run")
        await client.resume(CHILD)
        await kill(client)
        assert (await client.get(CHILD)).status is RunStatus.DEAD
        away.clear()
        await client.resume(CHILD)
        async with client.work(ALL, queue="bad", options=QUICK):
            with pytest.raises(RunFailed, match="undone by now"):
                await client.result(CHILD)

        await client.start(crowd, id="other")
        await reached(client, "other", "books.0")
        await kill(client)
        assert "It does not go on, since its parent is told so" in await client.result("other")
        with pytest.raises(RunEnded, match="this one had begun none"):
            await client.resume("other#books.0")

    assert done == {"first owl": 1, "owl": 1, "give back first owl": 1, "give back owl": 1}


async def test_it_is_given_up(store_url):
    """A person may give it up instead; then nothing of it goes on."""
    async with connect(store_url) as client, client.work(ALL, options=QUICK):
        await dead(client)
        assert (await client.discard(CHILD)).status is RunStatus.CANCELLED
        with pytest.raises(RunEnded):
            await client.resume(CHILD)
    assert done == {"first owl": 1, "owl": 1}


@tool
async def book(ctx: Context, what: str) -> str:
    """Book it."""
    return await ctx.step(do, what, undo=give_back)


@tool(approve=Policy(on_denied="fail"))
def pay(cents: int) -> str:
    """Pay."""
    return f"paid {cents}"


def model(*turns: Reply) -> Model:
    """Return a model that says these turns, and then what it was told."""

    def script(request: Request) -> Reply:
        said = sum(isinstance(each, Reply) for each in request.messages)
        if said < len(turns):
            return turns[said]
        return say(" | ".join(each.content for each in request.messages[-1].results))

    return Model("scripted:m", script=script)


kid = Agent("kid", "Book.", model(say(call("book", what="owl"), call("pay", cents=5))), [book, pay])


@tool
async def send_them(ctx: Context) -> str:
    """Send two."""
    return " ".join(each.problem for each in await ctx.map(kid, ["this"]))


@pytest.mark.parametrize("how", ["delegate", "map"])
async def test_a_sub_agent(store_url, how):
    """So is a sub-agent whose undo failed; what the model above was told stands."""
    first, tools = {
        "delegate": (call("kid", task="Book."), [delegate(kid, description="Book.")]),
        "map": (call("send_them"), [send_them]),
    }[how]
    chief = Agent("chief", "Have it done.", model(say(first)), tools, answered())
    async with connect(store_url) as client:
        await client.start(chief.durable, Task("Book."), id="a/1")
        await settle(client, chief.durable)
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="No.")
        await settle(client, chief.durable)
        told = (await client.result("a/1", chief.durable)).text
        assert "could not be undone" in told
        assert "Resumed, it goes on with that undo" in told

        away.clear()
        await client.resume(gate.run_id)
        await settle(client, chief.durable)
        assert (await client.get(gate.run_id)).status is RunStatus.FAILED
        assert (await client.result("a/1", chief.durable)).text == told

    assert done == {"owl": 1, "give back owl": 1}
