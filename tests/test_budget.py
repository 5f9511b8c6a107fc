"""A budget holds for a run and everything below it, and leaves room for a last word."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from substrate import Context, connect, durable
from substrate.agent.end import Advice, Measure
from substrate.agent.stop import EndReason, answered, any_of, budget, max_turns
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.agent.transcript import Transcript
from substrate.models.day import is_day
from substrate.models.messages import Reply, ToolMessage, ToolResult, Usage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.loops import TASK, answer_of, make_agent, row
from tests.runs import keys, reached

FINDING = "An owl was seen at the barn. " * 40


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return FINDING


def cost(reply: Reply, usd: str | None, tokens: int = 100) -> Reply:
    """Return a reply that has cost this much."""
    usd_ = None if usd is None else Decimal(usd)
    return replace(reply, usage=Usage(tokens // 2, tokens // 2, cost_usd=usd_), model="m")


def looking(usd: str | None, tokens: int = 100) -> Reply:
    """Return a reply that looks, and has cost this much."""
    return cost(say(call("look")), usd, tokens)


def heard(request: Request) -> list[str]:
    """Return what the model is told by us, in order, but for the day."""
    return [
        part["text"]
        for message in request.messages
        if isinstance(message, UserMessage)
        for part in message.to_json()["parts"]
        if not is_day(part)
    ]


class Spending:
    """A model whose every call costs a dime; it looks until it may not."""

    def __init__(self, usd: str | None = "0.10", *, gives_up_when_warned: bool = False) -> None:
        self.usd = usd
        self.heard: list[list[str]] = []
        self.gives_up = gives_up_when_warned

    def __call__(self, request: Request) -> Reply:
        """Take a turn."""
        self.heard.append(heard(request))
        is_warned = any("Little is left" in each for each in self.heard[-1])
        if not request.may_call_tools or (is_warned and self.gives_up):
            return cost(say("So far: one owl."), self.usd)
        return looking(self.usd)

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:spending", script=self)


async def test_room_for_a_last_word(store_url):
    """A run that hits its budget stays within it, and returns what it has and why."""
    spending = Spending()
    agent = make_agent(spending.model, [look], any_of(answered(), budget(usd=0.55)))
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.text) == ("budget", "So far: one owl.")
    assert answer.detail == "$0.4000 of $0.55 spent; the rest is kept"
    assert answer.usage.cost_usd == Decimal("0.50")
    assert "Stop here: $0.4000" in spending.heard[-1][-1]


@pytest.mark.parametrize(
    "mode, told", [("hard", "the price of 'm'"), ("adaptive", "the price of 'm'")]
)
async def test_an_unknown_price(sqlite_url, mode, told):
    """A price that is not known ends a budget in dollars; it never counts as nothing."""
    ends = any_of(answered(), budget(usd=5, mode=mode))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(Spending(None).model, [look], ends))

    assert (answer.reason, answer.turns, answer.usage.cost_usd) == ("budget", 2, None)
    assert answer.detail == f"{told} is not known; use budget(tokens=…)"


async def test_soft(store_url):
    """A soft budget warns the model once, which is recorded, and the run goes on."""
    spending = Spending()
    ends = any_of(answered(), max_turns(8), budget(usd=0.45, mode="soft"))
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(spending.model, [look], ends))
        warning = decode((await row(client, "warning.0")).value)
        names = await keys(client, "a/1")

    assert (answer.reason, answer.turns) == ("max_turns", 9)
    assert [len(each) for each in spending.heard] == [1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert warning == spending.heard[3][1]
    assert warning.startswith("$0.3000 of $0.45 spent. Little is left")
    assert "warning.1" not in names


async def test_soft_and_heard(sqlite_url):
    """A model that heeds the warning answers, and the answer is whole."""
    spending = Spending(gives_up_when_warned=True)
    ends = any_of(answered(), budget(tokens=450, mode="soft"))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(spending.model, [look], ends))

    assert (answer.reason, answer.turns) == ("answered", 4)


class Counting:
    """A model whose calls cost what they hold: the scripted model's estimate of tokens."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.told: list[list[str]] = []

    def __call__(self, request: Request) -> Reply:
        """Look on, sum up when asked to, answer when stopped."""
        self.sent.append(len(request.messages))
        self.told.append(heard(request))
        if request.may_call_tools:
            return say(call("look"))
        is_summary = "sum up" in self.told[-1][-1]
        return say("Seen at the barn: owls." if is_summary else "Owls, at the barn.")

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:counting", script=self)


