"""Nobody registers a sub-agent: it is found where hooks can reach it, or it is told at once."""

import sys
from types import ModuleType
from typing import Any

import pytest

from substrate import Client, Context, RunStatus, connect
from substrate.agent import Agent, Task, answered, any_of, delegate, tool
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.values.errors import Misuse
from substrate.values.ids import RunId
from tests.fork import HOOKS, Fork
from tests.runs import QUICK
from tests.stores import eventually
from tests.test_delegate import CHILD, boss, scripted, worked

OTHER = '''
"""Knows all about owls."""

from agent import more
from substrate.agent import Agent, Model, answered, any_of, delegate

name = "owls"
prompt = "Count."
model = Model("scripted:owls", script=["Three owls."])
tools = [delegate(more.CENSUS, description="Have them counted.")]
stop = any_of(answered())
'''
MORE = '''
from substrate import Context, durable
from substrate.agent import Agent, Model, tool


@durable
async def uncount(ctx: Context) -> None:
    pass


@tool
async def count(ctx: Context) -> int:
    """Count."""
    return await ctx.step(two, undo=uncount)


def two() -> int:
    return 2


CENSUS = Agent("census", "Count.", Model("scripted:census", script=["Two."]), [count])
'''
ASKS = """
from agent import other
from substrate.agent import delegate

TURNS = [say(call("owls", task="Count them.")), say("So many.")]
tools = [delegate(other)]
"""


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Provide a fork whose hooks each test writes anew."""
    made = Fork.make(tmp_path_factory.mktemp("fork"))
    made.write("agent/more.py", MORE)
    return made


def test_in_whatever_file(fork: Fork) -> None:
    """A module of hooks is an agent; it is found in its file, and what it asks in its turn too."""
    fork.write("agent/hooks.py", HOOKS + ASKS)
    fork.write("agent/other.py", OTHER)

    done = fork.do("run", "How many owls?", "--id", "owls")
    shown = fork.do("show", "owls")

    assert done.code == 0, done.err
    assert "So many." in done.out
    assert "owls#tools.0/owls.0/owls.0" in shown.out
    assert "Three owls." in shown.out


@pytest.mark.parametrize(
    "other, told",
    [
        (OTHER.replace('"owls"', '"census"', 1), "two are called 'census': the agent ("),
        (OTHER.replace('"owls"', '"agent"', 1), "two are called 'agent': the durable function ("),
        (OTHER.replace('name = "owls"', ""), "the module agent.other is no agent with a name"),
        (OTHER.replace('"owls"', '"no name"', 1), "is called 'no name'"),
        (OTHER.replace('"Count."', "5", 1), "the agent 'owls': `prompt` is int 5"),
        (OTHER.replace("any_of(answered())", "answered"), "the agent 'owls': `stop` is the func"),
        (OTHER.replace('prompt = "Count."', ""), "the agent 'owls': there is no `prompt`"),
    ],
)
def test_what_is_wrong_is_told_before_a_run(fork: Fork, other: str, told: str) -> None:
    """Two agents of one name, and hooks of one that are none, are refused when the fork loads."""
    fork.write("agent/hooks.py", HOOKS + ASKS.replace('"owls"', '"census"'))
    fork.write("agent/other.py", other)

    done = fork.do("run", "How many owls?", "--id", "refused")

    assert (done.code, done.out) == (2, ""), done.err
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_key_that_is_missing(fork: Fork) -> None:
    """A sub-agent that could not be asked for want of a key is told before the run begins."""
    fork.write("agent/hooks.py", HOOKS + ASKS)
    paid = OTHER.replace('Model("scripted:owls", script=["Three owls."])', 'Model("groq:owl")')
    fork.write("agent/other.py", paid)

    done = fork.do("run", "How many owls?", "--id", "unpaid", GROQ_API_KEY="")

    assert done.code != 0
    assert "give the model of the agent 'owls' an offline=" in done.err


async def test_two_of_one_name(sqlite_url: str) -> None:
    """A worker takes no two agents of one name; the same one from two places is one."""
    first, second = (Agent("owls", f"n{i}", scripted(say("Two."))) for i in range(2))
    asks = [
        delegate(each, name=f"n{i}", description="Ask.") for i, each in enumerate([first, second])
    ]
    same = [delegate(first, name=f"n{i}", description="Ask.") for i in range(2)]
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"two are called 'owls': the agent \(.*test_agents_found"):
            async with client.work([boss(asks, call("n0", task="Look.")).durable]):
                pass
        answer = await worked(
            client, boss(same, call("n0", task="Look."), call("n1", task="Look."))
        )

    assert answer.text == "Two.\nTwo."


async def test_made_while_it_runs(store_url: str) -> None:
    """An agent that is made while a run is driven is no worker's: it is told at once, by name."""

    @tool
    async def ask(ctx: Context) -> list[str]:
        """Ask."""
        made = Agent("nobody", "Count.", scripted(say("Two.")))
        return [each.text for each in await ctx.map(made, ["barn"])]

    agent = boss([ask], call("ask"))
    async with connect(store_url) as client, client.work([agent.durable], options=QUICK):
        await client.start(agent.durable, Task("Do it."), id="a/1")
        await eventually(lambda: _is_paused(client))
        own = await client.store.promise(RunId("a/1"))

    assert own is not None
    assert "no worker knows 'nobody', version 1 (" in (own.error or "")
    assert "define it at the top of a module" in (own.error or "")


async def _is_paused(client: Client) -> bool:
    return (await client.get("a/1")).status is RunStatus.PAUSED


async def test_hooks_are_read_anew(sqlite_url: str) -> None:
    """A module's hooks are read at each turn, as those of a fork are."""
    hooks: Any = ModuleType("hooks_of_owls", "Counts.")
    sys.modules[hooks.__name__] = hooks
    hooks.name, hooks.prompt, hooks.tools, hooks.stop = "owls", "Count.", [], any_of(answered())
    hooks.model = Model("scripted:old", script=["Old."])
    agent = boss([delegate(hooks)], call("owls", task="Look."))
    hooks.model = Model("scripted:new", script=["New."])
    try:
        async with connect(sqlite_url) as client:
            answer = await worked(client, agent)
            child = await client.get(CHILD)
    finally:
        del sys.modules[hooks.__name__]

    assert (answer.text, child.function) == ("New.", "owls")
