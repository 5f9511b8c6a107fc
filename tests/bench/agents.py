"""What agents cost beyond their steps: commits of a gate, a sub-agent, a panel; a message's bytes.

    python -m tests.bench.agents

Each is counted beside the same run without it.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from substrate import Client, RunStatus
from substrate.agent import Agent, Panel, Task, approve, delegate, majority, tool
from substrate.models.model import Model
from substrate.models.panel import Answering
from substrate.models.providers.scripted import call, say
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.bench import talk
from tests.bench.line import Line

EARLY, LATE, LENGTH = 5, 200, 210
"""Which messages of a conversation are compared, and how many there are."""

_OTHERS = {"claim", "register", "deregister", "beat", "recover", "wake_due", "release"}
"""What a worker commits that is no run's."""


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "An owl."


@tool(name="look", effect="pure", approve=True)
async def look_if_approved() -> str:
    """Look, where a person lets it."""
    return "An owl."


def scripted(*turns: Any) -> Model:
    """Return a model that says these turns."""
    return Model("scripted:bench", script=list(turns))


def looker(name: str, *tools: Any, model: Answering | None = None) -> Agent:
    """Return an agent that calls its tool once, if it has one, and answers."""
    calls = [say(call(each.name, **_ARGUMENTS.get(each.name, {}))) for each in tools]
    return Agent(name, "Look.", model or scripted(*calls, say("Owls.")), tools)


_ARGUMENTS = {"owls": {"task": "Look."}}


async def commits(url: str, agent: Agent) -> int:
    """Run an agent to its end, approving what it asks; return how many commits that took."""
    counted = kill_at_commit(await open_store(url), 0, Side.BEFORE)
    client, id_ = Client(counted), f"commits/{agent.name}"
    async with client.work([agent.durable]) as worker:
        await client.start(agent.durable, Task("Look."), id=id_)
        while (await client.get(id_)).status is not RunStatus.DONE:
            await worker.run_until_idle()
            for gate in await client.store.gates.pending():
                if gate.root_id == id_:
                    await approve(client, gate, by="bench")
            await asyncio.sleep(0.01)
    reached: list[str] = counted.reached  # type: ignore[attr-defined]
    await counted.close()
    return sum(name not in _OTHERS for name in reached)


async def lines(url: str) -> Sequence[Line]:
    """Measure it all on one store."""
    owls = looker("owls")
    alone, plain = await commits(url, owls), await commits(url, looker("plain", look))
    gate = await commits(url, looker("gated", look_if_approved)) - plain
    asking = looker("asking", delegate(owls, description="Look."))
    # Beside the child's own, and without the commit of the tool that stands there else; a child is
    # started by no `start`.
    child = await commits(url, asking) - (plain - 1) - (alone - 1)
    members = {name: scripted(say("Owls.")) for name in "abcde"}
    voted = await commits(url, looker("voted", model=Panel(members, merge=majority))) - alone
    found = await talk.converse(url, LENGTH)
    cpu = found.cpu_at(LATE) / found.cpu_at(EARLY)
    octets = found.octets_at(LATE) / found.octets_at(EARLY)
    late = f"{1000 * found.cpu_at(LATE):.1f} ms, {found.octets_at(LATE):,.0f} bytes"
    return [
        Line("an approval, commits beyond its tool's own", f"{gate}", "≤ 3"),
        Line("a sub-agent, commits beyond its own", f"{child}", "≤ 4"),
        Line("a panel of 5, commits beyond one model's", f"{voted}", "≤ 2"),
        Line(f"message {LATE} of a conversation", late, ""),
        Line(f"the same, to message {EARLY}", f"CPU {cpu:.2f} ×, bytes {octets:.2f} ×", "≤ 1.3 ×"),
    ]


def main() -> None:
    """Measure on a file of SQLite, and print."""
    with tempfile.TemporaryDirectory() as folder:
        for line in asyncio.run(lines(f"sqlite:///{Path(folder) / 'runs.db'}")):
            print(f"{line.what}: {line.measured}  {line.target}")


if __name__ == "__main__":
    main()
