"""A budget is never exceeded: what a call may cost is bounded before it is made."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from substrate import Client, Context, Retry, RunFailed, RunPaused, connect, durable
from substrate.agent import (
    Agent,
    Checks,
    Panel,
    Task,
    answered,
    any_of,
    budget,
    delegate,
    first,
    handoff,
    judge,
    max_turns,
    rubric,
    tool,
)
from substrate.agent.conversation import conversation_of
from substrate.agent.history.request import read_request
from substrate.agent.history.usage import summed, usage_of
from substrate.models.frame import canonical
from substrate.models.messages import Reply, StopReason, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import TransportFailed
from substrate.values.records import PromiseState
from tests.loops import TASK
from tests.metered import Meter

LIMITS = [{"usd": 0.50}, {"tokens": 30_000}]


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return "An owl."


def looks(request: Request) -> Reply:
    """Look for ever, unless it may not."""
    return say("So far: one owl.", call("look")) if request.may_call_tools else say("One owl.")


def asks(*calls: Any) -> Callable[[Request], Reply]:
    """Return a script that makes these calls first, and then answers."""

    def script(request: Request) -> Reply:
        is_first = not any(isinstance(each, ToolMessage) for each in request.messages)
        return say(*calls) if is_first and request.may_call_tools else say("Owls.")

    return script


def looker(meter: Meter, **more: Any) -> Agent:
    """Return an agent that works for as long as it is paid."""
    stop = any_of(answered(), max_turns(500))
    return Agent("looker", "Look.", meter.model("looker", looks), [look], stop, **more)


@dataclass
class Shape:
    """An agent whose work is spread over others, with what it is called in a test."""

    name: str
    make: Callable[[Meter], tuple[Any, list[Any]]]
    #: How much of what it may write the first reply of the agent takes.
    share: float = 0.02


def delegates(count: int) -> Callable[[Meter], tuple[Any, list[Any]]]:
    """Have so many look at once."""

    def make(meter: Meter) -> tuple[Any, list[Any]]:
        calls = (call("looker", task=f"look {n}") for n in range(count))
        return asks(*calls), [delegate(looker(meter), description="Look.")]

    return make


def nested(meter: Meter) -> tuple[Any, list[Any]]:
    """Have two look who have two look each."""
    inner = delegate(looker(meter), description="Look.")
    twice = asks(call("looker", task="here"), call("looker", task="there"))
    middle = Agent("middle", "Have it looked for.", meter.model("middle", twice, 0.02), [inner])
    return (
        asks(call("middle", task="up"), call("middle", task="down")),
        [delegate(middle, description="Have it looked for.")],
    )


def mapping(count: int, limit: int | None = None, times: int = 1) -> Any:
    """Have so many places looked at by a tool, in so many maps side by side."""

    def make(meter: Meter) -> tuple[Any, list[Any]]:
        child = looker(meter)

        @durable
        async def part(ctx: Context, number: int) -> int:
            items = [f"barn {number}.{n}" for n in range(count)]
            try:
                found = await ctx.map(child, items, limit=limit)
            except Exception as error:  # noqa: BLE001 - what is not asked is told
                return len(str(error))
            return sum(each.is_complete for each in found)

        @tool
        async def sweep(ctx: Context) -> list[int]:
            """Have many places looked at."""
            return await ctx.gather(*(ctx.call(part, n) for n in range(times)))

        return asks(call("sweep")), [sweep]

    return make


def panels(meter: Meter) -> tuple[Any, list[Any]]:
    """Have a panel with a judge work, twice at once."""
    members = {name: meter.model(name, lambda _, name=name: say(name)) for name in ("a", "b", "c")}
    chooses = meter.model("judge", lambda request: say('{"reason": "It is.", "best": "2"}'))
    board = Agent("board", "Count.", Panel(members, merge=judge(chooses, "It is right.")))
    return (
        asks(call("board", task="Count."), call("board", task="Count again.")),
        [delegate(board, description="Count.")],
    )


def first_of_three(meter: Meter) -> tuple[Any, list[Any]]:
    """Have a panel look for ever, of which the first answer counts."""
    members = {name: meter.model(name, looks) for name in ("a", "b", "c")}
    stop = any_of(answered(), max_turns(500))
    board = Agent("board", "Look.", Panel(members, merge=first), [look], stop)
    return asks(call("board", task="Look.")), [delegate(board, description="Look.")]


def handing(meter: Meter) -> tuple[Any, list[Any]]:
    """Hand the conversation to somebody who works for ever."""
    return asks(call("hand_over_to_looker")), [handoff(looker(meter))]


def tried_again(meter: Meter) -> tuple[Any, list[Any]]:
    """Have somebody look whose answers never pass, and who is tried again."""
    says_no = meter.model("judge", lambda request: say('{"reason": "No.", "passed": false}'))
    model = meter.model("sloppy", lambda request: say("Owls."), 0.1)
    checks = Checks([rubric("It is right.", judge=says_no)], 2)
    sloppy = Agent("sloppy", "Look.", model, [], any_of(answered(), max_turns(50)), checks=checks)
    tools = [delegate(sloppy, description="Look.", retry=Retry(max_attempts=3, initial=0))]
    return asks(call("sloppy", task="Look.")), tools


SHAPES = [
    Shape("five delegates", delegates(5)),
    Shape("fifty delegates", delegates(50)),
    Shape("nested", nested),
    Shape("a map of 50", mapping(50)),
    Shape("a map of 50, three at once", mapping(50, limit=3)),
    Shape("three maps at once", mapping(6, times=3)),
    Shape("panels with a judge", panels),
    Shape("a panel of the first", first_of_three),
    Shape("a handoff", handing),
    Shape("tried again", tried_again),
]


def boss(meter: Meter, shape: Shape, **limits: Any) -> Agent:
    """Return the agent of a shape under a budget."""
    script, tools = shape.make(meter)
    model = meter.model("boss", script, shape.share)
    return Agent("boss", "Have it done.", model, tools, any_of(answered(), budget(**limits)))


def check_bound(meter: Meter, limits: dict[str, Any], least: float = 0.5) -> None:
    """See that no budget was exceeded, and that one of them was a limit at all."""
    parts = []
    if "usd" in limits:
        parts.append(meter.usd / Decimal(str(limits["usd"])))
    if "tokens" in limits:
        parts.append(Decimal(meter.tokens) / limits["tokens"])
    assert max(parts) <= 1
    assert max(parts) >= least


async def spent(client: Client, run_id: str) -> Any:
    """Return what is recorded of a run and all below it."""
    return summed(await client.store.usages(f"{run_id}#"))


@pytest.mark.parametrize("limits", LIMITS, ids=["dollars", "tokens"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda each: each.name)
async def test_never_more(sqlite_url: str, shape: Shape, limits: dict[str, Any]) -> None:
    """Whatever works under a budget, with servers that take all they may, stays within it."""
    meter = Meter()
    agent = boss(meter, shape, **limits)
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)
        used = await spent(client, "a/1")

    check_bound(meter, limits)
    assert (used.cost_usd, used.input_tokens + used.output_tokens) == (meter.usd, meter.tokens)
    assert answer.usage.cost_usd == meter.usd


@pytest.mark.parametrize("shape", SHAPES[::2], ids=lambda each: each.name)
async def test_on_both_stores(store_url: str, shape: Shape) -> None:
    """What is left is read from the rows of either store."""
    meter = Meter()
    agent = boss(meter, shape, usd=0.50)
    async with connect(store_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        await client.result("a/1", agent.durable)

    check_bound(meter, {"usd": 0.50})


async def test_a_map_that_cannot_be_paid(sqlite_url: str) -> None:
    """Of too many items the first ones are worked on; the others end, having asked nobody."""
    meter = Meter()
    agent = boss(meter, Shape("fifty", mapping(50), share=0.05), usd=0.50)
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        await client.result("a/1", agent.durable)
        rows = {r.key: r for r in await client.journal("a/1") if r.granted}
        used = {key: await client.store.usages(f"a/1#{key}#") for key in rows}

    granted = {key: decode(row.granted)["usd"] for key, row in rows.items()}
    paid = {key for key, usd in granted.items() if Decimal(usd) > 0}
    assert 1 < len(paid) < 50 == len(rows)
    assert {key for key in rows if used[key]} == paid
    unpaid = next(decode(row.value) for key, row in rows.items() if key not in paid)
    assert (unpaid["text"], unpaid["reason"]) == ("", "budget")
    assert unpaid["detail"] == "what is left, $0.0000, does not pay for a call more"


async def test_what_the_parent_is_told(sqlite_url: str) -> None:
    """A child whose grant pays for no call is an error result that says so."""
    meter = Meter()
    long = Agent("long", "x" * 40_000, meter.model("long", looks))  # it reads for 3 cents
    stop = any_of(answered(), budget(usd=0.02))
    script = asks(call("long", task="look"))
    model = meter.model("boss", script, 0.02, max_output_tokens=2000)
    agent = Agent("boss", "Have it done.", model, [delegate(long, description="Look.")], stop)
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        await client.result("a/1", agent.durable)
        rows = {row.key: row for row in await client.journal("a/1")}

    told = decode(rows["tools.0/long.0"].error)["message"]
    assert told.startswith("'long' has no answer: it ran out of its budget: what is left, $0.0")
    assert told.endswith("does not pay for a call more\nIt had found nothing.")


async def test_attempts_that_fail(sqlite_url: str) -> None:
    """What failed attempts took is not there for the next; one that is not paid for ends it."""
    meter, tries = Meter(), []

    def cut_off(request: Request) -> Reply:
        tries.append(request.max_output_tokens or 0)
        usage = Usage(0, int(0.4 * tries[-1]))
        meter.usages.append(model.priced(usage))
        raise TransportFailed("cut off", retry_after=0.001, usage=usage)

    model = replace(meter.model("flaky", cut_off), script=cut_off)
    agent = Agent("flaky", "Look.", model, [], any_of(answered(), budget(tokens=500)))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        with suppress(RunPaused):
            await client.result("a/1", agent.durable)
        used = await spent(client, "a/1")

    assert len(tries) > 2
    assert tries == sorted(tries, reverse=True)
    check_bound(meter, {"tokens": 500})
    assert used.output_tokens == meter.tokens


@pytest.mark.parametrize("usd", [10**30, Decimal("1e300"), Decimal("1e-30")])
async def test_odd_amounts(sqlite_url: str, usd: Any) -> None:
    """A budget of any size is kept, and its row told, however many digits it has."""
    model = Model("scripted:owls", script=["Owls."], price=(3, 15))
    agent = Agent("owls", "Look.", model, [], any_of(answered(), budget(usd=usd)))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)

    assert answer.reason == ("answered" if usd > 1 else "budget")


async def test_a_try_that_is_not_paid_for(sqlite_url: str) -> None:
    """Where what is left pays for no try more of a call, the loop ends by its budget."""

    def cut_off(request: Request) -> Reply:
        usage = Usage(0, int(0.9 * (request.max_output_tokens or 0)))
        raise TransportFailed("cut off", retry_after=0.001, usage=usage)

    model = Model("scripted:flaky", script=cut_off)
    agent = Agent("flaky", "Look.", model, [], any_of(answered(), budget(tokens=500)))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)

    assert answer.reason == "budget"
    assert answer.detail.endswith("does not pay for a call")
    assert answer.usage.output_tokens > 300


@pytest.mark.parametrize(
    "stop, longest, reason, why",
    [
        (any_of(answered(), budget(tokens=500)), None, "budget", "paid for no longer an answer"),
        (any_of(answered(), budget(tokens=500)), 50, "answered", "the model's longest output"),
        (answered(), 50, "answered", "the model's longest output"),
    ],
)
async def test_an_answer_that_is_cut_off(
    sqlite_url: str, stop: Any, longest: int | None, reason: str, why: str
) -> None:
    """An answer that a budget cuts off is what there is, and no whole one."""
    asked: list[Request] = []

    def half(request: Request) -> Reply:
        asked.append(request)
        return replace(say("Half of it"), stop=StopReason.LENGTH)

    model = Model("scripted:half", script=half, price=(3, 15), max_output_tokens=longest)
    agent = Agent("half", "Look.", model, [], stop)
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)

    assert (answer.reason, answer.text, len(asked)) == (reason, "Half of it", 1)
    assert why in answer.detail


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_a_call_that_is_cut_off_counts(store_url: str, how: str) -> None:
    """Where a child is ended in the middle of a model call, what that had used counts."""
    asked = asyncio.Event()

    async def never(request: Request) -> Reply:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    async def waits(ctx: Context) -> str:
        """Have it looked for, for a moment."""
        limit = timedelta(seconds=0.5)
        try:
            return (await ctx.spawn(slow.durable, Task("Look."), timeout=limit)).text
        except RunFailed as error:
            return error.failure.type

    slow = Agent("slow", "Look. " * 500, Model("scripted:slow", script=never, price=(3, 15)))
    had = delegate(slow, description="Look.") if how == "cancelled" else tool(waits)
    asks_it = asks(call("slow", task="look") if how == "cancelled" else call("waits"))
    chief = Model("scripted:chief", script=asks_it, price=(3, 15))
    agent = Agent("chief", "Look.", chief, [had], any_of(answered(), budget(usd=1)))
    child = "a/1#tools.0/slow.0/slow.0" if how == "cancelled" else "a/1#tools.0/waits.0/slow.0"
    async with connect(store_url) as client, client.work([agent.durable, slow.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        await asyncio.wait_for(asked.wait(), 20)
        if how == "cancelled":
            await client.cancel(child)
        answer = await client.result("a/1", agent.durable)
        (row,) = [each for each in await client.journal(child) if each.key == "model.0"]
        own = await spent(client, "a/1")

    assert row.state is PromiseState.CANCELLED
    assert usage_of(row).input_tokens > 500
    assert usage_of(row).cost_usd > Decimal("0.0015")
    assert answer.usage == own
    assert answer.usage.input_tokens > 500


async def test_a_conversation(sqlite_url: str) -> None:
    """All messages of a conversation are within its budget; those that it does not pay for too."""
    meter = Meter()
    model = meter.model("talker", lambda request: say("Owls."), 0.2)
    agent = Agent("talker", "Talk.", model, [], any_of(answered(), budget(usd=0.50)))
    function = conversation_of(agent.durable)
    async with connect(sqlite_url) as client, client.work([function]) as worker:
        await client.start(function, TASK, None, id="talk")
        for n in range(12):
            await worker.run_until_idle()
            await client.signal("talk", "message", f"And in barn {n}?")
        await worker.run_until_idle()
        rows = await client.journal("talk")

    answers = [decode(row.value) for row in rows if row.name == "answer"]
    check_bound(meter, {"usd": 0.50})
    assert len(answers) == 13
    assert {each["reason"] for each in answers} == {"answered", "budget"}


async def test_what_was_asked_is_read_from_its_row(sqlite_url: str) -> None:
    """A row tells how long an answer was asked for, so the request of that day comes back."""
    meter, requests = Meter(), []

    def listens(request: Request) -> Reply:
        requests.append(request)
        return looks(request)

    model = replace(meter.model("looker", listens, 0.3), settings={"max_tokens": 90_000})
    agent = Agent("looker", "Look.", model, [look], any_of(answered(), budget(usd=0.10)))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        await client.result("a/1", agent.durable)
        keys = [row.key for row in await client.journal("a/1") if row.name == "model"]
        found = [await read_request(client, "a/1", key) for key in keys]

    assert len(found) > 1
    assert found == [canonical(each) for each in requests]
    assert all(each["max_output_tokens"] < 10_000 for each in found)


async def test_a_straggler_that_is_too_dear(sqlite_url: str) -> None:
    """One of a panel that is not waited for counts at the price of who was asked in its place."""
    meter = Meter()

    async def never(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError("it was not cancelled")

    cheap = Model("scripted:cheap", script=never, price=(1, 5))
    dear = Model("scripted:dear", script=never, price=(10_000, 50_000), fallback=[cheap])
    quick = meter.model("quick", lambda request: say("Owls."), 0.5)
    stop = any_of(answered(), budget(usd=0.10))
    agent = Agent("board", "Look.", Panel({"dear": dear, "quick": quick}, merge=first), [], stop)
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)

    assert (answer.text, answer.reason) == ("Owls.", "answered")
    assert meter.usd < Decimal(str(answer.usage.cost_usd)) < Decimal("0.05")


async def test_a_judge_that_is_too_dear(sqlite_url: str) -> None:
    """A judge that what is left does not pay for is not asked, and the answer is unchecked."""
    meter = Meter()
    judging = meter.model("judge", lambda request: say("never"))
    model = meter.model("talker", lambda request: say("Owls."))
    stop = any_of(answered(), budget(usd=0.10))
    checks = [rubric("x" * 10_000, judge=replace(judging, price=(100, 100)))]
    agent = Agent(
        "talker", "Talk.", replace(model, max_output_tokens=2000), [], stop, checks=checks
    )
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, TASK, id="a/1")
        answer = await client.result("a/1", agent.durable)

    assert (answer.text, answer.reason) == ("Owls.", "unchecked")
    assert "what is left pays for no judge" in answer.detail
    assert len(meter.usages) == 1
