"""An agent gives the conversation away: the same run goes on, under another agent's hooks."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from substrate import Client, Context, RunStatus, connect
from substrate.agent import Agent, Prompt, Task, answered, any_of, budget, handoff, max_turns, tool
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.ids import RunId
from tests.fork import HOOKS, Fork
from tests.runs import QUICK, keys, reached
from tests.stores import eventually
from tests.test_delegate import worked


def priced(reply: Reply, usd: str = "0.01") -> Reply:
    """Return a reply that has cost this much."""
    return replace(reply, usage=Usage(10, 10, cost_usd=Decimal(usd)))


class Heard:
    """A model that says its turns, and keeps what it was asked."""

    def __init__(self, *turns: Reply, usd: str = "0.01") -> None:
        self.asked: list[Request] = []
        self._turns = [priced(each, usd) for each in turns]

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        return self._turns[min(len(self.asked), len(self._turns)) - 1]

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:heard", script=self)


@tool(effect="pure")
def look_up(invoice: int) -> str:
    """Look an invoice up."""
    return f"invoice {invoice} is open"


@tool
async def wait(ctx: Context) -> str:
    """Wait."""
    return await ctx.receive("go", str)


def told(request: Request) -> list[str]:
    """Return what the tools gave, in order."""
    return [r.content for m in request.messages if isinstance(m, ToolMessage) for r in m.results]


async def test_the_other_goes_on(store_url: str) -> None:
    """Prompt, model, tools and stop are the other's from the next turn; run and transcript stay."""
    desk = Heard(say("I hand you over.", call("hand_over_to_billing")))
    office = Heard(say(call("look_up", invoice=7)), say("It is open."))
    prompt = Prompt.versions({"v1": "Settle it."}, name="billing")
    billing = Agent("billing", prompt, office.model, [look_up], stop=any_of(answered()))
    front = Agent("front", "Greet.", desk.model, [handoff(billing)])
    async with connect(store_url) as client:
        answer = await worked(client, front)
        rows = {row.key: row for row in await client.journal("a/1")}

    assert (answer.text, answer.turns, answer.usage.cost_usd) == ("It is open.", 3, Decimal("0.03"))
    assert decode(rows["handoff.0"].value or "") == {  # type: ignore[index]
        "to": "billing",
        "system": "Settle it.",
        "prompt": "billing",
        "version": "v1",
    }
    assert [each.system for each in desk.asked + office.asked] == ["Greet.", *["Settle it."] * 2]
    assert [tool.name for tool in office.asked[0].tools] == ["look_up"]
    assert told(office.asked[0]) == ["billing goes on with this conversation from here."]
    assert office.asked[0].messages[0] == desk.asked[0].messages[0]
    assert (
        list(rows)[:5]
        == ["prompt.0", "model.0", "tools.0/hand_over_to_billing.0", "handoff.0", "model.1"]
        or "run" in rows
    )


async def test_turns_are_counted_anew_and_budgets_are_not(sqlite_url: str) -> None:
    """The other's own limits hold for its part; the budget is that of the first, for the whole."""
    office = Heard(say(call("look_up", invoice=7)), usd="0.10")
    billing = Agent(
        "billing", "Settle it.", office.model, [look_up], any_of(answered(), max_turns(3))
    )
    desk = Heard(say(call("look_up", invoice=1)), say(call("hand_over_to_billing")), usd="0.10")
    front = Agent("front", "Greet.", desk.model, [look_up, handoff(billing)], billing.stop)
    again = Heard(*desk._turns, usd="0.10")
    poor = Agent(
        "poor",
        "Greet.",
        again.model,
        [look_up, handoff(billing)],
        any_of(answered(), budget(usd=0.45)),
    )
    async with connect(sqlite_url) as client, client.work([front.durable, poor.durable]):
        await client.start(front.durable, Task("Do it."), id="rich")
        await client.start(poor.durable, Task("Do it."), id="poor")
        rich = await client.result("rich", front.durable)
        short = await client.result("poor", poor.durable)

    # Two turns of the front, three of billing, and last words.
    assert (rich.reason, rich.turns, rich.detail) == ("max_turns", 6, "the limit of 3 is reached")
    assert (short.reason, short.turns) == ("budget", 4)
    assert short.detail.startswith("$0.3000 of $0.45 spent")


async def test_the_first_counts(sqlite_url: str) -> None:
    """Of two handoffs in one turn the first counts, and the model is told of the other."""
    office = Heard(say("Settled."))
    other = Heard(say("Never."))
    billing = Agent("billing", "Settle it.", office.model)
    sales = Agent("sales", "Sell.", other.model)
    desk = Heard(
        say(call("hand_over_to_billing"), call("hand_over_to_sales"), call("look_up", invoice=1))
    )
    front = Agent("front", "Greet.", desk.model, [look_up, handoff(billing), handoff(sales)])
    async with connect(sqlite_url) as client:
        answer = await worked(client, front)

    assert (answer.text, other.asked) == ("Settled.", [])
    assert told(office.asked[0])[1:] == [
        "not called: the conversation goes to billing already",
        "invoice 1 is open",
    ]


