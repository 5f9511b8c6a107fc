"""What sub-agents may use is reserved within their parent's budget when they are started."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from substrate import Client, Context, connect, durable
from substrate.agent import Agent, Answer, Task, answered, any_of, budget, delegate, max_turns, tool
from substrate.agent.end import Advice, End
from substrate.agent.grant import DelegateFailed, Grant, Unit
from substrate.agent.history.usage import summed
from substrate.agent.spent import counted
from substrate.agent.stop import all_of
from substrate.agent.transcript import Transcript
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode, encode
from substrate.values.ids import PromiseId
from substrate.values.records import JsonText
from tests.loops import TASK


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return "An owl."


def priced(reply: Reply, usd: str | None = "0.02", tokens: int = 100) -> Reply:
    """Return a reply that has cost this much."""
    cost = None if usd is None else Decimal(usd)
    return replace(reply, usage=Usage(tokens // 2, tokens // 2, cost_usd=cost))


def looks_for_ever(usd: str | None = "0.02", tokens: int = 100) -> Any:
    """Return a model's script that looks until it may not."""

    def script(request: Request) -> Reply:
        said = say("So far: one owl.", call("look")) if request.may_call_tools else say("One owl.")
        return priced(said, usd, tokens)

    return script


def asks(*names: str, usd: str | None = "0.02", tokens: int = 100) -> Any:
    """Return a model's script that asks these agents at once, and then answers."""

    def script(request: Request) -> Reply:
        is_first = not any(isinstance(each, ToolMessage) for each in request.messages)
        if is_first and request.may_call_tools:
            return priced(
                say(*(call(each, task=f"look {n}") for n, each in enumerate(names))), usd, tokens
            )
        return priced(say("Owls."), usd, tokens)

    return script


def looker(
    name: str = "looker", usd: str | None = "0.02", tokens: int = 100, **hooks: Any
) -> Agent:
    """Return an agent that looks for ever, if nobody ends it."""
    model = Model("scripted:looker", script=looks_for_ever(usd, tokens))
    given = {"tools": [look], "stop": any_of(answered(), max_turns(500)), **hooks}
    return Agent(name, "Look.", model, **given)


def boss(script: Any, tools: list[Any], *limits: Any, name: str = "boss") -> Agent:
    """Return an agent that has others work."""
    stop = any_of(answered(), max_turns(10), *limits)
    return Agent(name, "Have it done.", Model("scripted:boss", script=script), tools, stop)


async def worked(client: Client, agent: Agent, run_id: str = "a/1") -> Answer:
    """Run an agent to its end."""
    async with client.work([agent.durable]):
        await client.start(agent.durable, TASK, id=run_id)
        return await client.result(run_id, agent.durable)


async def grants(client: Client, run_id: str = "a/1") -> dict[str, dict[str, Any]]:
    """Return what each child of a run was granted, by its key."""
    rows = await client.journal(run_id)
    return {row.key: decode(row.granted) for row in rows if row.granted}


async def cost(client: Client, run_id: str = "a/1") -> Usage:
    """Return what a run and all below it have used."""
    return summed(await client.store.usages(f"{run_id}#"))


async def test_five_under_one_budget(store_url: str) -> None:
    """Five agents that would work for ever spend no more than is left of their parent's budget."""
    tools = [delegate(looker(), description="Have it looked for.")]
    agent = boss(asks(*["looker"] * 5), tools, budget(usd=0.50))
    async with connect(store_url) as client:
        answer = await worked(client, agent)
        granted, spent = await grants(client), await cost(client)

    # 0.50, less the first call, less the next turn and last words that are kept back.
    assert [Decimal(each["usd"]) for each in granted.values()] == [Decimal("0.088")] * 5
    assert len(granted) == 5
    assert spent.cost_usd == Decimal("0.44")
    assert answer.usage.cost_usd == spent.cost_usd
    assert answer.reason == "answered"


@pytest.mark.parametrize("calls, started", [(23, 22), (40, 22), (400, 22)])
async def test_more_than_can_be_paid(sqlite_url: str, calls: int, started: int) -> None:
    """Of more sub-agents than their budget has calls for, the first ones start; the model is told.

    Each of them would make its first call, however small its grant: the budget would not hold.
    """
    tools = [delegate(looker(), description="Have it looked for.")]
    agent = boss(asks(*["looker"] * calls), tools, budget(usd=0.50))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        granted, spent = await grants(client), await cost(client)
        rows = [r for r in await client.journal("a/1") if r.key.startswith("tools.0/looker.")]

    assert len(granted) == started
    assert spent.cost_usd is not None
    assert spent.cost_usd <= Decimal("0.50")
    refused = [r for r in rows if "/" not in r.key.removeprefix("tools.0/") and r.error]
    assert sum("call fewer at a time" in str(r.error) for r in refused) == calls - started


