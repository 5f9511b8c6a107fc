"""A mistake in a tool's code pauses the run for its author; no model is told to mend it."""

from typing import Any

import pytest

from substrate import Context, Retry, RunPaused, connect, durable
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.models.providers.scripted import call, say
from tests.loops import TASK, answer_of, make_agent, row, scripted
from tests.runs import QUICK, keys


async def look(what: str) -> str:
    return f"{what}: two"


@durable
async def child(ctx: Context, what: str) -> str:
    return what


@durable
async def takes_back(ctx: Context) -> None: ...


MISTAKES = {
    "an option": (lambda ctx: ctx.step(look, "owls", effekt="once"), "did you mean effect="),
    "an effect": (lambda ctx: ctx.step(look, "owls", effect="twice"), "effect='twice' is none"),
    "an argument too many": (lambda ctx: ctx.step(look, "a", "b"), r"look\(\) cannot be called so"),
    "a child's argument": (lambda ctx: ctx.spawn(child), r"child\(\) cannot be called so"),
    "a plain function": (lambda ctx: ctx.call(look, "owls"), "is no durable function"),
    "an undo that does not fit": (
        lambda ctx: ctx.step(look, "owls", undo=takes_back),
        "the undo 'takes_back' takes \\[\\] and is given the same",
    ),
    "a type as text": (lambda ctx: ctx.receive("go", "bool"), "type='bool' is text"),
    "an argument of no JSON": (lambda ctx: ctx.step(look, {1}), "is set .* which JSON cannot hold"),
}


@pytest.mark.parametrize("work, told", MISTAKES.values(), ids=MISTAKES)
async def test_a_mistake_in_a_tool(sqlite_url, work, told):
    """The run is paused, and names the tool, its line and what to write; mended, it goes on."""
    doing = [work]

    @tool
    async def find(ctx: Context, what: str) -> Any:
        """Find something."""
        return await doing[0](ctx)

    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [find])

    async with connect(sqlite_url) as client, client.work([agent, takes_back], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        pattern = rf"the tool 'find' \(.*test_authors_mistakes\.py:\d+\) is at fault: .*{told}"
        with pytest.raises(RunPaused, match=pattern):
            await client.result("a/1")
        assert "model.1" not in await keys(client, "a/1")
        doing[0] = lambda ctx: ctx.step(look, "owls")
        await client.resume("a/1")
        assert (await client.result("a/1", agent)).text == "done"
        assert (await row(client, "tools.0/find.0")).value == '"owls: two"'


async def test_a_mistake_in_a_plain_tool(sqlite_url):
    """One that misuses the kit where it has no ctx pauses the run, too, and is called again."""
    retries = [0, 1]

    @tool(effect="pure", retry=Retry(max_attempts=3, initial=0))
    async def find(what: str) -> int:
        """Find something."""
        return Retry(max_attempts=retries[0]).max_attempts

    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [find])

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused, match="max_attempts=0 must be 1 or more"):
            await client.result("a/1")
        retries.pop(0)
        await client.resume("a/1")
        assert (await client.result("a/1", agent)).text == "done"
        assert (await row(client, "tools.0/find.0")).value == "1"


async def test_a_mistake_of_the_model(sqlite_url):
    """What a model's arguments are the cause of is told to it: a name, a task of no words."""

    @tool
    async def ask(ctx: Context, name: str) -> Any:
        """Ask somebody."""
        return await ctx.receive(name, timeout=0)

    @tool
    async def delegate(ctx: Context, text: str) -> Any:
        """Let somebody else do it."""
        return Task(text).text

    asked = (call("ask", name="no name!"), call("delegate", text=" "))
    agent = make_agent(scripted(say(*asked), say("done")), [ask, delegate])

    async with connect(sqlite_url) as client:
        assert (await answer_of(client, agent)).text == "done"
        told = [(await row(client, f"tools.0/{name}.0")).error for name in ("ask", "delegate")]
    assert "cannot be a name" in told[0]
    assert "says nothing" in told[1]
