"""What sources disagree on is settled by a person, through a gate, or by a judge, as declared."""

from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, Misuse, RunFailed, connect, durable
from substrate.agent import answer, settle
from tests.memories import Counts, counts
from tests.runs import QUICK
from tests.stores import database, eventually

NS = "acme/anna"


@durable
async def says(ctx: Context, value: Any, policy: str) -> None:
    memory = ctx.memory(NS)
    await memory.declare("lives in", policy)  # type: ignore[arg-type]
    await memory.remember("Anna", "lives in", value, confidence=0.5)


@durable
async def asks(ctx: Context, options: dict[str, Any]) -> list[Any]:
    seconds = options.pop("seconds", None)
    if seconds is not None:
        options["timeout"] = timedelta(seconds=seconds)
    decision = await settle(ctx, NS, "Anna", "lives in", **options)
    facts = await ctx.memory(NS).facts("Anna", "lives in")
    return [decision and [decision.value, decision.by], [fact.object for fact in facts]]


def surest_name(said: list[dict[str, Any]]) -> int:
    """Be a judge: the longest name is right."""
    return max(range(len(said)), key=lambda i: len(str(said[i]["value"])))


@durable
async def slow_judge(ctx: Context, said: list[dict[str, Any]]) -> int:
    await ctx.sleep(0.01)
    return 1


@durable
async def wrong_judge(ctx: Context, said: list[dict[str, Any]]) -> int:
    return 7


JUDGES = {"step": surest_name, "durable": slow_judge, "wrong": wrong_judge, "none": None}


@durable
async def judged(ctx: Context, name: str) -> list[Any]:
    decision = await settle(ctx, NS, "Anna", "lives in", judge=JUDGES[name])
    return [decision and [decision.value, decision.by]]


@durable
async def takes_back(ctx: Context, value: Any) -> None:
    await ctx.memory(NS).retract("Anna", "lives in", value)


FUNCTIONS = [says, asks, takes_back, judged, slow_judge, wrong_judge]


async def say(client: Any, policy: str, *values: Any) -> None:
    for i, value in enumerate(values):
        await client.start(says, value, policy, id=f"say-{policy}-{i}-{value!s:.9}")
        await client.result(f"say-{policy}-{i}-{value!s:.9}")


async def question(client: Any) -> Any:
    """Return the gate that is open."""

    async def is_open() -> Any:
        return next(iter(await client.store.gates.pending()), None)

    return await eventually(is_open)


async def test_a_person_is_asked(store_url):
    """A person chooses one of the values, it is decided in his name, and nobody is asked again."""
    async with connect(store_url) as client:
        async with client.work(FUNCTIONS, options=QUICK):
            await say(client, "ask", "Bonn", "Kiel")
            await client.start(asks, {"to": "ada"}, id="a")
            gate = await question(client)
        # Somebody else goes on with it.
        async with client.work(FUNCTIONS, options=QUICK):
            assert "Anna lives_in: which is right?" in gate.summary
            await answer(client, gate, "Kiel", by="ada")
            assert await client.result("a") == [["Kiel", "ada"], ["Kiel"]]
            await client.start(asks, {}, id="b")
            assert await client.result("b") == [["Kiel", "ada"], ["Kiel"]]
    with database(store_url) as db:
        assert db.rows("SELECT policy, decided_by, trust FROM decisions") == [
            ("ask", "ada", "user")
        ]
    assert counts(store_url) == Counts(0, 0, 0)


async def test_something_else_is_said_meanwhile(store_url):
    """Where another value is said while a person thinks, he is asked anew, with all of them."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await say(client, "ask", "Bonn", "Kiel")
        await client.start(asks, {}, id="a")
        first = await question(client)
        await say(client, "ask", "Hamm")
        await answer(client, first, "Kiel", by="ada")
        second = await question(client)
        await answer(client, second, "Hamm", by="ada")
        assert await client.result("a") == [["Hamm", "ada"], ["Hamm"]]


@pytest.mark.parametrize("others", [["Bonn"], ["Bonn", "Hamm"]])
async def test_what_was_chosen_is_said_no_more(store_url, others):
    """Where what a person chooses is said no more, nobody fails: who is left is asked, if any."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await say(client, "ask", *others, "Kiel")
        await client.start(asks, {}, id="a")
        first = await question(client)
        await client.start(takes_back, "Kiel", id="back")
        await client.result("back")
        await answer(client, first, "Kiel", by="ada")
        if len(others) > 1:
            await answer(client, await question(client), "Hamm", by="ada")
            assert await client.result("a") == [["Hamm", "ada"], ["Hamm"]]
        else:
            assert await client.result("a") == [None, ["Bonn"]]


async def test_values_that_look_alike(store_url):
    """Values that are long, look alike or are no text are numbered, and each can be chosen."""
    long = "a" * 300
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await say(client, "ask", 5, "5", f"{long}b", f"{long}c")
        await client.start(asks, {}, id="a")
        gate = await question(client)
        with pytest.raises(Misuse, match="1: 5"):
            await answer(client, gate, "5", by="ada")
        await answer(client, gate, "2: 5", by="ada")
        assert await client.result("a") == [["5", "ada"], ["5"]]


async def test_nobody_answers(store_url):
    """Where nobody answers in time it stays open; where nothing is to be asked, nobody is."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(asks, {}, id="nothing")
        assert await client.result("nothing") == [None, []]
        await say(client, "ask", "Bonn", "Kiel")
        await client.start(asks, {"seconds": 0.05}, id="late")
        with pytest.raises(RunFailed, match="nobody has answered in time"):
            await client.result("late")
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM decisions") == 0


@pytest.mark.parametrize(
    "name, expected",
    [("step", ["Bremerhaven", "surest_name"]), ("durable", ["Bremerhaven", "slow_judge"])],
)
async def test_a_judge_is_asked(store_url, name, expected):
    """A judge is a step or a durable function, and what is decided has its name."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await say(client, "judge", "Bonn", "Bremerhaven")
        await client.start(judged, name, id="j")
        assert await client.result("j") == [expected]


@pytest.mark.parametrize(
    "name, told", [("wrong", "has answered 7"), ("none", "settle.. is given none")]
)
async def test_a_judge_that_is_none(store_url, name, told):
    """A judge that names none of the values decides nothing, and is told so; so is none at all."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await say(client, "judge", "Bonn", "Kiel")
        await client.start(judged, name, id="j")
        with pytest.raises(RunFailed, match=told):
            await client.result("j")
