"""A long conversation: what a turn costs at its length, and what it costs to go on with it.

    python -m tests.bench.conversation [turns …]

The model says 2 KB and calls one tool a turn. It is scripted, and its own time is taken out.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from substrate import Context, connect
from substrate.agent.stop import answered, any_of, budget, max_turns
from substrate.agent.tool import Tool, tool
from substrate.models.messages import Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from tests.loops import TASK, make_agent

SAID = "x" * 2000
AROUND = 5
"""How many turns on either side of a length are measured for it."""


@tool(effect="pure")
async def look(n: int) -> str:
    """Look."""
    return "y" * 200


@tool(name="look")
async def look_within(ctx: Context, n: int) -> str:
    """Look, in a step of its own."""
    return await ctx.step(look.function, n)


@dataclass
class Talk:
    """A model that talks for so many turns; it notes when it was asked, in CPU seconds."""

    turns: int
    marks: list[float] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    model_s: float = 0.0
    number: int = 0

    def __call__(self, request: Request) -> Any:
        """Take a turn; when there are enough, fail, so that the run is paused."""
        now = time.process_time()
        self.asked_at.append(time.perf_counter())
        self.marks.append(now - self.model_s)
        self.number += 1
        if self.number > self.turns:
            raise RuntimeError("that will do")
        usage = Usage(1000, 500, cost_usd=Decimal("0.001"))
        reply = replace(say(SAID, call("look", n=self.number)), usage=usage, model="m")
        self.model_s += time.process_time() - now
        return reply


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: CPU ms a turn at each length, and the resume of the whole."""

    turn_ms: dict[int, float]
    cpu_ms: float
    resume_s: float
    longest_block_ms: float


async def converse(url: str, turns: int, lengths: Sequence[int], tool: Tool = look) -> Figures:
    """Hold a conversation of so many turns, then go on with it in another worker."""
    ends = any_of(answered(), max_turns(10**6), budget(usd=10**6))
    talk = Talk(turns)
    agent = make_agent(Model("scripted:talk", script=talk), [tool], ends)
    async with connect(url) as client:
        await client.start(agent, TASK, id="a/1")
        async with client.work([agent]) as worker:
            await worker.run_until_idle()
        assert talk.number == turns + 1, talk.number
        each = [1000 * (b - a) for a, b in zip(talk.marks, talk.marks[1:], strict=False)]
        at = {n: median(each[max(n - AROUND, 1) : n + AROUND]) for n in lengths}
        again = Talk(0)
        agent = make_agent(Model("scripted:talk", script=again), [tool], ends)
        await client.resume("a/1")
        began = time.perf_counter()
        with blocks() as longest:
            async with client.work([agent]) as worker:
                await worker.run_until_idle()
        return Figures(at, sum(each), again.asked_at[0] - began, 1000 * max(longest))


@contextmanager
def blocks() -> Iterator[list[float]]:
    """Note for how long the event loop stood still, in seconds of its thread's CPU.

    Not of the clock: on a machine that is shared, others' work would count.
    """
    longest, last = [0.0], time.thread_time()
    loop = asyncio.get_running_loop()

    def tick() -> None:
        nonlocal last, handle
        now = time.thread_time()
        longest.append(now - last)
        last, handle = now, loop.call_later(0.001, tick)

    handle = loop.call_later(0.001, tick)
    try:
        yield longest
    finally:
        handle.cancel()


def main(turns: Sequence[int]) -> None:
    """Measure conversations of these lengths and print a line for each."""
    for most, called in product(turns, (look, look_within)):
        lengths = [n for n in (5, 50, 200, 500, 1000) if n <= most]
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'runs.db'}"
            found = asyncio.run(converse(url, most, lengths, called))
        within = ", the tool takes a ctx" if called is look_within else ""
        at = " · ".join(f"{n}: {ms:.2f}" for n, ms in found.turn_ms.items())
        print(
            f"{most} turns{within}: CPU ms a turn at {at}; in all {found.cpu_ms / 1000:.2f} s; "
            f"resumed in {found.resume_s:.3f} s, the loop blocked "
            f"{found.longest_block_ms:.0f} ms at most"
        )


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [200, 500, 1000])
