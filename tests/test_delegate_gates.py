"""A person is asked before a sub-agent is, and what a sub-agent asks shows at the top."""

import asyncio
from datetime import timedelta
from typing import Any

from substrate import Client, Context, Retry, RunStatus, WorkerOptions, connect
from substrate.agent import (
    Agent,
    Policy,
    Task,
    answered,
    any_of,
    approve,
    budget,
    delegate,
    deny,
    tool,
)
from substrate.models.providers.scripted import call, say
from substrate.values.codec import decode
from substrate.values.ids import RunId
from tests.stores import eventually
from tests.test_approvals import open_gates, settle
from tests.test_delegate import CHILD, boss, scripted


@tool
async def wait(ctx: Context) -> str:
    """Wait."""
    return await ctx.receive("go", str)


@tool(effect="pure", approve=True)
def pay(cents: int) -> str:
    """Pay."""
    return f"paid {cents}"


async def started(client: Client, agent: Agent) -> None:
    """Start an agent, and drive it until it waits."""
    await client.start(agent.durable, Task("Do it."), id="a/1")
    await settle(client, agent.durable)


async def ended(client: Client, agent: Agent) -> str:
    """Drive the agent to its end; return what it was told."""
    await settle(client, agent.durable)
    assert (await client.get("a/1")).status is RunStatus.DONE
    return (await client.result("a/1", agent.durable)).text


def asking(*tools: Any, **options: Any) -> Agent:
    """Return an agent that asks another one, which uses this tool."""
    calls = {"wait": call("wait"), "pay": call("pay", cents=500)}
    script = scripted(say("I begin.", calls[tools[0].name]), say("Two owls."))
    owls = Agent("owls", "Count.", script, tools)
    stop = any_of(answered(), budget(usd=1))
    asks = delegate(owls, description="Ask.", **options)
    return boss([asks], call("owls", task="Look."), stop=stop)


async def test_an_edited_task(store_url: str) -> None:
    """The child does what the person has written; a restart finds it, and starts no other."""
    agent = asking(wait, approve=True)
    async with connect(store_url) as client:
        await started(client, agent)
        (gate,) = await open_gates(client)
        assert await client.store.get(RunId(CHILD)) is None
        await approve(client, gate, by="ada", edit={"task": "Look in the attic."})
        await settle(client, agent.durable)  # the child waits now
        await settle(client, agent.durable)  # and another worker takes both up
        given = decode((await client.store.promise(RunId(CHILD))).input or "")  # type: ignore[union-attr]
        await client.signal(CHILD, "go", "on")
        said = await ended(client, agent)
        children = [row.key for row in await client.journal("a/1") if row.kind == "child"]

    assert given["task"]["text"] == "Look in the attic."
    assert said.endswith("Two owls.")
    assert children == ["tools.0/owls.0/owls.0"]


async def test_denied(sqlite_url: str) -> None:
    """No child is started, and the model is told why."""
    agent = asking(wait, approve=True)
    async with connect(sqlite_url) as client:
        await started(client, agent)
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="not today")
        said = await ended(client, agent)
        child = await client.store.get(RunId(CHILD))

    assert "not today" in said
    assert child is None


async def test_a_gate_below(store_url: str) -> None:
    """What a child asks of a person is decided while no worker is alive, and both go on."""
    agent = asking(pay)
    async with connect(store_url) as client:
        await started(client, agent)
        (gate,) = await open_gates(client)
        asked = await client.store.asked([RunId("a/1")])
        assert [row.id for row in asked[RunId("a/1")]] == [gate.id]
        assert gate.id.startswith(f"{CHILD}#")
        await approve(client, gate, by="ada")
        assert await ended(client, agent) == "Two owls."
        rows = {row.key: row for row in await client.store.journal(RunId(CHILD))}

    assert decode(rows["tools.0/pay.0"].value or "") == "paid 500"  # type: ignore[index]


async def test_an_edited_call_that_was_cut_off(store_url: str) -> None:
    """A call that runs again after a restart runs as the person has changed it, not as asked."""
    called: list[int] = []

    @tool(effect="idempotent", approve=True)
    async def refund(cents: int, idempotency_key: str) -> str:
        """Pay back."""
        called.append(cents)
        if len(called) == 1:
            await asyncio.Event().wait()  # the process ends in the middle
        return f"paid {cents}"

    agent = boss([refund], call("refund", cents=4900))
    async with connect(store_url) as client:
        await started(client, agent)
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada", edit={"cents": 100}, tools=[refund])
        short = WorkerOptions(poll=timedelta(milliseconds=20), shutdown_grace=timedelta(0))
        async with client.work([agent.durable], options=short):
            await eventually(lambda: called == [100])
        said = await ended(client, agent)

    assert called == [100, 100]
    assert said.endswith("paid 100")


async def test_a_no_is_final(store_url: str) -> None:
    """A denial that fails a child is not tried again: nobody is asked the same once more."""
    pays = tool(effect="pure", approve=Policy(on_denied="fail"))(pay.function)
    agent = asking(pays, retry=Retry(max_attempts=3, initial=0))
    async with connect(store_url) as client:
        await started(client, agent)
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="Too much.")
        told = await ended(client, agent)
        keys = [row.key for row in await client.journal("a/1") if row.kind == "child"]

    assert told.startswith(
        "!'owls' has no answer: it failed: CallDeniedForGood: pay was not called"
    )
    assert keys == ["tools.0/owls.0/owls.0"]
