"""What a message of a conversation costs the kit, at its length: CPU and bytes.

    python -m tests.bench.talk [messages]

Each message is answered by a worker that begins with it and ends after it, as `chat` does: so the
run is loaded and replayed each time. The model is scripted, and looks something up once a message.
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from statistics import median

from substrate import Client, connect
from substrate.agent.conversation import Conversation, conversation_of
from substrate.agent.stop import answered, any_of, budget, max_turns
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.models.messages import Reply, Usage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from tests.loops import make_agent

ID = "talk/1"
AROUND = 4
"""How many messages on either side of one are measured for it; a generation has about eight."""


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    return f"{what}: there are two of them in the barn, and one in the attic."


def answer(request: Request) -> Reply:
    """Look first, then answer."""
    said = say("There are two owls in the barn, and one in the attic; that makes three of them.")
    if isinstance(request.messages[-1], UserMessage):
        said = say("I look that up.", call("look", what="owls"))
    # As a provider tells it: to estimate that is the scripted model's own time, not the kit's.
    return replace(said, usage=Usage(1000, 50, cost_usd=Decimal("0.001")), model="m")


@dataclass(frozen=True, slots=True)
class Figures:
    """What each message cost: CPU seconds and bytes of rows."""

    cpu_s: Sequence[float]
    octets: Sequence[int]

    def cpu_at(self, n: int) -> float:
        """Return the median around the n-th message."""
        return median(self.cpu_s[max(n - AROUND, 1) : n + AROUND + 1])

    def octets_at(self, n: int) -> float:
        """Return the mean around it: what is written once a generation counts in part."""
        around = self.octets[max(n - AROUND, 1) : n + AROUND + 1]
        return sum(around) / len(around)


async def converse(url: str, messages: int) -> Figures:
    """Hold a conversation of so many messages."""
    ends = any_of(answered(), max_turns(5), budget(tokens=10**9))
    function = conversation_of(make_agent(Model("scripted:talk", script=answer), [look], ends))
    cpu_s, octets, before = [], [], 0
    async with connect(url) as client:
        for n in range(messages):
            with _without_collections():
                began = time.process_time()
                await _say(client, function, n)
                async with client.work([function]) as worker:
                    await worker.run_until_idle()
                cpu_s.append(time.process_time() - began)
            held = await _held(client)
            octets.append(held - before)
            before = held
    return Figures(cpu_s, octets)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Have no garbage collected here: that takes its time when it likes, and looks at all there is.

    Collected before each message instead, it takes longer than the message does.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _say(client: Client, function: Conversation, n: int) -> None:
    words = f"How many owls are there in place {n}?"
    if n:
        await client.signal(ID, "message", words)
    else:
        await client.start(function, Task(words), None, id=ID)


async def _held(client: Client) -> int:
    """Return how many bytes the rows of the run hold, none of them compressed."""
    rows = await client.journal(ID)
    texts = ((row.key, row.input, row.value, row.usage, row.attempts) for row in rows)
    return sum(len(each.encode()) for row in texts for each in row if isinstance(each, str))


def main(messages: int) -> None:
    """Measure one conversation and print what messages cost along it."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(converse(f"sqlite:///{Path(folder) / 'runs.db'}", messages))
    for n in (5, 20, 50, 100, 200, 400, 1000):
        if n < messages:
            ms, octets = 1000 * found.cpu_at(n), found.octets_at(n)
            print(f"message {n}: {ms:.2f} ms of CPU, {octets:.0f} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 210)
