"""An agent with much of what the loop has, in a process that ends at a given commit.

It hears a message, has children work, is warned, sums up, and mends an answer. Its model is a
function of what it is told, and notes outside the journal what it was asked.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from substrate import Client, Context
from substrate.agent.end import Advice, Measure, Verdict
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.agent.transcript import SUMMARY_HEAD, Transcript
from substrate.models.frame import canonical
from substrate.models.messages import Reply, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from substrate.values.codec import encode
from tests.analyst import LIMITS
from tests.crew import Outside
from tests.loops import TASK, make_agent
from tests.processes import driven

OUTSIDE = [Outside(Path())]
"""Where the model of this process notes what it was asked."""


class Finding(BaseModel):
    """What was found."""

    owls: int


def asked(request: Request) -> str:
    """Return a request's name: the same for the same request."""
    return sha256(encode(canonical(request)).encode()).hexdigest()[:12]


def costing(reply: Reply) -> Reply:
    """Return a reply that has cost a cent."""
    return replace(reply, usage=Usage(100, 10, cost_usd=Decimal("0.01")))


def child_script(request: Request) -> Reply:
    """Answer at once."""
    OUTSIDE[0].note(f"child {asked(request)}")
    return costing(say("Two."))


def script(request: Request) -> Reply:
    """Have children work until there is a summary, then answer, wrongly first."""
    OUTSIDE[0].note(f"model {asked(request)}")
    said = encode(canonical(request))
    if not request.may_call_tools:
        return costing(say("Two owls were seen."))
    if SUMMARY_HEAD not in said:
        return costing(say(call("delegate")))
    return costing(say('{"owls": 2}' if "does not fit" in said else "Two owls."))


child = make_agent(Model("scripted:child", script=child_script), name="child")


@tool
async def delegate(ctx: Context) -> str:
    """Have somebody count."""
    return (await ctx.spawn(child, Task("Count the owls."))).text


def advise(transcript: Transcript) -> Verdict:
    """Advise a warning after the second turn, and a summary after the third."""
    if transcript.turns == 2 and not transcript.is_warned:
        return Advice(Measure.WARN, "Much was said")
    is_due = transcript.turns == 3 and not transcript.summaries
    return Advice(Measure.COMPACT, "more was said") if is_due else None


agent = make_agent(
    Model("scripted:advised", script=script),
    [delegate],
    any_of(answered(), max_turns(9), advise),
    answer=Finding,
)


DRIVEN = (agent, child)


@dataclass(frozen=True, slots=True)
class Case:
    """One run: where it lives, what stands outside it, and where its answer goes.

    The first of a module's `DRIVEN` is the agent, the others are what it needs.
    """

    url: str
    run_id: str
    folder: Path
    module: str = __name__

    @property
    def answer(self) -> str:
        """The answer that was written down, as JSON."""
        return (self.folder / "answer.json").read_text()

    @property
    def outside(self) -> Outside:
        """What was noted outside the journal."""
        return Outside(self.folder)

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run in a process of its own until it ends; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = case.outside
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    driven = import_module(case.module).DRIVEN
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(driven[0], TASK, id=case.run_id)
    await client.signal(case.run_id, "message", "Count those in the attic, too.", "once")
    async with client.work(driven, options=LIMITS):
        answer = await client.result(case.run_id)
    (case.folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    await store.close()
