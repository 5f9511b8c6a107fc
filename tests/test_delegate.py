"""Whatever becomes of a sub-agent is a result for its parent's model, and its cost is counted."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from substrate import Client, Context, Retry, RunStatus, connect, durable
from substrate.agent import Agent, Answer, Task, answered, any_of, delegate, max_turns, tool
from substrate.models.messages import Reply, StopReason, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import Side, kill_at_commit
from substrate.testing.crash import KillingStore
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from substrate.values.ids import RunId
from tests.runs import QUICK, keys
from tests.stores import eventually, opened

CENT = Usage(10, 10, cost_usd=Decimal("0.01"))


def cent(reply: Reply) -> Reply:
    """Return a reply that has cost a cent."""
    return replace(reply, usage=CENT)


def scripted(*turns: Reply, name: str = "test") -> Model:
    """Return a model that says these turns, each for a cent."""
    return Model(f"scripted:{name}", script=[cent(each) for each in turns])


def boss(tools: list[Any], *calls: Any, name: str = "boss", stop: Any = None) -> Agent:
    """Return an agent that makes these calls at once, and then answers what it was told."""

    def script(request: Request) -> Reply:
        told = [r for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
        if not told:
            return cent(say(*calls))
        return cent(say("\n".join(f"{'!' * each.is_error}{each.content}" for each in told)))

    model = Model("scripted:boss", script=script)
    return Agent(name, "Have it done.", model, tools, stop or any_of(answered(), max_turns(5)))


async def worked(client: Client, agent: Agent, **options: Any) -> Answer:
    """Run an agent to its end."""
    async with client.work([agent.durable], **options):
        await client.start(agent.durable, Task("Do it."), id="a/1")
        return await client.result("a/1", agent.durable)


def asks(agent: Agent, **options: Any) -> Agent:
    """Return an agent that asks this one once."""
    tools = [delegate(agent, description="Ask.", **options)]
    return boss(tools, call(agent.name, task="Look."))


async def test_an_answer(store_url: str) -> None:
    """The model gives a task in words, and gets the answer; the child's id says whose it is."""
    owls = Agent("owls", "Count.", scripted(say("Two owls.")))
    async with connect(store_url) as client:
        answer = await worked(client, asks(owls))
        child = await client.get("a/1#tools.0/owls.0/owls.0")
        given = decode((await client.store.promise(child.id)).input)
        rows = await keys(client, "a/1")

    assert (answer.text, answer.usage.cost_usd) == ("Two owls.", Decimal("0.03"))
    assert (child.function, child.parent_id, child.status) == ("owls", "a/1", RunStatus.DONE)
    assert given == {"task": {"text": "Look.", "data": {}}}
    assert [key for key in rows if key != "run"] == [
        "prompt.0",
        "model.0",
        "tools.0/owls.0/owls.0",
        "tools.0/owls.0",
        "spent.0",
        "model.1",
    ]


async def test_a_typed_answer(sqlite_url: str) -> None:
    """An answer of a type is given as JSON."""

    class Count(BaseModel):
        owls: int

    owls = Agent("owls", "Count.", scripted(say('{"owls": 2}')), answer=Count)
    async with connect(sqlite_url) as client:
        answer = await worked(client, asks(owls))

    assert answer.text == '{"owls":2}'


CHILD = "a/1#tools.0/owls.0/owls.0"
LOOKED = [cent(say("One owl so far.", call("look")))]


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return "an owl in the attic"


@tool
async def wait(ctx: Context) -> str:
    """Wait."""
    return await ctx.receive("go", str)


async def child_reached(client: Client, run_id: str, key: str) -> None:
    """Return when a child has this key in its journal."""

    async def is_there() -> bool:
        return any(row.key == key for row in await client.store.journal(RunId(run_id)))

    await eventually(is_there)


def waiter(**hooks: Any) -> Agent:
    """Return an agent that says something, and then waits."""
    script = scripted(say("One owl so far.", call("wait")), say("Two owls."), name="waiter")
    return Agent("owls", "Count.", script, [wait], **hooks)


