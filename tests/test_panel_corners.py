"""A panel in the corners of a loop: a full context, a model that becomes one, a conversation."""

import asyncio
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from substrate import connect
from substrate.agent import (
    Agent,
    Panel,
    answered,
    any_of,
    budget,
    delegate,
    first,
    majority,
    max_turns,
    tool,
)
from substrate.agent.history.request import read_request
from substrate.agent.transcript import SUMMARY_HEAD
from substrate.models.frame import canonical
from substrate.models.messages import Reply, ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import encode
from substrate.values.errors import ContextOverflow, Overloaded
from tests.loops import TASK, answer_of, make_agent, row
from tests.runs import keys
from tests.stores import eventually
from tests.test_panel import BRIEF, agreeing, cent, does, never, panel_in, says


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "two"


async def test_a_full_context(store_url: str) -> None:
    """Where what was said is too long for all, it is summed up, and all are asked once more."""
    asked: Counter[str] = Counter()

    def member(name: str) -> Callable[[Request], Reply]:
        def script(request: Request) -> Reply:
            said = encode(canonical(request))
            asked[name] += 1
            if not request.may_call_tools:
                return cent("Two were seen.")
            if not any(isinstance(each, Reply) for each in request.messages):
                return cent(say(call("look")))
            if SUMMARY_HEAD not in said:
                raise ContextOverflow("too long")
            return cent("Two.")

        return script

    panel = Panel({"a": does(member("a"), "a"), "b": does(member("b"), "b")}, merge=first)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel, [look]))
        found = await keys(client, "a/1")
        told = await panel_in(client, "model.1")

    assert (answer.text, answer.turns) == ("Two.", 2)
    assert {"summary.0", "model.1"} < {*found}
    assert told["votes"][0]["key"].endswith(".1")


async def test_a_model_becomes_a_panel(store_url: str) -> None:
    """A turn that a model has begun in vain is a panel's where the hook is one by now."""
    busy = does(lambda request: _raise(Overloaded("busy", retry_after=3600)), "busy")
    panel = Panel({"a": says("Two."), "b": says("two")}, merge=majority)
    async with connect(store_url) as client:
        async with client.work([agent := make_agent(busy)], options=BRIEF):
            await client.start(agent, TASK, id="a/1")
            await eventually(lambda: _has(client, "model.0"))
        other = make_agent(panel)
        async with client.work([other], options=BRIEF):
            await client.signal("a/1", "model", "now")
            answer = await client.result("a/1", other)
        told = await panel_in(client)

    assert (answer.text, agreeing(told)) == ("Two.", ["a", "b"])


def _raise(error: Exception) -> Reply:
    raise error


async def _has(client: Any, key: str) -> bool:
    return key in await keys(client, "a/1")


async def test_a_panel_below(store_url: str) -> None:
    """A sub-agent of a panel has a grant, and what all its members used counts above."""
    jury = Agent("jury", "Judge.", Panel({n: says("Two.", name=n) for n in "abc"}, merge=majority))

    def boss(request: Request) -> Reply:
        if not any(isinstance(each, ToolMessage) for each in request.messages):
            return cent(say(call("jury", task="Judge.")))
        return cent("Two.")

    agent = make_agent(
        does(boss, "boss"),
        [delegate(jury, description="Judge.")],
        any_of(answered(), max_turns(4), budget(usd=1)),
    )
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.text, answer.usage.cost_usd) == ("Two.", Decimal("0.05"))


async def test_the_request_of_that_day(sqlite_url: str) -> None:
    """What each member was asked can be read back, and what the panel was."""
    seen: list[Request] = []

    def script(request: Request) -> Reply:
        seen.append(request)
        return cent("" if len(seen) == 1 else "Two.")

    panel = Panel({"a": does(script)}, merge=majority)
    async with connect(sqlite_url) as client:
        await answer_of(client, make_agent(panel))
        read = [
            await read_request(client, "a/1", f"model.{n}{m}") for n in (0, 1) for m in ("/a.0", "")
        ]

    assert read == [canonical(each) for each in seen for _ in (0, 1)]
    assert len(seen) == 2


async def test_two_runs_at_once(store_url: str) -> None:
    """Many panels at once, on one worker: each has its own votes and its own cost."""
    panel = Panel({"a": says("Two."), "b": says("two"), "c": never()}, merge=majority, need=2)
    agent = make_agent(panel)
    async with connect(store_url) as client, client.work([agent]):
        ids = [f"a/{n}" for n in range(20)]
        await asyncio.gather(*(client.start(agent, TASK, id=each) for each in ids))
        answers = await asyncio.gather(*(client.result(each, agent) for each in ids))

    assert {each.text for each in answers} == {"Two."}
    assert {each.usage.cost_usd for each in answers} == {Decimal("0.02")}


async def test_cancelled(store_url: str) -> None:
    """A run that is cancelled while its panel is asked leaves nothing open."""
    agent = make_agent(Panel({"a": says("Two."), "b": never()}, merge=majority))
    async with connect(store_url) as client, client.work([agent], options=BRIEF):
        await client.start(agent, TASK, id="a/1")
        await eventually(lambda: _has(client, "model.0/a.0"))
        await client.cancel("a/1")
        await eventually(lambda: _ended(client))
        journal = await client.journal("a/1")

    assert all(each.is_settled for each in journal)


async def _ended(client: Any) -> bool:
    return (await client.get("a/1")).status.has_ended


async def test_more_votes_than_are_needed(store_url: str) -> None:
    """Of more votes than `need` those that came first count; all are paid, nobody is asked more."""
    asked: list[str] = []
    members = {name: says(f"{name}.", name=name) for name in "abc"} | {"d": never(asked)}
    waiting = make_agent(Panel(members, merge=majority))
    hurried = make_agent(Panel(members, merge=majority, need=2))
    async with connect(store_url) as client:
        async with client.work([waiting], options=BRIEF):
            await client.start(waiting, TASK, id="a/1")
            for name in "abc":
                await eventually(lambda name=name: _has(client, f"model.0/{name}.0"))
        async with client.work([hurried], options=BRIEF):
            answer = await client.result("a/1", hurried)
        told = await panel_in(client)
        seqs = {name: (await row(client, f"model.0/{name}.0")).seq for name in "abc"}

    assert [each["member"] for each in told["votes"]] == sorted(
        sorted(seqs, key=lambda name: seqs[name])[:2]
    )
    assert (told["left"], asked) == (["d"], ["asked"])
    assert answer.usage.cost_usd == Decimal("0.03")
