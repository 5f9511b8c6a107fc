"""What tests of the loop share: the canonical loop over hooks of the test's own, and its rows."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from substrate import Client, Context, Durable, durable
from substrate.agent import (
    Answer,
    Prompt,
    Stop,
    Task,
    Tool,
    answered,
    any_of,
    begin,
    max_turns,
)
from substrate.models.model import Model
from substrate.values.records import Promise

TASK = Task("Do it.")
ENDS = any_of(answered(), max_turns(5))


def scripted(*turns: Any) -> Model:
    """Return a model that says these turns."""
    return Model("scripted:test", script=list(turns))


def make_agent(
    model: Model,
    tools: Sequence[Tool] = (),
    stop: Stop = ENDS,
    *,
    answer: Any = None,
    checks: Any = None,
    prompt: Prompt | str = "You are a test.",
    name: str = "agent",
) -> Durable[[Task], Answer]:
    """Return the canonical loop over these hooks."""
    hooks = SimpleNamespace(
        prompt=prompt, model=model, tools=tools, stop=stop, answer=answer, checks=checks
    )

    @durable(name=name)
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            reply = await turn.ask()
            await turn.call_tools(reply)
        return await turn.finish(end)

    return agent


async def answer_of(client: Client, agent: Durable[[Task], Answer], run_id: str = "a/1") -> Answer:
    """Run the agent to its end."""
    async with client.work([agent]):
        await client.start(agent, TASK, id=run_id)
        return await client.result(run_id, agent)


async def row(client: Client, key: str, run_id: str = "a/1") -> Promise:
    """Return the promise under a key."""
    return next(p for p in await client.journal(run_id) if p.key == key)