async def test_an_answer_that_was_cut_off(sqlite_url: str) -> None:
    """The model is told where the words of an answer do not end as their model meant."""
    half = replace(say("Two owls, and"), stop=StopReason.LENGTH)
    agent = asks(Agent("scout", "Look.", scripted(half)))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)

    told = "Two owls, and\n\n(cut off at the model's longest output: what follows is missing)"
    assert answer.text == told


async def test_cancelled(store_url: str) -> None:
    """A child that is cancelled is an error result, with its last words."""
    agent = asks(waiter())
    async with connect(store_url) as client, client.work([agent.durable], options=QUICK):
        await client.start(agent.durable, Task("Do it."), id="a/1")
        await child_reached(client, CHILD, "tools.0/wait.0/go.0")
        await client.cancel(CHILD)
        answer = await client.result("a/1", agent.durable)

    assert answer.text.startswith("!'owls' has no answer: it was cancelled: ")
    assert answer.text.endswith("\nWhat it had found: One owl so far.")
    assert answer.usage.cost_usd == Decimal("0.03")


async def test_discarded(sqlite_url: str) -> None:
    """A child that is paused holds its parent; given up by a person, it is an error result."""
    broken = Agent("owls", "Count.", scripted(say("Owls.")), stop=lambda transcript: _raises())
    agent = asks(broken)
    async with connect(sqlite_url) as client, client.work([agent.durable], options=QUICK):
        await client.start(agent.durable, Task("Do it."), id="a/1")
        await eventually(lambda: _is_paused(client, CHILD))
        await client.discard(CHILD)
        answer = await client.result("a/1", agent.durable)

    assert answer.text.startswith("!'owls' has no answer: ")
    assert answer.text.endswith("\nIt had found nothing.")


def _raises() -> None:
    raise LookupError("no condition")


async def _is_paused(client: Client, run_id: str) -> bool:
    run = await client.store.get(RunId(run_id))
    return run is not None and run.status is RunStatus.PAUSED


async def test_no_turn_left(sqlite_url: str) -> None:
    """A child without a whole answer is an error result, with its partial one."""
    script = scripted(*LOOKED, say("One owl, I think."))
    owls = Agent("owls", "Count.", script, [look], stop=any_of(answered(), max_turns(1)))
    async with connect(sqlite_url) as client:
        answer = await worked(client, asks(owls))

    assert answer.text == (
        "!'owls' has no answer: it had no turn left: the limit of 1 is reached\n"
        "What it had found: One owl, I think."
    )


async def test_what_its_tools_gave(sqlite_url: str) -> None:
    """Of a child that has said nothing, its tools' last results are what it had found."""
    script = scripted(say(call("look")), say(call("wait")), name="silent")
    agent = asks(Agent("owls", "Count.", script, [look, wait]))
    async with connect(sqlite_url) as client, client.work([agent.durable], options=QUICK):
        await client.start(agent.durable, Task("Do it."), id="a/1")
        await child_reached(client, CHILD, "tools.1/wait.0/go.0")
        await client.cancel(CHILD)
        answer = await client.result("a/1", agent.durable)

    assert answer.text.endswith("\nWhat it had found: look: an owl in the attic")


async def test_tried_again(store_url: str) -> None:
    """With `retry`, a fresh child is started where no model gave what was asked for."""
    tries = []

    def moody(request: Request) -> Reply:
        tries.append(len(request.messages))
        return cent(say("" if len(tries) <= 3 else "Two owls."))

    owls = Agent("owls", "Count.", Model("scripted:moody", script=moody))
    agent = asks(owls, retry=Retry(max_attempts=2, initial=0))
    async with connect(store_url) as client:
        answer = await worked(client, agent)
        rows = await keys(client, "a/1")

    assert answer.text == "Two owls."
    assert tries == [1, 3, 5, 1]
    assert [each for each in rows if "/owls.0/" in each] == [
        "tools.0/owls.0/owls.0",
        "tools.0/owls.0/owls.1",
    ]
    assert answer.usage.cost_usd == Decimal("0.06")