async def test_adaptive(store_url):
    """An adaptive budget sums up what was said, once, and goes further on the same tokens."""
    plain, adaptive = Counting(), Counting()
    limit = 30_000
    async with connect(store_url) as client:
        hard = make_agent(plain.model, [look], any_of(answered(), budget(tokens=limit)))
        first = await answer_of(client, hard)
        ends = any_of(answered(), budget(tokens=limit, mode="adaptive"))
        agent = make_agent(adaptive.model, [look], ends)
        second = await answer_of(client, agent, "a/2")
        summary = await row(client, "summary.0", "a/2")
        rows = await client.journal("a/2")

    assert second.turns > 1.4 * first.turns
    assert decode(summary.value)["parts"][0]["text"] == "Seen at the barn: owls."
    at = adaptive.told.index(next(each for each in adaptive.told if "sum up" in each[-1])) + 1
    assert adaptive.sent[at] == 3, "the task with the summary, the last turn, what it gave"
    assert adaptive.told[at] == [
        "Do it.",
        "What you did so far, in your own summary:\n\nSeen at the barn: owls.",
    ]
    assert (second.reason, second.text) == ("budget", "Owls, at the barn.")
    used = [decode(each.usage) for each in rows if each.usage]
    whole = sum(each["input_tokens"] + each["output_tokens"] for each in used)
    assert whole == second.usage.input_tokens + second.usage.output_tokens
    assert whole <= limit


async def test_adaptive_replays(sqlite_url):
    """A run that is taken up after its summary asks for none again and goes on the same way."""
    counting = Counting()
    ends = any_of(answered(), budget(tokens=30_000, mode="adaptive"))
    broken = True

    def script(request: Request) -> Reply:
        if broken and any("sum up" in each[-1] for each in counting.told):
            raise RuntimeError("this pauses the run")
        return counting(request)

    agent = make_agent(Model("scripted:counting", script=script), [look], ends)
    async with connect(sqlite_url) as client:
        with pytest.raises(Exception, match="pauses the run"):
            await answer_of(client, agent)
        asked = len(counting.sent)
        broken = False
        await client.resume("a/1")
        async with client.work([agent]):
            answer = await client.result("a/1", agent)
        control = await answer_of(client, agent, "a/2")

    assert sum("sum up" in each[-1] for each in counting.told[: asked + 1]) == 1
    assert (answer.turns, answer.usage, answer.text) == (
        control.turns,
        control.usage,
        control.text,
    )


def test_a_summary_of_nothing():
    """A model that writes no summary loses nothing of its transcript, and is not asked at once."""
    transcript = Transcript.begin(TASK, "")
    for _ in range(3):
        transcript += looking("0.1")
        transcript += ToolMessage((ToolResult("1", "look", "x"),))

    silent = transcript.summed_up(cost(say(""), "0.5"))

    assert silent.messages == transcript.messages
    assert silent.usage.cost_usd == Decimal("0.8")
    assert silent.turns_since_summary == 0


def test_advice_is_passed_on():
    """Composed conditions pass an advice on, and an end goes before it."""
    transcript = Transcript.begin(TASK, "") + looking("0.4")
    soft = budget(usd=0.5, mode="soft")

    assert isinstance(any_of(answered(), soft)(transcript), Advice)
    assert any_of(soft, max_turns(1))(transcript).reason is EndReason.MAX_TURNS
    assert soft(transcript).measure is Measure.WARN
    assert soft(transcript.warned("x")) is None
    with pytest.raises(Misuse, match="is none"):
        budget(usd=1, mode="gentle")


# The tree


def helper(usd: str | None = "0.10") -> Any:
    """Return an agent that looks twice and answers: three dimes."""

    def script(request: Request) -> Reply:
        done = sum(isinstance(each, ToolMessage) for each in request.messages)
        return looking(usd) if done < 2 else cost(say("At the barn."), usd)

    return make_agent(Model("scripted:helper", script=script), [look], name="helper")


