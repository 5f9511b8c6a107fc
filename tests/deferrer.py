"""An agent that goes on while people are asked, in a process that ends at a given commit.

It is a run of its own, or a conversation. Its tools note outside the journal what was really done.
Whoever drives the case decides what is open, with no worker alive.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.agent import (
    Answer,
    Model,
    Notice,
    Policy,
    Task,
    answered,
    any_of,
    approve,
    begin,
    deny,
    max_turns,
    tool,
)
from substrate.agent.conversation import conversation_of
from substrate.agent.history.rows import value_of
from substrate.models.messages import Text, ToolMessage, UserMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from substrate.values.gates import Gate
from tests import asker
from tests.asker import forbidden, look, pay, pay_once
from tests.crew import Outside
from tests.loops import TASK
from tests.processes import driven

LIMITS = WorkerOptions(
    lease=timedelta(seconds=1), poll=timedelta(milliseconds=20), idle_timeout=timedelta(0)
)
LATER = Policy(wait=False)


@tool(approve=True)
def wait_for_me(order: str) -> str:
    """Do what is waited for."""
    asker.OUTSIDE[0].note(f"once {order}")
    return f"waited for {order}"


def script(request: Request) -> Any:
    """Call all of them at once; then say, in order, all that has come of it so far."""
    found = [
        result.content
        for message in request.messages
        if isinstance(message, ToolMessage)
        for result in message.results
        if "not called yet" not in result.content
    ]
    outcomes = [
        part.text.partition("person was asked. ")[2].rpartition("\n")[2]
        for message in request.messages
        if isinstance(message, UserMessage)
        for part in message.parts
        if isinstance(part, Text) and part.text.startswith("[outcome ")
    ]
    if any(isinstance(each, ToolMessage) for each in request.messages):
        return say(" | ".join(sorted(found + outcomes)))
    return say(
        call("pay_once", order="A"),
        call("pay", order="B"),
        call("look", order="C"),
        call("forbidden", order="D"),
        call("wait_for_me", order="E"),
    )


def tell(notice: Notice) -> None:
    """Note who was told of what."""
    asker.OUTSIDE[0].note(f"told {notice.summary.replace(' ', '_')}")


HOOKS = SimpleNamespace(
    prompt="You are a test.",
    model=Model("scripted:deferrer", script=script),
    tools=[
        *(replace(each, approve=LATER) for each in (pay_once, pay, look, forbidden)),
        wait_for_me,
    ],
    stop=any_of(answered(), max_turns(9)),
    notify=tell,
)


@durable
async def deferrer(ctx: Context, task: Task) -> Answer:
    """Be the canonical loop."""
    turn = await begin(ctx, HOOKS, task)
    while not (end := turn.stop()):
        await turn.call_tools(await turn.ask())
    return await turn.finish(end)


TALKS = conversation_of(deferrer)


@dataclass(frozen=True, slots=True)
class Case:
    """One run: where it lives, what stands outside it, and whether it is a conversation."""

    url: str
    run_id: str
    folder: Path
    talks: bool = False

    @property
    def notes(self) -> Counter[str]:
        """What was done outside the journal, by kind and order."""
        return Outside(self.folder).notes

    async def answer(self) -> str:
        """Return the answer that was given last."""
        async with connect(self.url) as client:
            rows = await client.journal(self.run_id)
            last = [each for each in rows if each.name in ("answer", "deferrer") and each.value][-1]
            return str(value_of(last)["text"])

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run until it waits for a person or has ended; return the exit code."""
        return driven(_drive, self, boundary, moment)

    async def decide_one(self, tool_name: str = "") -> bool:
        """Decide the first open gate, or that of a tool, with no worker alive; False without."""
        async with connect(self.url) as client:
            pending = [g for g in await client.store.gates.pending() if g.root_id == self.run_id]
            found = [each for each in pending if tool_name in ("", each.tool)]
            if found:
                await decide(client, found[0])
        return bool(found)


async def decide(client: Client, gate: Gate) -> None:
    """Decide a gate by what it asks."""
    if gate.tool == "forbidden":
        await deny(client, gate, by="ada", why="no")
    elif gate.tool == "pay":
        await approve(client, gate, by="ada", edit={"order": "b"}, tools=HOOKS.tools)
    else:
        await approve(client, gate, by="ada")


def _drive(case: Case, boundary: int, moment: Side) -> None:
    asker.OUTSIDE[0] = Outside(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    if case.talks:
        await client.start(TALKS, TASK, None, id=case.run_id)
    else:
        await client.start(deferrer, TASK, id=case.run_id)
    async with client.work([deferrer, TALKS], options=LIMITS) as worker:
        while True:  # the last one was killed: its run is taken over in a second
            await worker.run_until_idle()
            run = await client.get(case.run_id)
            if run.status in (RunStatus.SUSPENDED, RunStatus.DONE):
                break
            await asyncio.sleep(0.02)
    await store.close()
