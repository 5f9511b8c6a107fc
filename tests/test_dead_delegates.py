"""A sub-agent that kills its workers leaves its parent answering with what the others found."""

import asyncio
import os
import signal
from decimal import Decimal
from pathlib import Path

from substrate import RunStatus, connect
from substrate.agent import Agent, Task, answered, any_of, budget, delegate, tool
from substrate.agent.history.usage import summed
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from tests import delegating
from tests.analyst import LIMITS
from tests.crew import Outside
from tests.delegating import chief_of, looker, model
from tests.processes import Process

DEAD = "dead/1#tools.0/poisoned.0/poisoned.0"


@tool(effect="pure")
def poison() -> str:
    """Kill whoever calls this."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


poisoned = Agent(
    "poisoned", "Look.", model("poisoned", say("A feather so far.", call("poison"))), [poison]
)
agent = Agent(
    "chief",
    "Have it done.",
    Model(
        "scripted:chief",
        script=chief_of(
            say(
                call("looker", task="Look here."),
                call("poisoned", task="Look there."),
                call("looker", task="Look up."),
            )
        ),
    ),
    [delegate(looker, description="Look."), delegate(poisoned, description="Look.")],
    any_of(answered(), budget(usd=1)),
)


def work(url: str, folder: Path) -> None:
    """Be a worker until the run has ended."""
    delegating.OUTSIDE[0] = Outside(folder)
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    async with connect(url) as client, client.work([agent.durable], options=LIMITS):
        await client.result("dead/1")


async def test_three_kills(store_url: str, tmp_path: Path) -> None:
    """The parent is told of it as of a result, and its cost is in the parent's budget."""
    async with connect(store_url) as client:
        await client.start(agent.durable, Task("How many owls?"), id="dead/1")
    killed = 0
    for _ in range(12):
        process = Process(target=work, args=(store_url, tmp_path))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1

    async with connect(store_url) as client:
        answer = await client.result("dead/1", agent.durable)
        dead = await client.get(DEAD)
        used = await client.store.usages("dead/1#")

    assert (dead.status, killed) == (RunStatus.DEAD, 3)
    first, *middle, last = answer.text.split(" | ")
    assert (first, last) == ("An owl.", "An owl.")
    assert middle[0].startswith("'poisoned' has no answer: it failed: RunDead: ")
    assert middle[0].endswith("\nWhat it had found: A feather so far.")
    assert len([id_ for id_, _ in used if id_.startswith(DEAD)]) == 1
    assert answer.usage.cost_usd == summed(used).cost_usd == Decimal("0.05")