def tools_over(child: Any) -> list[Any]:
    """Return tools that have a child work: waited for, not waited for, and in this very run."""

    @tool
    async def delegate(ctx: Context) -> str:
        """Have somebody look."""
        return (await ctx.spawn(child, Task("Look."))).text

    @tool
    async def here(ctx: Context) -> str:
        """Look here."""
        return (await ctx.call(child, Task("Look."))).text

    return [delegate, here]


def parent(tool_name: str) -> Model:
    """Return a model that delegates until it may not; a call costs a cent."""

    def script(request: Request) -> Reply:
        if not request.may_call_tools:
            return cost(say("Owls."), "0.01")
        return cost(say(call(tool_name)), "0.01")

    return Model("scripted:parent", script=script)


@pytest.mark.parametrize("tool_name", ["delegate", "here"])
async def test_the_whole_tree(store_url, tool_name):
    """What a child uses, or a durable function called here, counts as the parent's own."""
    child = helper()
    ends = any_of(answered(), max_turns(9), budget(usd=0.62))
    agent = make_agent(parent(tool_name), tools_over(child), ends, name="parent")
    async with connect(store_url) as client, client.work([agent, child]):
        await client.start(agent, TASK, id="a/1")
        answer = await client.result("a/1", agent)
        spent = [decode((await row(client, f"spent.{i}")).value)["cost_usd"] for i in range(2)]

    assert answer.reason == "budget"
    assert answer.detail == "$0.6200 of $0.62 spent; the rest is kept"
    assert answer.turns == 2  # nothing is left, which pays for no last words
    assert answer.usage.cost_usd == Decimal("0.62")
    assert spent == ["0.30", "0.60"]


async def test_a_child_that_fails_counts(store_url):
    """A child that fails has used what it used; a price it does not know makes the sum unknown."""

    @durable
    async def child(ctx: Context, usd: str | None) -> None:
        await ctx.call(helper(usd), Task("Look."))
        raise RuntimeError("after all that")

    @tool
    async def delegate(ctx: Context) -> str:
        """Have somebody look, in vain."""
        await ctx.spawn(child, usd)
        return "never"

    ends = any_of(answered(), max_turns(1), budget(usd=0.62))
    agent = make_agent(parent("delegate"), [delegate], ends, name="parent")
    answers = {}
    async with connect(store_url) as client, client.work([agent, child]):
        for usd in ("0.10", None):
            await client.start(agent, TASK, id=f"a/{usd}")
            answers[usd] = await client.result(f"a/{usd}", agent)

    assert answers["0.10"].usage.cost_usd == Decimal("0.32")
    assert answers[None].usage.cost_usd is None
    assert answers[None].usage.input_tokens == 50 * 5


async def test_the_tree_replays(sqlite_url):
    """What a child uses after it was counted does not change what was counted."""
    held: list[str] = ["hold"]

    @durable
    async def slow(ctx: Context) -> str:
        await ctx.call(helper(), Task("Look."))
        await ctx.receive("go")
        return (await ctx.call(helper(), Task("Look again."))).text

    @tool
    async def begin_one(ctx: Context) -> str:
        """Have somebody look meanwhile."""
        child = await ctx.spawn(slow).start()
        await ctx.receive("enough")
        return child.id

    def script(request: Request) -> Reply:
        if not any(isinstance(each, ToolMessage) for each in request.messages):
            return cost(say(call("begin_one")), "0.01")
        if held:
            raise RuntimeError("this pauses the run")
        return cost(say("Owls."), "0.01")

    model = Model("scripted:parent", script=script)
    agent = make_agent(model, [begin_one], any_of(answered(), budget(usd=9)), name="parent")
    below = "a/1#tools.0/begin_one.0/slow.0"
    async with connect(sqlite_url) as client, client.work([agent, slow]):
        await client.start(agent, TASK, id="a/1")
        await reached(client, "a/1", below.removeprefix("a/1#"))
        await reached(client, below, "go.0")
        await client.signal("a/1", "enough")
        with pytest.raises(Exception, match="pauses the run"):
            await client.result("a/1", agent)
        await client.signal(below, "go")
        await client.result(below)
        held.clear()
        await client.resume("a/1")
        answer = await client.result("a/1", agent)
        used = await client.store.usages("a/1#")

    assert answer.usage.cost_usd == Decimal("0.32")
    assert sum(Decimal(decode(each)["cost_usd"]) for _, each in used) == Decimal("0.62")
