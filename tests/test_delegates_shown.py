"""`show` has sub-agents below their calls, and what any of them asks, however deep, above."""

import re
import signal
from collections.abc import Sequence

import pytest

from tests.fork import HOOKS, LIMIT_S, Fork, end
from tests.keeper import wait_until

OWN = '''
from dataclasses import replace
from decimal import Decimal

from substrate import Context
from substrate.agent import Agent, budget, delegate
from substrate.models.messages import Usage


def costing(*turns):
    def script(request):
        said = turns[min(sum(isinstance(m, Reply) for m in request.messages), len(turns) - 1)]
        return replace(said, usage=Usage(10, 10, cost_usd=Decimal("0.01")))

    return script


def agent(name, *turns, tools=()):
    return Agent(name, "Look.", Model(f"scripted:{name}", script=costing(*turns)), tools)


@tool
async def wait(ctx: Context) -> str:
    """Wait."""
    return await ctx.receive("permit", str)


deep = agent("deep", say(call("wait")), say("Deep down, two."), tools=[wait])


def place(request):
    at = request.messages[0].to_json()["parts"][0]["text"]
    return replace(say(call("wait" if at == "place 29" else "sleep")), usage=Usage(1, 1))


@tool
async def sleep(ctx: Context) -> None:
    """Sleep for long."""
    await ctx.sleep(3600)


scout = Agent("scout", "Look.", Model("scripted:scout", script=place), [wait, sleep])


@tool
async def sweep(ctx: Context) -> int:
    """Look at many places."""
    return len(await ctx.map(scout, [f"place {n}" for n in range(30)]))


quick = agent("quick", say("Two, at a glance."))
middle = agent(
    "middle",
    say(call("deep", task="Look deeper.")),
    say("Two."),
    tools=[delegate(deep, description="Look deeper.")],
)
model = Model("scripted:chief", script=costing(say(CALLS), say("Two owls.")))
tools = [delegate(middle, description="m"), delegate(quick, description="q"), sweep]
stop = any_of(answered(), max_turns(5), budget(usd=1, tokens=9000))
'''


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Provide a fork whose hooks each test writes anew."""
    return Fork.make(tmp_path_factory.mktemp("fork"))


def waiting(fork: Fork, calls: str, run_id: str, *told: str) -> str:
    """Run until `show` tells all this, and stop; return what it tells then."""
    fork.write("agent/hooks.py", HOOKS + OWN.replace("CALLS", calls))
    process = fork.open("run", "How many?", "--id", run_id)
    try:
        assert wait_until(lambda: set(told) <= set(words(fork, run_id, told)), LIMIT_S)
    finally:
        process.send_signal(signal.SIGINT)
        done = end(process)
    assert done.code == 130, done.err
    return fork.do("show", run_id).out


def words(fork: Fork, run_id: str, told: Sequence[str]) -> list[str]:
    """Return which of these words `show` tells of a run."""
    shown = fork.do("show", run_id).out
    return [each for each in told if each in shown]


def test_the_tree(fork: Fork) -> None:
    """A child has its state, its cost, its grant, its task and its answer; a deeper one asks."""
    calls = 'call("middle", task="Look here."), call("quick", task="Look there.")'
    shown = waiting(fork, calls, "tree", "permit TEXT", "Two, at a glance.")

    assert re.search(r"└── quick\.0 +ok +child .* 20 tokens  \$0\.0100", shown)
    assert "run tree#tools.0/quick.0/quick.0, granted $0.4850 and 4,470 tokens" in shown
    assert "Look there. → Two, at a glance." in shown
    assert re.search(r"middle\.0 +suspended +child .* 40 tokens  \$0\.0200", shown)
    below = "tree#tools.0/middle.0/middle.0#tools.0/deep.0/deep.0"
    assert f"signal '{below}' permit TEXT" in shown
    assert "with all below it 80 tokens, $0.0400" in shown

    rows = {row["key"]: row for row in fork.run("tree")["journal"]}
    assert rows["tools.0/quick.0/quick.0"]["granted"] == {"tokens": 4470, "usd": "0.485000"}
    assert fork.do("signal", below, "permit", "yes").code == 0
    done = fork.do("run", "--id", "tree")
    assert (done.code, done.out) == (0, "Two owls.\n"), done.err


def test_one_of_many(fork: Fork) -> None:
    """What the last of thirty children asks is told above, though all the others wait, too."""
    shown = waiting(fork, 'call("sweep")', "many", "permit TEXT")

    assert "signal 'many#tools.0/sweep.0/scout.0/29' permit TEXT" in shown
