"""Which model answered, who was passed over and why, and what it cost, can be looked at."""

import re

import pytest

from tests.fork import HOOKS, Fork
from tests.llm_servers import llmock

OWLS = "How many owls?"
MODEL = 'Model("scripted:owls", script=script)'


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def test_an_overloaded_model(fork):
    """Where the first model is overloaded its fallback answers; `show` says so, with costs."""
    two = 'Model("anthropic:claude-sonnet-5-5", fallback=["openai:gpt-6-luna"])'
    fork.replace("agent/hooks.py", MODEL, two)
    with llmock() as server:
        overloaded = {"type": "fail", "status": 529, "times": None}
        server.script(
            {**overloaded, "match": {"model": "claude-sonnet-5-5"}},
            {"type": "reply", "tool_calls": [{"name": "look", "arguments": {"what": "owls"}}]},
            {"type": "reply", "text": "Two owls."},
        )
        there = {
            "ANTHROPIC_API_KEY": "x",
            "ANTHROPIC_BASE_URL": f"{server.url}/anthropic",
            "OPENAI_API_KEY": "x",
            "OPENAI_BASE_URL": f"{server.url}/v1",
        }
        done = fork.do("run", OWLS, "--id", "first", **there)
    shown = fork.do("show", "first").out
    told = fork.run("first")
    listed = fork.do("runs").out

    assert (done.code, done.out) == (0, "Two owls.\n"), done.err
    passed = "passed over anthropic:claude-sonnet-5-5, overloaded: "
    assert passed in done.err
    assert shown.count(passed) == 2, "in both turns"
    assert "attempt 1, again after" in shown
    assert "openai:gpt-6-luna" in shown
    cost = told["usage"]["cost_usd"]
    assert float(cost) > 0
    assert told["tree_usage"] == told["usage"]
    whole = re.search(r"answered · 2 turns · .* · (\$0\.\d+|<\$0\.0001) · ", shown)
    assert whole
    assert whole[1] in listed
    assert len(re.findall(r"model\.\d .* tokens  (\$0\.\d{4}|<\$0\.0001)", shown)) == 2
    model = next(each for each in told["journal"] if each["key"] == "model.0")
    assert model["usage"]["model"] == "openai:gpt-6-luna"
    assert model["value"]["passed_over"][0]["reason"] == "overloaded"


CHILD = (
    HOOKS.replace("tools = [look]", "")
    + '''
from decimal import Decimal

from substrate import Context, durable
from substrate.models.messages import Usage


async def think(what: str):
    from substrate.engine.function.returns import Measured

    return Measured(what, Usage(1000, 500, cost_usd=Decimal("0.25")).to_json())


@durable
async def thinks(ctx: Context, what: str) -> str:
    return await ctx.step(think, what)


@tool
async def look(ctx: Context, what: str) -> str:
    """Have somebody look something up."""
    note("look")
    return await ctx.spawn(thinks, what)


tools = [look]
'''
)


def test_the_whole_tree(tmp_path):
    """What runs below have used is told: with the run, with the child, in the list, and as JSON."""
    fork = Fork.make(tmp_path, hooks=CHILD)
    fork.replace("agent/loop.py", "from agent import hooks\n", "from agent import hooks\n\n")
    fork.replace("agent/loop.py", "@durable", "thinks = hooks.thinks\n\n\n@durable")

    done = fork.do("run", OWLS, "--id", "first")
    shown, told = fork.do("show", "first").out, fork.run("first")

    assert done.code == 0, done.err
    assert "$0 · " in done.err
    assert re.search(r"with all below it [\d,]+ tokens, \$0\.2500", done.err)
    assert re.search(r"thinks\.0 .* 1,500 tokens  \$0\.2500", shown)
    assert (told["usage"]["cost_usd"], told["tree_usage"]["cost_usd"]) == ("0", "0.25")
    assert "$0.2500" in fork.do("runs").out
    assert fork.do("runs", "--json").document["runs"][0]["tree_usage"] == told["tree_usage"]


def test_what_was_not_asked_for(fork):
    """An answer that does not fit its type is shown with what was wrong, and so is the version."""
    fork.replace("agent/hooks.py", 'say("Two owls.")]', '"Two.", \'{"owls": 2}\']')
    typed = """
from pydantic import BaseModel

from substrate.agent.prompt import Prompt


class Owls(BaseModel):
    owls: int


answer = Owls
prompt = Prompt.versions({"v7": "Be brief."})
"""
    fork.write("agent/hooks.py", (fork.folder / "agent/hooks.py").read_text() + typed)

    done = fork.do("run", OWLS, "--id", "first")
    shown = fork.do("show", "first").out

    assert (done.code, done.out) == (0, '{"owls": 2}\n'), done.err
    assert "not what was asked for" in done.err
    assert "not what was asked for: This answer does not fit" in shown
    assert "→ v7: Be brief." in shown
    assert "1 message, prompt v7" in shown
    assert fork.run("first")["value"] == {"owls": 2}