async def test_tried_in_vain(sqlite_url: str) -> None:
    """The last child's end is told, and how many there were; the others' cost is counted."""
    owls = Agent("owls", "Count.", Model("scripted:mute", script=lambda request: cent(say(""))))
    agent = asks(owls, retry=Retry(max_attempts=3, initial=timedelta(milliseconds=1)))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)

    assert answer.text.startswith("!'owls' has no answer (3 tries, the last:): it failed: ")
    assert answer.usage.cost_usd == Decimal("0.11")


async def test_to_itself_without_end(sqlite_url: str) -> None:
    """An agent that asks itself for ever is refused at the limit, and each answers above it."""
    tools: list[Any] = []
    agent = boss(tools, call("boss", task="Do it."))
    tools.append(delegate(agent, description="Ask.", max_depth=3))
    async with connect(sqlite_url) as client:
        answer = await worked(client, agent)
        deepest = "a/1" + "#tools.0/boss.0/boss.0" * 3
        assert (await client.get(deepest)).status is RunStatus.DONE
        refused = decode((await _row(client, deepest, "tools.0/boss.0")).error)
        children = await client.store.usages(f"{deepest}#tools.")

    assert refused["message"].startswith("'boss' was not asked: agents stand 3 deep here")
    assert answer.text.endswith("do it yourself")
    assert not children


async def _row(client: Client, run_id: str, key: str) -> Any:
    return next(row for row in await client.journal(run_id) if row.key == key)


async def test_the_day_of_its_parent(sqlite_url: str) -> None:
    """A child is told the day in its parent's time zone."""
    agent = asks(Agent("owls", "Count.", scripted(say("Two owls."))))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, Task("Do it.", timezone="Asia/Tokyo"), id="a/1")
        await client.result("a/1", agent.durable)
        given = decode((await client.store.promise(RunId(CHILD))).input)  # type: ignore[union-attr, arg-type]

    assert given["task"]["timezone"] == "Asia/Tokyo"


async def test_each_item_has_its_outcome(store_url: str) -> None:
    """Hundreds of children, some without an answer: each has its own outcome, and what it cost."""

    def script(request: Request) -> Reply:
        place = request.messages[0].to_json()["parts"][0]["text"]
        return cent(say("" if place.endswith("7") else f"Owls at {place}."))

    owls = Agent("owls", "Count.", Model("scripted:owls", script=script))

    @durable
    async def count(ctx: Context) -> list[list[str]]:
        places: list[str | Task] = [f"barn {n}" for n in range(200)]
        found = await ctx.map(owls, places, limit=20)
        cost = sum((each.usage.cost_usd or Decimal(0) for each in found), Decimal(0))
        bad = [each for each in found if not each.is_complete]
        return [[each.text for each in found[:2]], [str(len(bad)), bad[0].problem, str(cost)]]

    async with connect(store_url) as client, client.work([count]):
        await client.start(count, id="a/1")
        first, (failed, why, cost) = await client.result("a/1", count)
        rows = await client.journal("a/1")

    assert first == ["Owls at barn 0.", "Owls at barn 1."]
    assert (failed, cost) == ("20", "2.40")
    assert why.startswith("it failed: 3 replies were not what was asked for")
    assert sum(row.key.startswith("owls.0/") for row in rows) == 200
    assert [row.key for row in rows if row.name == "found"] == ["found.0"]


async def commits(url: str, agent: Agent, run_id: str) -> Counter[str]:
    """Run an agent to its end; return which methods of the store have committed how often."""
    async with opened(url) as store:
        counting = kill_at_commit(store, 0, Side.BEFORE)
        client = Client(counting)
        async with client.work([agent.durable]):
            await client.start(agent.durable, Task("Do it."), id=run_id)
            await client.result(run_id, agent.durable)
        assert isinstance(counting, KillingStore)
        return Counter(counting.reached)


