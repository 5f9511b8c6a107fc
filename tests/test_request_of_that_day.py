"""The rows alone tell what each model call was asked, whatever the conversation went through."""

from dataclasses import replace
from typing import Any

import pytest

from substrate import Client, Context, connect, durable
from substrate.agent.calling import call_tools
from substrate.agent.end import Advice, Measure, Verdict
from substrate.agent.history.request import read_request
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import tool
from substrate.agent.transcript import Transcript
from substrate.agent.turn import ask, begin, finish
from substrate.models.frame import canonical
from substrate.models.messages import Json, StopReason, Text, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import RunNotFound
from tests.loops import TASK, answer_of, make_agent


@tool(effect="pure")
def look(where: str = "barn") -> str:
    """Look for owls."""
    if where == "nowhere":
        raise LookupError("there is no such place")
    return f"An owl is in the {where}."


@tool
async def ask_other(ctx: Context) -> list[str]:
    """Have somebody else look."""
    return [await ctx.step(str.upper, "two owls")]


class Eventful:
    """A model to which everything happens that a loop has; it keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Json]] = []

    def __call__(self, request: Request) -> Any:
        """Take a turn."""
        self.sent.append(canonical(request))
        cut = replace(say("I…", call("look")), stop=StopReason.LENGTH)
        turns = [
            say("I look.", call("look"), call("look", where="nowhere"), call("a b", x=1)),
            say(call("ask_other"), replace(call("look"), malformed="{")),
            cut,
            say("The summary: owls."),
            say(""),
            say(call("look", where="attic")),
            say(call("look", where="🦉\x00")),
            say("Enough."),
        ]
        return turns[len(self.sent) - 1]


def advise(transcript: Transcript) -> Verdict:
    """Advise a warning, then a summary."""
    if transcript.turns == 1 and not transcript.is_warned:
        return Advice(Measure.WARN, "Much was said")
    is_due = transcript.turns == 3 and not transcript.summaries
    return Advice(Measure.COMPACT, "more was said") if is_due else None


async def calls_of(client: Client, run_id: str = "a/1") -> list[str]:
    """Return the keys of the run's model calls, in order."""
    rows = [row for row in await client.journal(run_id) if row.input and '"frame"' in row.input]
    return [row.key for row in sorted(rows, key=lambda row: row.seq)]


async def test_each_request_comes_back(store_url: str) -> None:
    """What is rebuilt from the rows is what the provider was sent, call by call."""
    model = Eventful()
    ends = any_of(answered(), max_turns(6), advise)
    asking = Model(
        "scripted:test", script=model, settings={"read_timeout": 9, "call_timeout": 99, "x": [1]}
    )
    async with connect(store_url) as client:
        agent = make_agent(asking, [look, ask_other], ends)
        answer = await answer_of(client, agent)
        keys = await calls_of(client)
        rebuilt = [await read_request(client, "a/1", key) for key in keys]
        rows = {row.key: decode(row.input or "{}") for row in await client.journal("a/1")}

    assert answer.reason == "max_turns"
    assert keys == [
        *(f"model.{i}" for i in range(3)),
        "summary.0",
        *(f"model.{i}" for i in (3, 4, 5, 6)),
    ]
    assert rebuilt == model.sent
    assert [rows[key]["prev"] for key in keys] == [
        *(None, "model.0", "model.1", "model.2"),
        *(None, "model.3", "model.4", "model.5"),
    ]
    assert rows["model.1"]["add"] == [
        "model.0",
        {"results": ["tools.0/look.0", "tools.0/look.1", "tools.0/unknown_tool.0"]},
        "warning.0",
    ]
    assert rows["model.3"]["add"][0]["summary"] == "summary.0"
    assert len({rows[key]["frame"] for key in keys}) == 2  # with and without a call of tools
    assert len({rows[key]["digest"] for key in keys}) == len(keys)


async def test_across_restarts(store_url: str) -> None:
    """A run that was paused at each turn has the same chain as one that was not."""

    async def chain(run_id: str, held: set[int]) -> list[Any]:
        model = Eventful()

        def script(request: Request) -> Any:
            if len(model.sent) in held:
                held.remove(len(model.sent))
                raise RuntimeError("held")
            return model(request)

        ends = any_of(answered(), max_turns(6), advise)
        agent = make_agent(Model("scripted:test", script=script), [look, ask_other], ends)
        async with connect(store_url) as client:
            await client.start(agent, TASK, id=run_id)
            for _ in range(len(held) + 1):
                async with client.work([agent]) as worker:
                    await worker.run_until_idle()
                if (await client.get(run_id)).status.value == "paused":
                    await client.resume(run_id)
            rows = {row.key: decode(row.input or "{}") for row in await client.journal(run_id)}
            return [rows[key] for key in await calls_of(client, run_id)]

    assert await chain("a/1", set()) == await chain("a/2", set(range(8)))


async def test_a_loop_of_ones_own(sqlite_url: str) -> None:
    """A loop that changes what was said has what it said in its rows: a copy is no reference."""
    sent: list[dict[str, Json]] = []

    def script(request: Request) -> Any:
        sent.append(canonical(request))
        return say(f"I say {len(sent)}.", call("look")) if len(sent) < 4 else say("Done.")

    model = Model("scripted:test", script=script)

    @durable
    async def agent(ctx: Context, task: Task) -> Answer:
        transcript = await begin(ctx, "You are a test.", task)
        reply = await ask(ctx, model, transcript, [look])  # thrown away
        for _ in range(3):
            reply = await ask(ctx, model, transcript, [look])
            transcript += replace(reply, parts=(Text("Censored."), *reply.tool_calls))
            results = await call_tools(ctx, [look], reply)
            transcript += replace(results, results=results.results)
            transcript += UserMessage.of("Go on.")
        end = any_of(answered(), max_turns(1))(transcript)
        assert end
        return await finish(ctx, model, transcript, end, [look])

    async with connect(sqlite_url) as client:
        await answer_of(client, agent)
        rebuilt = [await read_request(client, "a/1", key) for key in await calls_of(client)]
        with pytest.raises(RunNotFound, match="has no model call"):
            await read_request(client, "a/1", "tools.1/look.0")

    assert rebuilt == sent
    assert "Censored." in str(rebuilt[2])
