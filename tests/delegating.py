"""An agent that hands tasks to others, in a process that ends at a given commit.

It asks two at once: one asks a third in its turn, and one has no answer however often it is tried.
A tool of it has another one look at two places. Then it hands the conversation over. Each model
notes outside the journal what it was asked.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel

from substrate import Client, Context, Retry
from substrate.agent import (
    Agent,
    Task,
    TypedAnswer,
    answered,
    any_of,
    budget,
    delegate,
    handoff,
    tool,
)
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.advised import Case as Advised
from tests.advised import asked
from tests.analyst import LIMITS
from tests.crew import Outside
from tests.processes import driven

OUTSIDE = [Outside(Path())]
"""Where the models of this process note what they were asked."""


class Count(BaseModel):
    """What was counted."""

    owls: int


def model(name: str, *turns: Reply) -> Model:
    """Return a model that says these turns, for a cent each, and notes what it was asked."""

    def script(request: Request) -> Reply:
        OUTSIDE[0].note(f"{name} {asked(request)}")
        said = turns[min(sum(isinstance(m, Reply) for m in request.messages), len(turns) - 1)]
        return replace(said, usage=Usage(100, 10, cost_usd=Decimal("0.01")))

    return Model(f"scripted:{name}", script=script)


looker = Agent("looker", "Look.", model("looker", say("An owl.")))
deep = Agent("deep", "Look.", model("deep", say("Two owls.")))
middle = Agent(
    "middle",
    "Have it looked for.",
    model("middle", say(call("deep", task="Look deep.")), say("Two owls, deep.")),
    [delegate(deep, description="Look deep.")],
)
stubborn = Agent(
    "stubborn",
    "Count.",
    model("stubborn", say("Owls.")),
    answer=TypedAnswer(Count, corrections=0),
)


@tool
async def sweep(ctx: Context) -> list[str]:
    """Have two places looked at."""
    return [each.text for each in await ctx.map(looker, ["barn", "attic"], limit=1)]


def told(request: Request) -> str:
    """Return what the tools gave, in order."""
    results = [r for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
    return " | ".join(each.content for each in results)


def chief_of(*turns: Reply) -> Callable[[Request], Reply]:
    """Return a script that says these turns, and then what came of them."""

    def chief(request: Request) -> Reply:
        OUTSIDE[0].note(f"chief {asked(request)}")
        turn = sum(isinstance(each, Reply) for each in request.messages)
        said = turns[turn] if turn < len(turns) else say(told(request))
        return replace(said, usage=Usage(100, 10, cost_usd=Decimal("0.01")))

    return chief


closer = Agent("closer", "Tell.", Model("scripted:closer", script=chief_of()))
agent = Agent(
    "chief",
    "Have it done.",
    Model(
        "scripted:chief",
        script=chief_of(
            say(call("middle", task="Look."), call("stubborn", task="Count.")),
            say(call("sweep")),
            say(call("hand_over_to_closer")),
        ),
    ),
    [
        delegate(middle, description="Have it looked for."),
        delegate(stubborn, description="Count.", retry=Retry(max_attempts=2, initial=0)),
        sweep,
        handoff(closer),
    ],
    any_of(answered(), budget(usd=1)),
)


class Case(Advised):
    """One run of it."""

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run in a process of its own until it ends; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = case.outside
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(agent.durable, Task("How many owls?"), id=case.run_id)
    async with client.work([agent.durable], options=LIMITS):
        answer = await client.result(case.run_id)
    (case.folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    await store.close()
