"""An agent that asks people, in a process that ends at a given commit: a gate, a rule, a question.

Its tools note outside the journal what was really done. Whoever drives the case decides what is
open, with no worker alive.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.agent import (
    Answer,
    Model,
    Notice,
    Task,
    answer,
    answered,
    any_of,
    approve,
    ask_human,
    begin,
    deny,
    max_turns,
    tool,
)
from substrate.agent.policy import Policy
from substrate.models.messages import ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from substrate.values.gates import Gate
from tests.crew import Outside
from tests.loops import TASK
from tests.processes import driven

OUTSIDE = [Outside(Path())]
LIMITS = WorkerOptions(
    lease=timedelta(seconds=1), poll=timedelta(milliseconds=20), idle_timeout=timedelta(0)
)


@tool(approve=True)
def pay_once(order: str) -> str:
    """Pay, which must not be done twice."""
    OUTSIDE[0].note(f"once {order}")
    return f"paid {order}"


@tool(approve=True, effect="idempotent")
def pay(order: str, idempotency_key: str) -> str:
    """Pay, by a key."""
    OUTSIDE[0].note(f"idempotent {order} {idempotency_key}")
    return f"paid {order}"


@tool(approve=Policy(rules=["allow look"]))
async def look(ctx: Context, order: str) -> str:
    """Look, in two steps, which a rule allows."""
    for i in range(2):
        await ctx.step(_look, f"{order}.{i}")
    return f"saw {order}"


def _look(order: str) -> None:
    OUTSIDE[0].note(f"pure {order}")


@tool(approve=True)
def forbidden(order: str) -> str:
    """Do what is denied."""
    OUTSIDE[0].note(f"once {order}")
    return "done"


def script(request: Request) -> Any:
    """Call all of them at once, then answer with what came of it."""
    told = [m for m in request.messages if isinstance(m, ToolMessage)]
    if told:
        return say(" | ".join(result.content for m in told for result in m.results))
    return say(
        call("pay_once", order="A"),
        call("pay", order="B"),
        call("look", order="C"),
        call("forbidden", order="D"),
        call("ask_human", question="Which?", choices=["red", "blue"]),
    )


def tell(notice: Notice) -> None:
    """Note who was told of what."""
    OUTSIDE[0].note(f"told {notice.summary.replace(' ', '_')}")


HOOKS = SimpleNamespace(
    prompt="You are a test.",
    model=Model("scripted:asker", script=script),
    tools=[pay_once, pay, look, forbidden, ask_human()],
    stop=any_of(answered(), max_turns(5)),
    notify=tell,
)


@durable
async def asker(ctx: Context, task: Task) -> Answer:
    """Be the canonical loop."""
    turn = await begin(ctx, HOOKS, task)
    while not (end := turn.stop()):
        await turn.call_tools(await turn.ask())
    return await turn.finish(end)


@dataclass(frozen=True, slots=True)
class Case:
    """One run: where it lives, and what stands outside it."""

    url: str
    run_id: str
    folder: Path

    @property
    def answer(self) -> str:
        """The answer that was written down."""
        return str(json.loads((self.folder / "answer.json").read_text())["text"])

    @property
    def notes(self) -> Counter[str]:
        """What was done outside the journal, by kind and order."""
        return Outside(self.folder).notes

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run until it waits for a person or has ended; return the exit code."""
        return driven(_drive, self, boundary, moment)

    async def decide_one(self) -> bool:
        """Decide the first open gate, with no worker alive; False where none is open."""
        async with connect(self.url) as client:
            found = [g for g in await client.store.gates.pending() if g.root_id == self.run_id]
            if not found:
                return False
            await decide(client, found[0])
        return True


async def decide(client: Client, gate: Gate) -> None:
    """Decide a gate by what it asks."""
    if gate.kind == "question":
        await answer(client, gate, "blue", by="ada")
    elif gate.tool == "forbidden":
        await deny(client, gate, by="ada", why="no")
    elif gate.tool == "pay":
        await approve(client, gate, by="ada", edit={"order": "b"}, tools=HOOKS.tools)
    else:
        await approve(client, gate, by="ada")


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = Outside(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(asker, TASK, id=case.run_id)
    async with client.work([asker], options=LIMITS) as worker:
        while True:  # the last one was killed: its run is taken over in a second
            await worker.run_until_idle()
            run = await client.get(case.run_id)
            if run.status in (RunStatus.SUSPENDED, RunStatus.DONE):
                break
            await asyncio.sleep(0.02)
    if run.status is RunStatus.DONE:
        said = await client.result(case.run_id)
        (case.folder / "answer.json").write_text(json.dumps(said), encoding="utf-8")
    await store.close()
