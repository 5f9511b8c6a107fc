"""Hooks are handed over once, and one loop runs any number of agents over hooks of their own."""

from types import SimpleNamespace

from substrate import Context, connect, durable
from substrate.agent import (
    Answer,
    Model,
    Task,
    answered,
    any_of,
    begin,
    budget,
    max_turns,
    tool,
)
from substrate.agent.calling import call_tools
from substrate.agent.turn import ask, finish, follow_advice, hear, verdict
from substrate.agent.turn import begin as begin_by_verbs
from substrate.models.providers.scripted import call, say
from tests.runs import keys, reached


@tool(effect="pure")
def look(what: str) -> str:
    """Look something up."""
    return f"{what}: two"


def hooks_of(name: str, **more):
    """Return hooks whose model looks something up and answers with its own name."""
    script = [call("look", what=name), say(f"I am {name}.")]
    return SimpleNamespace(
        prompt=f"You are {name}.",
        model=Model(f"scripted:{name}", script=script),
        tools=[look],
        stop=any_of(answered(), max_turns(5)),
        **more,
    )


async def test_two_agents_over_one_loop(store_url):
    """Two sets of hooks, in one loop: each agent is told its own prompt and asks its own model."""
    known = {"Ada": hooks_of("Ada"), "Grace": hooks_of("Grace")}

    @durable
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, known[task.text], task)
        while not (end := turn.stop()):
            reply = await turn.ask()
            await turn.call_tools(reply)
        return await turn.finish(end)

    async with connect(store_url) as client, client.work([agent]):
        for name in known:
            await client.start(agent, Task(name), id=name)
        told = [(await client.result(name, agent)).text for name in known]

    assert told == ["I am Ada.", "I am Grace."]


async def test_a_loop_of_the_verbs_goes_on_as_one_of_turns(store_url):
    """A run that a loop of single verbs began goes on under the shorter loop: no row is another."""
    hooks = hooks_of("Ada")

    @durable(name="agent")
    async def of_verbs(ctx: Context, task: Task) -> Answer:
        transcript = await begin_by_verbs(ctx, hooks.prompt, task)
        while not (end := verdict(ctx, hooks.stop, transcript)):
            transcript = await follow_advice(ctx, hooks.model, transcript, end, hooks.tools)
            reply = await ask(ctx, hooks.model, transcript, hooks.tools)
            transcript += reply
            transcript += await call_tools(ctx, hooks.tools, reply)
            transcript += await hear(ctx)
            await ctx.receive("deployed", bool)
        return await finish(ctx, hooks.model, transcript, end, hooks.tools)

    @durable(name="agent")
    async def of_turns(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            reply = await turn.ask()
            await turn.call_tools(reply)
            await ctx.receive("deployed", bool)
        return await turn.finish(end)

    async with connect(store_url) as client:
        async with client.work([of_verbs]):
            await client.start(of_verbs, Task("Look."), id="run")
            await reached(client, "run", "deployed.0")
        for _ in range(2):
            await client.signal("run", "deployed", True)
        async with client.work([of_turns]):
            answer = await client.result("run", of_turns)
        journal = await keys(client, "run")

    assert answer.text == "I am Ada."
    assert [key for key in journal if key.startswith("model")] == ["model.0", "model.1"]


async def test_advice_is_taken(store_url):
    """What `stop` only advises is done before the next model call: here, a warning."""
    hooks = hooks_of("Ada")
    hooks.stop = any_of(answered(), max_turns(5), budget(tokens=60, mode="soft"))

    @durable
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            await turn.call_tools(await turn.ask())
        assert turn.transcript.is_warned
        return await turn.finish(end)

    async with connect(store_url) as client, client.work([agent]):
        await client.start(agent, Task("Look."), id="run")
        assert (await client.result("run", agent)).is_complete
        assert "warning.0" in await keys(client, "run")