async def test_tokens(sqlite_url: str) -> None:
    """Tokens are divided as dollars are, and both at once."""
    tools = [delegate(looker(), description="Have it looked for.")]
    agent = boss(asks(*["looker"] * 3), tools, budget(tokens=3000), budget(usd=5, tokens=9000))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        granted, spent = await grants(client), await cost(client)

    assert {tuple(each.items()) for each in granted.values()} == {
        (("tokens", 900), ("usd", "1.646666"))
    }
    assert spent.input_tokens + spent.output_tokens <= 3000


async def test_nested(sqlite_url: str) -> None:
    """An agent divides its own grant among those that it asks in its turn."""
    inner = delegate(looker(), description="Have it looked for.")
    middle = boss(asks("looker", "looker"), [inner], name="middle")
    agent = boss(asks("middle", "middle"), [delegate(middle, description="Ask.")], budget(usd=1))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)
        outer = await grants(client)
        below = [await grants(client, f"a/1#{key}") for key in outer]
        spent = await cost(client)

    for granted, inside in zip(outer.values(), below, strict=True):
        given = sum(Decimal(each["usd"]) for each in inside.values())
        assert len(inside) == 2
        assert Decimal("0.3") < given < Decimal(granted["usd"])
    assert spent.cost_usd is not None
    assert spent.cost_usd <= 1
    assert answer.usage.cost_usd == spent.cost_usd


async def test_at_its_grant(sqlite_url: str) -> None:
    """A child at its grant ends with what it has, which its parent's model is told; it is whole."""
    tools = [delegate(looker(), description="Have it looked for.")]
    agent = boss(asks("looker"), tools, budget(usd=0.20))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        rows = {row.key: row for row in await client.journal("a/1")}
        child = decode(rows["tools.0/looker.0/looker.0"].value)

    told = decode(rows["tools.0/looker.0"].error)
    assert (child["reason"], child["text"]) == ("budget", "One owl.")
    assert child["detail"] == "$0.1200 of $0.1400 granted spent; the rest is kept"
    assert told["message"].startswith("'looker' has no answer: it ran out of its budget: $0.1200")
    assert told["message"].endswith("What it had found: One owl.")
    assert told["details"]["reason"] == "budget"


async def test_one_call_too_many(sqlite_url: str) -> None:
    """A grant is exceeded by the one call in flight at most: there are no last words beyond it."""
    tools = [delegate(looker(usd="0.30"), description="Have it looked for.")]
    agent = boss(asks("looker", "looker"), tools, budget(usd=0.20))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        rows = {row.key: row for row in await client.journal("a/1")}
        used = await client.store.usages("a/1#tools.0/looker.0/looker.0#")

    told = decode(rows["tools.0/looker.0"].error)
    assert len(used) == 1
    assert told["message"].endswith("What it had found: So far: one owl.")


async def test_nothing_left(sqlite_url: str) -> None:
    """Where nothing is left no child is started, and the model is told."""
    tools = [delegate(looker(), description="Have it looked for.")]
    agent = boss(asks("looker", usd="0.50"), tools, budget(usd=0.50))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        rows = {row.key: row for row in await client.journal("a/1")}

    told = decode(rows["tools.0/looker.0"].error)
    assert told["message"] == "'looker' was not asked: nothing is left of the budget for it"
    assert "tools.0/looker.0/looker.0" not in rows


@pytest.mark.parametrize("who", ["parent", "child"])
async def test_an_unknown_price(sqlite_url: str, who: str) -> None:
    """A price that nobody knows is not 0: no grant is made of it, and none is kept with it."""
    prices = {"usd": None} if who == "parent" else {}
    child = looker(usd=None if who == "child" else "0.02")
    agent = boss(asks("looker", **prices), [delegate(child, description="Ask.")], budget(usd=1))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)
        rows = {row.key: row for row in await client.journal("a/1")}

    told = decode(rows["tools.0/looker.0"].error)["message"]
    known = "what is left of the budget is not known: a price is missing"
    assert told == f"'looker' was not asked: {known}" if who == "parent" else "is not known" in told
    assert (answer.reason, answer.usage.cost_usd) == ("budget", None)


async def test_a_condition_of_ones_own(sqlite_url: str) -> None:
    """A budget is found in whatever function composes it; one that only warns grants nothing."""

    def own(transcript: Transcript) -> End | Advice | None:
        return any_of(answered(), all_of(answered(), max_turns(3)))(transcript) or budget(usd=1)(
            transcript
        )

    tools = [delegate(looker(stop=any_of(answered(), max_turns(2))), description="Ask.")]
    model = Model("scripted:boss", script=asks("looker"))
    kept = Agent("boss", "Ask.", model, tools, own)
    warned = Agent("warned", "Ask.", model, tools, any_of(answered(), budget(usd=1, mode="soft")))
    async with connect(sqlite_url) as client:
        await worked(client, kept, "kept")
        await worked(client, warned, "warned")
        found = [await grants(client, each) for each in ("kept", "warned")]

    assert found == [{"tools.0/looker.0/looker.0": {"usd": "0.940000"}}, {}]


