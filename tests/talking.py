"""A conversation of three messages, in a process that ends at a given commit.

The first is about a refund, which a person approves; meanwhile somebody says something to the agent
at work. The second takes so many turns that the conversation goes on as itself before the third.
Whoever drives it says each message once the one before is answered, in the process that is killed:
so what people say and decide is killed at its commits, too. The model notes outside what it is
asked, and answers with all that people have said, in the order in which it was told.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from substrate import Client, GateClosed, RunStatus
from substrate.agent import Agent, Task, answered, any_of, approve, budget, max_turns, tool
from substrate.agent.conversation import conversation_of
from substrate.agent.history.rows import value_of
from substrate.models.messages import Reply, Text, ToolMessage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.advised import asked, costing
from tests.asker import LIMITS
from tests.crew import Outside
from tests.desk import AT_WORK, OUTSIDE
from tests.desk import Case as Desk
from tests.processes import driven

SAID = ("Message 1: refund.", "Message 2: look.", "Message 3: thanks.")
ALSO = "Also the attic."
LOOKS = {"refund.": 7, "look.": 7, "thanks.": 0}
"""How often the agent looks for each: 16 replies are a generation."""


@tool(approve=True)
def refund(order: str) -> str:
    """Refund, which must not be done twice."""
    OUTSIDE[0].note(f"once {order}")
    return f"refunded {order}"


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "An owl."


def words(request: Request) -> list[str]:
    """Return what people have said, in order."""
    told = [each for each in request.messages if isinstance(each, UserMessage)]
    return [each.parts[0].text for each in told if isinstance(each.parts[0], Text)]


def script(request: Request) -> Reply:
    """Look as often as the present message wants it, refund where it does, and answer."""
    OUTSIDE[0].note(f"asked {asked(request)}")
    said = [each for each in words(request) if each.startswith("Message")]
    at = max(
        i for i, m in enumerate(request.messages) if isinstance(m, UserMessage) and _is(m, said[-1])
    )
    wanted, since = said[-1].split()[-1], request.messages[at:]
    turn = sum(isinstance(each, Reply) for each in since)
    if turn < LOOKS[wanted]:
        return costing(say(call("look")))
    if wanted == "refund." and turn == LOOKS[wanted]:
        return costing(say(call("refund", order="A")))
    results = [r.content for m in since if isinstance(m, ToolMessage) for r in m.results]
    return costing(say(" | ".join([*words(request), *results[-1:]])))


def _is(message: UserMessage, text: str) -> bool:
    return isinstance(message.parts[0], Text) and message.parts[0].text == text


agent = Agent(
    "talker",
    "Talk.",
    Model("scripted:talker", script=script),
    [refund, look],
    any_of(answered(), max_turns(50), budget(usd=1)),
)
function = conversation_of(agent.durable)


@dataclass(frozen=True, slots=True)
class Case(Desk):
    """One conversation: where it lives, and what stands outside it."""

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Hold the conversation, or go on with it, to its third answer; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    OUTSIDE[0] = Outside(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    await client.start(function, Task(SAID[0]), None, id=case.run_id)
    async with client.work([function], options=LIMITS) as worker:
        while True:
            await worker.run_until_idle()
            found = [run for status in AT_WORK for run in await client.list(status)]
            if any(run.id == case.run_id for run in found):
                await asyncio.sleep(0.02)  # it is taken over in a second
                continue
            answers = await answers_of(client, case.run_id)
            if len(answers) == len(SAID):
                break
            await _go_on(client, case.run_id, len(answers))
    run = await client.get(case.run_id)
    assert run.status is RunStatus.SUSPENDED
    record = {"answers": answers, "generation": run.generation}
    (case.folder / "answer.json").write_text(json.dumps(record), encoding="utf-8")
    await store.close()


async def answers_of(client: Client, run_id: str) -> list[dict[str, Any]]:
    """Return what was answered so far."""
    return [value_of(row) or {} for row in await client.journal(run_id) if row.name == "answer"]


async def _go_on(client: Client, run_id: str, answered_so_far: int) -> None:
    """Say what is to be said next, or decide what is asked, however often that is done."""
    if answered_so_far:
        await client.signal(run_id, "message", SAID[answered_so_far], f"said-{answered_so_far}")
        return
    gates = [each for each in await client.store.gates.pending() if each.root_id == run_id]
    for gate in gates:
        await client.signal(run_id, "message", ALSO, "also")
        with suppress(GateClosed):
            await approve(client, gate, by="ada")