async def test_commits(sqlite_url: str) -> None:
    """A delegate costs at most four commits beyond its child's own: it costs three."""
    owls = Agent("owls", "Count.", scripted(say("Two owls.")))
    plain = boss([look], call("look"))
    asking = boss([delegate(owls, description="Ask.")], call("owls", task="Look."))

    own = await commits(sqlite_url, owls, "own")
    without = await commits(sqlite_url, plain, "without")
    having = await commits(sqlite_url, asking, "with")

    # Its start, its outcome, what was used; a run of its own is started by `start`, a child is not.
    assert having["commit"] - (without["commit"] - 1) - own["commit"] == 3
    assert having.total() - (without.total() - 1) - own.total() <= 4


@pytest.mark.parametrize(
    "call_of, told",
    [
        (lambda ctx, owls: ctx.map(owls, [1]), "is given 1; give tasks: texts, or Task"),
        (lambda ctx, owls: ctx.map(owls, "barn"), "is given 'barn'; give a list of tasks"),
        (lambda ctx, owls: ctx.map(owls, 5), "given items=5, which is no list; give what owls()"),
        (lambda ctx, owls: ctx.map(owls, ["barn"], limit=0), "limit=0 must be 1 or more"),
        (lambda ctx, owls: ctx.spawn(owls, "barn"), "is an agent; give it to delegate()"),
        (lambda ctx, owls: ctx.call(owls, "barn"), "'owls' is an agent; give it to delegate()"),
    ],
)
async def test_what_is_no_task(sqlite_url: str, call_of: Any, told: str) -> None:
    """What an agent cannot be given, or is not to be given so, is refused with the cure."""
    owls = Agent("owls", "Count.", scripted(say("Two.")))

    @durable
    async def count(ctx: Context) -> str:
        try:
            await call_of(ctx, owls)
        except Misuse as error:
            return str(error)
        return "nothing was refused"

    async with connect(sqlite_url) as client, client.work([count]):
        await client.start(count, id="a/1")
        assert told in await client.result("a/1", count)


async def test_no_item(sqlite_url: str) -> None:
    """Of no tasks there are no outcomes; those of a generator are taken once."""
    owls = Agent("owls", "Count.", scripted(say("Two.")))

    @durable
    async def count(ctx: Context) -> list[int]:
        some = await ctx.map(owls, (place for place in ("barn", "attic")))
        return [len(await ctx.map(owls, [])), len(some)]

    async with connect(sqlite_url) as client, client.work([count]):
        await client.start(count, id="a/1")
        assert await client.result("a/1", count) == [0, 2]


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: Agent("no agent", "x", scripted(say("x"))), "is called 'no agent'"),
        (
            lambda: Agent("gate", "x", scripted(say("x"))),
            "is called 'gate', as rows of the loop are",
        ),
        (lambda: Agent("tools", "x", scripted(say("x"))), "give it another name"),
        (lambda: Agent("a", 5, scripted(say("x"))), "`prompt` is int 5"),  # type: ignore[arg-type]
        (lambda: Agent("a", "x", "m"), "`model` is str 'm'"),  # type: ignore[arg-type]
        (lambda: Agent("a", "x", scripted(say("x")), look), "`tools` is the tool"),  # type: ignore[arg-type]
        (lambda: Agent("a", "x", scripted(say("x")), stop=answered), "`stop` is"),  # type: ignore[arg-type]
        (lambda: delegate(decode), "is no agent with a name of its own"),  # type: ignore[arg-type]
        (lambda: delegate(waiter()), "has no description"),
        (lambda: delegate(waiter(), description="x", max_depth=0), "max_depth=0"),
        (lambda: delegate(waiter(), description="x", max_depth=33), "give 1 to 32"),
        (lambda: delegate(waiter(), description="x", retry=3), "retry=3"),  # type: ignore[arg-type]
    ],
)
def test_what_is_none(make: Any, told: str) -> None:
    """What is no agent, or no option, is refused where it is written, with the line."""
    with pytest.raises(Misuse, match=told.replace("(", "\\(")):
        make()