async def test_there_and_back(sqlite_url: str) -> None:
    """A conversation may come back, and go on in another's hands again."""
    there: list[Any] = []
    back: list[Any] = []
    desk = Heard(say(call("hand_over_to_billing")), say("All is settled."))
    office = Heard(say(call("hand_over_to_front")))
    front = Agent("front", "Greet.", desk.model, there)
    billing = Agent("billing", "Settle it.", office.model, back)
    there.append(handoff(billing))
    back.append(handoff(front))
    async with connect(sqlite_url) as client:
        answer = await worked(client, front)
        rows = [key for key in await keys(client, "a/1") if key.startswith("handoff")]

    assert (answer.text, rows) == ("All is settled.", ["handoff.0", "handoff.1"])
    assert [each.system for each in desk.asked] == ["Greet.", "Greet."]


async def test_what_is_recorded_holds(store_url: str) -> None:
    """On a restart the run is in the hands it was given to, whatever the first hooks say now."""
    office = Heard(say(call("wait")), say("Settled."))
    billing = Agent("billing", "Settle it.", office.model, [wait])
    desk = Heard(say(call("hand_over_to_billing")))
    front = Agent("front", "Greet.", desk.model, [handoff(billing)])
    anew = Agent("front", "Greet differently.", Heard(say("No.")).model, [handoff(billing)])
    async with connect(store_url) as client:
        async with client.work([front.durable], options=QUICK):
            await client.start(front.durable, Task("Do it."), id="a/1")
            await reached(client, "a/1", "tools.1/wait.0/go.0")
        async with client.work([anew.durable], options=QUICK):
            await client.signal("a/1", "go", "on")
            answer = await client.result("a/1", anew.durable)

    assert answer.text == "Settled."
    assert [each.system for each in office.asked] == ["Settle it."] * 2


async def test_an_agent_that_is_gone(sqlite_url: str) -> None:
    """Where no hook hands over to the agent any more, the run is paused, and names it."""
    office = Heard(say(call("wait")), say("Settled."))
    billing = Agent("billing", "Settle it.", office.model, [wait])
    desk = Heard(say(call("hand_over_to_billing")))
    front = Agent("front", "Greet.", desk.model, [handoff(billing)])
    anew = Agent("front", "Greet.", Heard(say("No.")).model)
    async with connect(sqlite_url) as client:
        async with client.work([front.durable], options=QUICK):
            await client.start(front.durable, Task("Do it."), id="a/1")
            await reached(client, "a/1", "tools.1/wait.0/go.0")
        async with client.work([anew.durable], options=QUICK):
            await client.signal("a/1", "go", "on")
            await eventually(lambda: _is_paused(client))
            own = await client.store.promise(RunId("a/1"))
        async with client.work([front.durable], options=QUICK):
            await client.resume("a/1")
            answer = await client.result("a/1", front.durable)

    assert own is not None
    assert "the run was handed over to the agent 'billing'" in (own.error or "")
    assert answer.text == "Settled."


async def _is_paused(client: Client) -> bool:
    return (await client.get("a/1")).status is RunStatus.PAUSED


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Provide a fork whose hooks each test writes anew."""
    return Fork.make(tmp_path_factory.mktemp("fork"))


def test_to_itself(fork: Fork) -> None:
    """A handoff to the agent that has it would have no end: it is refused before a run begins."""
    own = "import sys\nname = 'own'\nfrom substrate.agent import handoff\n"
    own += "tools = [handoff(sys.modules[__name__])]\n"
    fork.write("agent/hooks.py", HOOKS + own)

    done = fork.do("run", "How many owls?")

    assert done.code == 2
    assert "`tools` has 'hand_over_to_own', which hands the conversation over to itself" in done.err


def test_it_is_shown(fork: Fork) -> None:
    """`show` tells to whom the conversation went."""
    own = """
from substrate.agent import Agent, handoff
other = Agent("other", "Count.", Model("scripted:other", script=lambda request: say("Three owls.")))
TURNS = [say(call("hand_over_to_other"))]
tools = [handoff(other)]
"""
    fork.write("agent/hooks.py", HOOKS + own)

    done = fork.do("run", "How many owls?", "--id", "owls")
    shown = fork.do("show", "owls")

    assert done.code == 0, done.err
    assert "Three owls." in done.out
    assert "→ to other: Count." in shown.out
