"""A call that waits for a person mutes nothing: the loop goes on, and is told later."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from substrate import Client, RunStatus, WorkerOptions, connect
from substrate.agent import Model, Policy, Tool, answered, any_of, approve, deny, max_turns, tool
from substrate.agent.conversation import Conversation, conversation_of
from substrate.agent.history.next_key import next_key
from substrate.agent.history.request import read_request
from substrate.agent.history.rows import value_of
from substrate.agent.stop import signalled
from substrate.agent.task import Task
from substrate.models.frame import canonical
from substrate.models.messages import Message, Text, ToolMessage, UserMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.values.errors import RunFailed
from substrate.values.gates import Gate, GateState
from tests.loops import TASK, make_agent

ASK = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))
PAY = call("refund", order="A-17", cents=4900)
MARK = re.compile(r"\[outcome [0-9a-f]{8}\]")


def told(request: Request) -> str:
    """Return what the model was told last, in words."""
    return told_in(request.messages[-1])


def told_in(last: Message) -> str:
    """Return the words of a message, without the day."""
    if isinstance(last, ToolMessage):
        return " | ".join(result.content for result in last.results)
    assert isinstance(last, UserMessage)
    parts = [part.text for part in last.parts if isinstance(part, Text)]
    return " | ".join(each for each in parts if not each.startswith("Today is"))


@dataclass
class Shop:
    """A till, and a model that pays first, then says what it was told last."""

    paid: list[tuple[str, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    #: What the model calls, by the number of its turn.
    calls: dict[int, Sequence[Any]] = field(default_factory=lambda: {0: [PAY]})

    def refund(self, **policy: Any) -> Tool:
        """Return the tool that pays, and waits for nobody."""

        @tool(name="refund", approve=Policy(wait=False, **policy))
        def refund(order: str, cents: int) -> str:
            """Pay back."""
            self.paid.append((order, cents))
            return f"paid {cents}"

        return refund

    def say(self, request: Request) -> Any:
        """Answer for the model."""
        self.requests.append(request)
        calls = self.calls.get(len(self.requests) - 1)
        return say(*calls) if calls and request.may_call_tools else say(f"Told: {told(request)}")

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:shop", script=self.say)


async def settle(client: Client, *functions: Any) -> None:
    """Drive what can be driven, with a worker of its own, until all of it waits or has ended."""
    async with client.work(list(functions), options=ASK) as worker:
        await worker.run_until_idle()


async def open_gates(client: Client) -> list[Gate]:
    """Return the open gates."""
    return list(await client.store.gates.pending())


async def keys(client: Client, run_id: str = "a/1") -> list[str]:
    """Return the keys of a journal."""
    return [each.key for each in await client.journal(run_id)]


@asynccontextmanager
async def asking(
    url: str, shop: Shop, stop: Any = None, **policy: Any
) -> AsyncIterator[tuple[Client, Any]]:
    """Start a run that pays, and drive it until it only waits."""
    ends = stop or any_of(answered(), max_turns(5))
    agent = make_agent(shop.model, [shop.refund(**policy)], ends)
    async with connect(url) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        yield client, agent


async def test_the_model_is_told_at_once_and_goes_on(store_url: str) -> None:
    """It is told that a person is asked, gives an answer, and the run waits with the gate open."""
    shop = Shop()
    async with asking(store_url, shop, to="finance") as (client, _):
        assert len(shop.requests) == 2
        assert MARK.search(said := told(shop.requests[1]))
        assert "refund was not called yet: a person (finance) is asked first" in said
        assert not shop.requests[1].messages[-1].results[0].is_error
        run = await client.get("a/1")
        assert run.status is RunStatus.SUSPENDED
        assert [each.tool for each in await open_gates(client)] == ["refund"]
        assert shop.paid == []


async def test_what_comes_of_it_is_told_later(store_url: str) -> None:
    """Approved while nobody works, the call is made once, and the model says more."""
    shop = Shop()
    async with asking(store_url, shop) as (client, agent):
        await approve(client, (await open_gates(client))[0], by="ada")
        await settle(client, agent)
        answer = await client.result("a/1", agent)
        requests = [
            (await read_request(client, "a/1", key))["messages"]
            for key in await keys(client)
            if key.startswith("model.")
        ]

        assert shop.paid == [("A-17", 4900)]
        mark = MARK.search(told(shop.requests[1]))
        assert mark is not None
        later = told(shop.requests[2])
        assert later.startswith(f"{mark[0]} The program that runs you tells you this, no person")
        assert later.endswith("It was approved, and it was called. Its result:\npaid 4900")
        assert answer.text == f"Told: {later}"
        assert answer.reason == "answered"
        assert requests == [canonical(each)["messages"] for each in shop.requests]
        assert await keys(client) == [
            "prompt.0",
            "model.0",
            "model.1",
            "tools.0/refund.0/gate.0",
            "decided.0",
            "tools.0/refund.0",
            "model.2",
            "run",
        ]


@pytest.mark.parametrize("how", ["denied", "edited", "expired", "let through", "fails"])
async def test_however_it_is_decided(store_url: str, how: str) -> None:
    """A denial, an edit, the end of its time and a failure are told in their own words."""
    shop = Shop()
    soon = {"timeout": timedelta(milliseconds=300)}
    policies: dict[str, dict[str, Any]] = {
        "expired": {**soon, "on_timeout": "deny"},
        "let through": {**soon, "on_timeout": "approve"},
    }
    refund = shop.refund(**policies.get(how, {}))
    if how == "fails":

        def broken(order: str, cents: int) -> str:
            raise OSError("the till is away")

        refund = refund.with_function(broken)
    agent = make_agent(shop.model, [refund])
    async with connect(store_url) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        if how not in policies:
            (gate,) = await open_gates(client)
            if how == "denied":
                await deny(client, gate, by="ada", why="ask the customer first")
            else:
                edit = {"cents": 100} if how == "edited" else None
                await approve(client, gate, by="ada", edit=edit, tools=[refund])
        async with client.work([agent], options=ASK):
            said = (await client.result("a/1", agent)).text
    ends = {
        "denied": "refund was not called: ada denied it: ask the customer first",
        "edited": "paid 100",
        "expired": "refund was not called: nobody has decided in time",
        "let through": "Nobody decided in time, and it was called. Its result:\npaid 4900",
        "fails": "it may have happened, and is not made again. Look first.",
    }
    assert said.endswith(ends[how])
    cents = {"edited": [100], "let through": [4900]}.get(how, [])
    assert [paid for _, paid in shop.paid] == cents


async def test_the_same_call_asked_twice_meanwhile(store_url: str) -> None:
    """The model is told that it is open already; another call is asked about beside it."""
    other = call("refund", order="B-1", cents=10)
    shop = Shop(calls={0: [PAY, PAY], 1: [PAY, other]})
    async with asking(store_url, shop) as (client, agent):
        gates = await open_gates(client)
        assert [each.summary for each in gates] == [
            "refund(order='A-17', cents=4900)",
            "refund(order='B-1', cents=10)",
        ]
        for request in shop.requests[1:3]:
            assert f"(approval {gates[0].code[:8]}), which stays open" in told(request)
            assert not any(each.is_error for each in request.messages[-1].results)
        for gate in gates:
            await approve(client, gate, by="ada")
        await settle(client, agent)
        assert sorted(shop.paid) == [("A-17", 4900), ("B-1", 10)]
        assert len(MARK.findall(told(shop.requests[-1]))) == 2


async def test_in_the_order_in_which_they_were_decided(store_url: str) -> None:
    """Two calls are told in the order of the decisions, on every replay."""
    other = call("refund", order="B-1", cents=10)
    shop = Shop(calls={0: [PAY, other]})
    async with asking(store_url, shop) as (client, agent):
        for gate in reversed(await open_gates(client)):
            await approve(client, gate, by="ada")
        await settle(client, agent)
        rows = {each.key: each for each in await client.journal("a/1")}
        order = ["tools.0/refund.1", "tools.0/refund.0"]
        assert value_of(rows["decided.0"]) == order
        assert [part.text[-4:] for part in shop.requests[-1].messages[-1].parts] == ["d 10", "4900"]


async def test_a_run_that_is_cut_short_asks_nobody_any_more(store_url: str) -> None:
    """At a limit the gate is withdrawn, which the model is told in its last words, and people."""
    shop = Shop(calls={0: [PAY], 1: [call("nothing")], 2: [call("nothing")]})
    async with asking(store_url, shop, any_of(answered(), max_turns(3))) as (client, agent):
        answer = await client.result("a/1", agent)
        assert answer.reason == "max_turns"
        assert "nobody had decided: refund(order='A-17', cents=4900)" in answer.detail
        later = [told_in(each) for each in shop.requests[-1].messages[-2:]]
        assert later[0].endswith("it was withdrawn before anybody decided")
        gates = await client.store.gates.of_tree("a/1")
        assert [each.state for each in gates] == [GateState.WITHDRAWN]
        assert shop.paid == []


async def test_approved_before_a_limit_it_is_made(store_url: str) -> None:
    """What a person has approved before the run was cut short is made, and told."""
    shop = Shop(calls={0: [PAY], 1: [call("decide")]})
    clients: list[Client] = []

    @tool(effect="pure")
    async def decide() -> str:
        """Have somebody decide."""
        (gate,) = await open_gates(clients[0])
        await approve(clients[0], gate, by="ada")
        return "done"

    stop = any_of(answered(), max_turns(2))
    agent = make_agent(shop.model, [shop.refund(), decide], stop)
    async with connect(store_url) as client:
        clients.append(client)
        await client.start(agent, TASK, id="a/1")
        async with client.work([agent], options=ASK):
            answer = await client.result("a/1", agent)
    assert shop.paid == [("A-17", 4900)]
    assert answer.reason == "max_turns"
    assert told_in(shop.requests[-1].messages[-2]).endswith("paid 4900")


async def test_a_message_while_a_run_waits_for_a_decision(store_url: str) -> None:
    """It makes a turn of its own, and the gate stays open."""
    shop = Shop()
    async with asking(store_url, shop) as (client, agent):
        await client.signal("a/1", "message", "Hurry up.")
        await settle(client, agent)
        assert told(shop.requests[-1]) == "Hurry up."
        await client.signal("a/1", "message", "Please.")
        await settle(client, agent)
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        await settle(client, agent)
        assert (await client.result("a/1", agent)).text.endswith("paid 4900")
        assert [len(each.messages) for each in shop.requests] == [1, 3, 5, 7, 9]
        assert_it_only_grows(shop.requests)


@pytest.mark.parametrize("first", ["message", "decision"])
async def test_a_message_and_a_decision_in_a_row(store_url: str, first: str) -> None:
    """The model is told them in the order in which the run took them, live as on each replay."""
    shop = Shop(calls={0: [PAY, call("refund", order="B-1", cents=10)]})
    async with asking(store_url, shop, any_of(answered(), max_turns(9))) as (client, agent):
        gates = await open_gates(client)
        for n, gate in enumerate(gates):
            if first == "message":
                await client.signal("a/1", "message", f"Message {n}.")
                await settle(client, agent)
            await approve(client, gate, by="ada")
            if n == 0:
                await settle(client, agent)
                await client.signal("a/1", "message", "Well?")
            await settle(client, agent)
        await client.result("a/1", agent)
        requests = [
            (await read_request(client, "a/1", key))["messages"]
            for key in await keys(client)
            if key.startswith("model.")
        ]
    assert requests == [canonical(each)["messages"] for each in shop.requests]
    assert_it_only_grows(shop.requests)
    assert len(shop.paid) == 2


def assert_it_only_grows(requests: Sequence[Request]) -> None:
    """Each request has all that the one before had: a replay has changed no order."""
    asked = [canonical(each)["messages"] for each in requests]
    for before, after in pairwise(asked):
        assert after[: len(before)] == before


async def test_a_person_ends_a_run_that_waits_for_a_decision(store_url: str) -> None:
    """The signal of a condition ends the wait: the gate is withdrawn, and the model told."""
    shop = Shop()
    async with asking(store_url, shop, any_of(answered(), signalled(tool=None))) as (client, agent):
        await client.signal("a/1", "stop")
        await settle(client, agent)
        answer = await client.result("a/1", agent)
        assert answer.reason == "answered"
        assert answer.detail == "nobody had decided: refund(order='A-17', cents=4900)"
        assert await open_gates(client) == []


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_an_end_from_outside_withdraws(store_url: str, how: str) -> None:
    """A cancel, and the end of the run's time, ask nobody any more."""
    shop, clock = Shop(), ManualClock()
    agent = make_agent(shop.model, [shop.refund()])
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1", timeout=timedelta(hours=1))
        async with client.work([agent], options=ASK) as worker:
            await worker.run_until_idle()
            if how == "cancel":
                await client.cancel("a/1")
            else:
                clock.advance(7200)
            await worker.run_until_idle()
            with pytest.raises(RunFailed, match=r"RunCancelled|RunTimedOut"):
                await client.result("a/1", agent)
        gates = await client.store.gates.of_tree("a/1")
        assert [each.state for each in gates] == [GateState.WITHDRAWN]
        assert shop.paid == []


