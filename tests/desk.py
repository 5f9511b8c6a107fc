"""An agent with an approval, sub-agents and panels at once, in a process that ends at a commit.

A panel asks for three things in one turn: a refund, which a person approves; a buyer, an agent that
asks a person in its turn; and a board, an agent that is a panel of two. All models take what they
may of one budget, and note outside the journal what they were asked and what it cost.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from substrate import Client, RunStatus, connect
from substrate.agent import (
    Agent,
    Panel,
    Task,
    answered,
    any_of,
    approve,
    budget,
    delegate,
    first,
    majority,
    tool,
)
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.advised import asked
from tests.asker import LIMITS
from tests.crew import Outside
from tests.metered import PRICE, metered
from tests.processes import driven

OUTSIDE = [Outside(Path())]
"""Where the tools and models of this process note what was done."""

BUDGET = Decimal("0.50")
AT_WORK = (RunStatus.READY, RunStatus.RUNNING)


@tool(approve=True)
def refund(order: str) -> str:
    """Refund, which must not be done twice."""
    OUTSIDE[0].note(f"once {order}")
    return f"refunded {order}"


@tool(approve=True, effect="idempotent")
def pay(order: str, idempotency_key: str) -> str:
    """Pay, by a key."""
    OUTSIDE[0].note(f"idempotent {order} {idempotency_key}")
    return f"paid {order}"


def noting(name: str, script: Any, share: float) -> Model:
    """Return a model that takes this share of what it may, and notes it."""

    def note(request: Request, usage: Usage) -> None:
        OUTSIDE[0].note(f"asked {name} {asked(request)} {usage.cost_usd}")

    return metered(name, script, share, note)


def told(request: Request) -> str:
    """Return what the tools gave."""
    results = [r for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
    return " | ".join(each.content for each in results)


def buys(request: Request) -> Reply:
    """Pay, and tell what came of it."""
    return say(told(request)) if told(request) else say(call("pay", order="B"))


def asks(request: Request) -> Reply:
    """Ask for all three at once, and tell what came of it."""
    wanted = (call("refund", order="A"), call("buyer", task="Buy."), call("board", task="Count."))
    return say(told(request)) if told(request) else say(*wanted)


async def never(request: Request) -> Reply:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError("it was not cancelled")


buyer = Agent("buyer", "Buy.", noting("buyer", buys, 0.3), [pay])
board = Agent(
    "board",
    "Count.",
    Panel({name: noting(name, lambda _: say("Two."), 0.9) for name in "ab"}, merge=majority),
)
agent = Agent(
    "desk",
    "Have it done.",
    Panel(
        {
            "slow": Model("scripted:slow", script=never, price=PRICE),
            "quick": noting("quick", asks, 0.03),
        },
        merge=first,
    ),
    [refund, delegate(buyer, description="Buy."), delegate(board, description="Count.")],
    any_of(answered(), budget(usd=BUDGET)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One run: where it lives, and what stands outside it."""

    url: str
    run_id: str
    folder: Path

    @property
    def answer(self) -> dict[str, Any]:
        """The answer that was written down."""
        found: dict[str, Any] = json.loads((self.folder / "answer.json").read_text())
        return found

    @property
    def notes(self) -> Counter[str]:
        """What was done outside the journal."""
        return Outside(self.folder).notes

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run until it waits for people or has ended; return the exit code."""
        return driven(_drive, self, boundary, moment)

    async def decide(self) -> int:
        """Approve all that is asked, with no worker alive; return how much that was."""
        async with connect(self.url) as client:
            found = [g for g in await client.store.gates.pending() if g.root_id == self.run_id]
            for gate in found:
                await approve(client, gate, by="ada")
        return len(found)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = Outside(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(agent.durable, Task("Do it."), id=case.run_id)
    async with client.work([agent.durable], options=LIMITS) as worker:
        while True:  # the last one was killed: its runs are taken over in a second
            await worker.run_until_idle()
            found = [run for status in AT_WORK for run in await client.list(status)]
            if not any(run.root_id == case.run_id for run in found):
                break
            await asyncio.sleep(0.02)
    if (await client.get(case.run_id)).status is RunStatus.DONE:
        said = await client.result(case.run_id)
        (case.folder / "answer.json").write_text(json.dumps(said), encoding="utf-8")
    await store.close()
