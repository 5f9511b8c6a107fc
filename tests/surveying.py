"""An agent that has many places looked at under a small budget, in a process that ends at a commit.

Its tool maps more places than the budget pays for, three at a time, and has one more looked at by a
sub-agent beside it. All models take what they may, and note outside the journal what that cost.
"""

import asyncio
import json
from dataclasses import dataclass
from decimal import Decimal

from substrate import Client, Context
from substrate.agent import Agent, Task, answered, any_of, budget, delegate, max_turns, tool
from substrate.models.messages import Reply, ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.analyst import LIMITS
from tests.crew import Outside
from tests.desk import OUTSIDE, noting
from tests.desk import Case as Desk
from tests.processes import driven

BUDGET = Decimal("0.50")
PLACES = 12


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return "An owl."


def looks(request: Request) -> Reply:
    """Look for ever, unless it may not."""
    return say("So far: one owl.", call("look")) if request.may_call_tools else say("One owl.")


looker = Agent(
    "looker", "Look.", noting("looker", looks, 0.6), [look], any_of(answered(), max_turns(50))
)


@tool
async def sweep(ctx: Context) -> int:
    """Have many places looked at."""
    places = [f"barn {n}" for n in range(PLACES)]
    found = await ctx.map(looker, places, limit=3)
    return sum(bool(each.text) for each in found)


def surveys(request: Request) -> Reply:
    """Have it all looked at, and answer."""
    if any(isinstance(each, ToolMessage) for each in request.messages):
        return say("Owls.")
    return say(call("sweep"), call("looker", task="the attic"))


agent = Agent(
    "surveyor",
    "Have it looked for.",
    noting("surveyor", surveys, 0.07),
    [sweep, delegate(looker, description="Look.")],
    any_of(answered(), budget(usd=BUDGET)),
)


@dataclass(frozen=True, slots=True)
class Case(Desk):
    """One run of it."""

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run to its end; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = Outside(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(agent.durable, Task("How many owls?"), id=case.run_id)
    async with client.work([agent.durable], options=LIMITS):
        answer = await client.result(case.run_id)
    (case.folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    await store.close()