def talk_of(shop: Shop, *tools: Tool, stop: Any = None) -> Conversation:
    """Return a conversation with the shop."""
    ends = stop or any_of(answered(), max_turns(5))
    return conversation_of(make_agent(shop.model, tools or [shop.refund()], ends))


async def texts(client: Client) -> list[str]:
    """Return the answers of a conversation."""
    return [value_of(row)["text"] for row in await client.journal("a/1") if row.name == "answer"]


async def test_a_conversation_is_not_muted(store_url: str) -> None:
    """It answers, is spoken to, and goes on by itself once somebody has decided."""
    shop = Shop()
    function = talk_of(shop)
    async with connect(store_url) as client:
        await client.start(function, Task("Pay me back."), None, id="a/1")
        await settle(client, function)
        await client.signal("a/1", "message", "And the weather?")
        await settle(client, function)
        assert (await texts(client))[1] == "Told: And the weather?"
        assert (await client.get("a/1")).status is RunStatus.SUSPENDED

        await approve(client, (await open_gates(client))[0], by="ada")
        await settle(client, function)
        found = await texts(client)
        assert len(found) == 3
        assert found[2].endswith("paid 4900")
        assert shop.paid == [("A-17", 4900)]

        await client.signal("a/1", "message", "Thanks.")
        await settle(client, function)
        assert (await texts(client))[3] == "Told: Thanks."
        requests = [
            (await read_request(client, "a/1", key))["messages"]
            for key in await keys(client)
            if key.startswith("model.")
        ]
    assert requests == [canonical(each)["messages"] for each in shop.requests]
    assert [len(each.messages) for each in shop.requests] == [1, 3, 5, 7, 9]
    assert_it_only_grows(shop.requests)


async def test_a_decision_with_a_worker_at_work(store_url: str) -> None:
    """A conversation that is still in memory follows a decision, and a message, at once."""
    shop = Shop()
    function = talk_of(shop)
    warm = WorkerOptions(poll=timedelta(milliseconds=20))
    async with connect(store_url) as client, client.work([function], options=warm):
        await client.start(function, Task("Pay me back."), None, id="a/1")
        async for row in client.follow("a/1"):
            if row.name == "message" and not row.is_settled:
                break
        await approve(client, (await open_gates(client))[0], by="ada")
        async for row in client.follow("a/1"):
            if row.key == "message.1" and not row.is_settled:
                break
        await client.signal("a/1", "message", "Thanks.")
        async for row in client.follow("a/1"):
            if row.key == "message.2" and not row.is_settled:
                break
        found = await texts(client)
        assert found[1].endswith("paid 4900")
        assert found[2:] == ["Told: Thanks."]


async def test_where_a_run_goes_on(store_url: str) -> None:
    """What `show` and `run` tell of the next key is no gate that the loop goes on without."""
    shop = Shop()
    async with asking(store_url, shop) as (client, _):
        assert next_key(await client.journal("a/1")) == "model.2"