async def test_many_items(sqlite_url: str) -> None:
    """The items of a map, and a second map of the same call, share what their call may use."""
    child = looker()

    @tool
    async def sweep(ctx: Context) -> list[str]:
        """Have many places looked at."""
        first = await ctx.map(child, [f"barn {n}" for n in range(4)], limit=2)
        second = await ctx.map(child, [f"attic {n}" for n in range(2)])
        return [each.text for each in [*first, *second]]

    def script(request: Request) -> Reply:
        is_first = not any(isinstance(each, ToolMessage) for each in request.messages)
        return priced(say(call("sweep") if is_first else "Owls."))

    agent = boss(script, [sweep], budget(usd=1))
    async with connect(sqlite_url) as client:
        await worked(client, agent)
        granted, spent = await grants(client), await cost(client)

    barns = [each["usd"] for key, each in granted.items() if "/looker.0/" in key]
    attics = [each["usd"] for key, each in granted.items() if "/looker.1/" in key]
    assert barns == ["0.235000"] * 4
    # What the first four did not use of 0.94 is left for the others.
    assert attics == ["0.030000"] * 2
    assert spent.cost_usd is not None
    assert spent.cost_usd <= 1


async def test_a_raised_budget(store_url: str) -> None:
    """A grant is in no fingerprint: under another budget, the run goes on from its journal."""
    child = looker(stop=any_of(answered(), max_turns(2)))
    tools = [delegate(child, description="Ask.")]

    @tool
    async def wait(ctx: Context) -> str:
        """Wait."""
        return await ctx.receive("go", str)

    def script(request: Request) -> Reply:
        done = [each for each in request.messages if isinstance(each, ToolMessage)]
        asked = [call("looker", task="look"), call("wait")]
        return priced(say(*asked) if not done else say("Owls."))

    def at(usd: float) -> Agent:
        return boss(script, [*tools, wait], budget(usd=usd))

    async with connect(store_url) as client:
        first = at(1)
        async with client.work([first.durable]):
            await client.start(first.durable, Task("Look."), id="a/1")
            while not any(row.is_settled and row.granted for row in await client.journal("a/1")):
                await client.store.clock.sleep(0.01)
        second = at(5)
        async with client.work([second.durable]):
            await client.signal("a/1", "go", "on")
            answer = await client.result("a/1", second.durable)
        granted = await grants(client)

    assert (answer.text, answer.reason) == ("Owls.", "answered")
    assert granted == {"tools.0/looker.0/looker.0": {"usd": "0.470000"}}


async def test_two_maps_at_once(sqlite_url: str) -> None:
    """What children at work were granted is spent: a map beside them finds nothing left."""
    child = looker()

    @durable
    async def half(ctx: Context, places: list[str]) -> str:
        try:
            return str(len(await ctx.map(child, places)))
        except DelegateFailed as error:
            return str(error)

    @tool
    async def sweep(ctx: Context) -> list[str]:
        """Have two halves looked at, side by side."""
        halves = ["barn", "attic"], ["well", "tower"]
        return await ctx.gather(*(ctx.call(half, each) for each in halves))

    def script(request: Request) -> Reply:
        told = [r for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
        return priced(say(call("sweep") if not told else told[0].content))

    agent = boss(script, [sweep], budget(usd=1))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)
        granted, spent = await grants(client), await cost(client)

    assert answer.text == '["2","nothing is left of the budget for it"]'
    assert [each["usd"] for each in granted.values()] == ["0.470000"] * 2
    assert spent.cost_usd is not None
    assert spent.cost_usd <= 1


@pytest.mark.parametrize("used, counts", [("0.10", "0.53"), ("0.70", "0.73")])
def test_an_open_child_counts_as_its_grant(used: str, counts: str) -> None:
    """A child at work counts as what it was granted, or as more, where it has used more."""

    def usage(usd: str) -> JsonText:
        return JsonText(encode(Usage(10, 10, cost_usd=Decimal(usd)).to_json()))

    child = PromiseId("a/1#tools.0/q.0/q.0")
    rows = [
        (PromiseId(f"{child}#model.0"), usage(used)),
        (PromiseId(f"{child}#tools.0/p.0/p.0#model.0"), usage("0")),
        (PromiseId("a/1#tools.0/r.0/r.0#model.0"), usage("0.03")),
    ]
    grant = Grant({Unit.USD: Decimal("0.50"), Unit.TOKENS: Decimal(1000)})

    total = counted(rows, {child: grant})

    assert total.cost_usd == Decimal(counts)
    assert total.input_tokens + total.output_tokens == 1020
