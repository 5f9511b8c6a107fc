"""Several models give one answer: each is asked once, the votes are recorded, all are paid for."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from substrate import Client, RunPaused, RunStatus, connect
from substrate.agent import (
    Agent,
    Answer,
    Panel,
    Task,
    Vote,
    answered,
    any_of,
    budget,
    confident,
    first,
    judge,
    majority,
    max_turns,
    tool,
    weighted,
)
from substrate.models.messages import Reply, StopReason, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import ManualClock, Side, kill_at_commit
from substrate.testing.crash import KillingStore
from substrate.values.codec import decode
from substrate.values.errors import BadRequest, Misuse, Overloaded, QuotaExhausted
from substrate.values.records import PromiseState
from tests.loops import TASK, answer_of, make_agent, row
from tests.runs import QUICK, keys
from tests.stores import eventually, opened

BRIEF = replace(QUICK, shutdown_grace=timedelta(milliseconds=50), idle_timeout=timedelta(0))
CENT = Usage(10, 10, cost_usd=Decimal("0.01"))


class Count(BaseModel):
    """A count."""

    owls: int


def cent(turn: Any) -> Reply:
    """Return a turn that has cost a cent."""
    return replace(say(turn) if isinstance(turn, str) else turn, usage=CENT)


def says(*turns: Any, name: str = "member") -> Model:
    """Return a model that says these turns, each for a cent."""
    return Model(f"scripted:{name}", script=[cent(each) for each in turns])


def does(script: Callable[[Request], Any], name: str = "member") -> Model:
    """Return a model that does this."""
    return Model(f"scripted:{name}", script=script)


def fails(error: Exception) -> Model:
    """Return a model that fails like this each time. It has limits of its own."""

    def script(request: Request) -> str:
        raise error

    return does(script, "failing")


def never(asked: list[str] | None = None) -> Model:
    """Return a model that does not answer before it is cancelled."""

    async def script(request: Request) -> str:
        if asked is not None:
            asked.append("asked")
        await asyncio.Event().wait()
        return "too late"

    return does(script)


def choice(best: int, reason: str = "it is so") -> str:
    """Return what a judge says."""
    return json.dumps({"reason": reason, "best": str(best)})


async def panel_in(client: Client, key: str = "model.0") -> dict[str, Any]:
    """Return what a turn's row tells of its panel."""
    found: dict[str, Any] = decode((await row(client, key)).value)["panel"]
    return found


def agreeing(panel: dict[str, Any]) -> list[str]:
    """Return who agrees with the answer."""
    return [each["member"] for each in panel["votes"] if each["agrees"]]


async def test_a_majority(store_url: str) -> None:
    """The answer that most gave counts, with each vote in a row of its own, and all are paid."""
    members = {"a": says("Three."), "b": says("Two owls."), "c": says("  two  OWLS! ")}
    agent = make_agent(Panel(members, merge=majority))
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        told = await panel_in(client)
        found = await keys(client, "a/1")
        votes = [decode((await row(client, f"model.0/{name}.0")).value) for name in members]

    assert (answer.text, answer.reason, answer.turns) == ("Two owls.", "answered", 1)
    assert answer.usage == Usage(30, 30, cost_usd=Decimal("0.03"))
    assert (told["merge"], told["why"], agreeing(told)) == ("majority", "2 of 3 votes", ["b", "c"])
    assert [each["parts"][0]["text"] for each in votes] == ["Three.", "Two owls.", "  two  OWLS! "]
    assert sorted(found) == sorted(
        ["run", "prompt.0", *(f"model.0/{name}.0" for name in members), "model.0"]
    )


@pytest.mark.parametrize(
    "texts, same",
    [
        (("Yes.", "yes"), True),
        (('"Yes"', "yes"), True),
        (("-5", "5"), False),
        ((".5", "5"), False),
        (("5.0", "5"), False),
        (("ﬁve", "five"), True),
        (("a b", "a\u00a0 b"), True),
        (("...", "!"), False),
        (("no", "on"), False),
    ],
)
async def test_the_same_words(sqlite_url: str, texts: tuple[str, str], same: object) -> None:
    """Words are compared without regard to case, spaces and the punctuation around them."""
    members = {"other": says("something else"), "a": says(texts[0]), "b": says(texts[1])}
    async with connect(sqlite_url) as client:
        await answer_of(client, make_agent(Panel(members, merge=majority)))
        told = await panel_in(client)

    assert (told["why"] == "2 of 3 votes") is same


async def test_values(store_url: str) -> None:
    """Answers of a type are compared as values, however they are written."""
    members = {
        "a": says('{"owls": 3}'),
        "b": says('{"owls":2}'),
        "c": says('```json\n{"owls": 2}\n```'),
    }
    agent = make_agent(Panel(members, merge=majority), answer=Count)
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        told = await panel_in(client)

    assert (answer.value, agreeing(told)) == ({"owls": 2}, ["b", "c"])


async def test_a_confidence_is_none_of_the_value(sqlite_url: str) -> None:
    """Members that are asked how sure they are agree where their answers do."""

    def sure(answer: str, confidence: float) -> str:
        return json.dumps({"answer": answer, "confidence": confidence, "missing": ""})

    members = {"a": says(sure("Two.", 0.9)), "b": says(sure("One.", 1)), "c": says(sure("two", 1))}
    agent = make_agent(Panel(members, merge=majority), stop=any_of(confident(0.8), max_turns(3)))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        told = await panel_in(client)

    assert (answer.text, answer.reason, agreeing(told)) == ("Two.", "answered", ["a", "c"])


@pytest.mark.parametrize(
    "merge, text, why",
    [
        (majority, "One.", "1 of 3 votes, a tie: the first member stands"),
        (weighted(1, 1, 1.5), "Three.", "1.5 of 3.5 weight"),
        (weighted(1, 2, 2), "Two.", "2 of 5 weight, a tie: the first member stands"),
        (weighted(Decimal("0.1"), 0.3, 0.2), "Two.", "0.3 of 0.6 weight"),
    ],
)
async def test_weights(sqlite_url: str, merge: Any, text: str, why: str) -> None:
    """The most weight counts; of as much, the member that stands first, and the row says so."""
    members = [says(f"{each}.", name=each) for each in ("One", "Two", "Three")]
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(Panel(members, merge=merge)))
        told = await panel_in(client)

    assert (answer.text, told["why"]) == (text, why)
    assert [each["member"] for each in told["votes"]] == ["One", "Two", "Three"]


async def test_the_first_may_call_tools(store_url: str) -> None:
    """The first vote counts, its tools are called once, and the others are cancelled."""
    looked: list[str] = []

    @tool(effect="pure")
    def look() -> str:
        """Look."""
        looked.append("looked")
        return "two"

    panel = Panel({"slow": never(), "quick": says(say(call("look")), "Two owls.")}, merge=first)
    agent = make_agent(panel, [look])
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        told = [await panel_in(client, f"model.{n}") for n in (0, 1)]
        found = await keys(client, "a/1")

    assert (answer.text, looked) == ("Two owls.", ["looked"])
    assert [(agreeing(each), each["left"]) for each in told] == [(["quick"], ["slow"])] * 2
    assert not [key for key in found if "slow" in key]


async def test_a_judge(store_url: str) -> None:
    """A judge is told the task and the answers, not whose they are; its choice and cost count."""
    asked: list[Request] = []

    def script(request: Request) -> Reply:
        asked.append(request)
        return cent(choice(2, "It says where."))

    merge = judge(Model("scripted:judge", script=script), "It says where.")
    panel = Panel({"left": says("Two."), "right": says("Two, in the attic.")}, merge=merge)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)

    words = json.dumps([each.to_json() for each in asked[0].messages])
    assert answer.text == "Two, in the attic."
    assert answer.usage.cost_usd == Decimal("0.03")
    assert (told["why"], agreeing(told)) == ("the judge: It says where.", ["right"])
    assert all(each in words for each in (TASK.text, "Answer 1:", "Two, in the attic."))
    assert "right" not in words
    assert not asked[0].tools


async def test_a_judge_that_is_not_needed(sqlite_url: str) -> None:
    """Where all say the same, no judge is asked."""
    merge = judge(fails(AssertionError("asked")), "Good.")
    panel = Panel({"a": says("Two."), "b": says("two")}, merge=merge)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)

    assert (answer.text, told["why"]) == ("Two.", "all say the same")


async def test_a_judge_without_a_judgement(sqlite_url: str) -> None:
    """A judge is asked again for a number that there is; when it gives none, the row says so."""
    merge = judge(says("Well.", choice(3), "No."), "Good.")
    mended = judge(says("Well.", choice(2)), "Good.")
    members = {"a": says("One."), "b": says("Two.")}
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(Panel(members, merge=merge)))
        told = await panel_in(client)
        other = await answer_of(client, make_agent(Panel(members, merge=mended)), "a/2")

    assert (answer.text, other.text) == ("One.", "Two.")
    assert told["why"] == "its judge chose none: the first member stands"
    assert answer.usage.cost_usd == Decimal("0.05")


async def longest(votes: Sequence[Vote]) -> Vote:
    """Choose the longest."""
    return max(votes, key=lambda vote: len(vote.text))


def both(votes: Sequence[Vote]) -> str:
    """Say all of it."""
    return " / ".join(f"{vote.member}: {vote.text}" for vote in votes)


def total(votes: Sequence[Vote]) -> Count:
    """Add up."""
    return Count(owls=sum(vote.value["owls"] for vote in votes))


async def test_a_function(store_url: str) -> None:
    """A function chooses a vote or makes an answer, in words or of the type, async or not."""
    members = {"a": says("Two."), "b": says("Two owls.")}
    counted = {"a": says('{"owls": 1}'), "b": says('{"owls": 2}')}
    async with connect(store_url) as client:
        chosen = await answer_of(client, make_agent(Panel(members, merge=longest)), "a/1")
        told = await panel_in(client)
        made = await answer_of(client, make_agent(Panel(members, merge=both)), "a/2")
        summed = await answer_of(
            client, make_agent(Panel(counted, merge=total), answer=Count), "a/3"
        )

    assert (chosen.text, told["merge"], agreeing(told)) == ("Two owls.", "longest", ["b"])
    assert made.text == "a: Two. / b: Two owls."
    assert summed.value == {"owls": 3}


@pytest.mark.parametrize("wrong", [None, 3, "", Vote("x", "x", None, cent("x"))])
async def test_a_function_that_gives_no_answer(sqlite_url: str, wrong: Any) -> None:
    """What is no answer pauses the run with the hook's name; mended, the votes are still there."""
    asked: list[str] = []

    def script(request: Request) -> Reply:
        asked.append("asked")
        return cent("Two.")

    given = [wrong]

    def merge(votes: Sequence[Vote]) -> Any:
        return given[0]

    agent = make_agent(Panel({"a": does(script), "b": does(script)}, merge=merge))
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused, match=r"the hook `model`.*the merge merge gave"):
            await answer_of(client, agent)
        given[0] = "Two owls."
        async with client.work([agent]):
            await client.resume("a/1")
            answer = await client.result("a/1", agent)

    assert (answer.text, len(asked)) == ("Two owls.", 2)


async def test_a_quorum(store_url: str) -> None:
    """With `need` votes nobody else is waited for; a straggler counts as one call more."""
    asked: list[str] = []
    slow = replace(never(asked), price=(1_000_000, 1_000_000))
    panel = Panel({"slow": slow, "a": says("Two."), "b": says("Two.")}, merge=majority, need=2)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)
        own = decode((await row(client, "model.0")).usage)
        tree = await client.store.usages("a/1#")

    assert (answer.text, asked, told["left"]) == ("Two.", ["asked"], ["slow"])
    read = own["input_tokens"]
    assert read > 5
    assert (own["output_tokens"], own["cost_usd"]) == (10, str(Decimal(read + 10)))
    assert answer.usage == Usage(20 + read, 30, cost_usd=Decimal("0.02") + read + 10)
    # What stands in the rows adds up to what the answer says: nothing is counted twice.
    costs = [Decimal(decode(used)["cost_usd"]) for _, used in tree]
    assert sum(costs) == answer.usage.cost_usd


async def test_a_price_that_is_not_known(sqlite_url: str) -> None:
    """A straggler whose price nobody knows makes the cost unknown, and never 0."""
    slow = Model("openai-chat:own", base_url="http://127.0.0.1:9/v1", patience=60)
    panel = Panel({"slow": slow, "a": says("Two.")}, merge=first)
    agent = make_agent(panel, stop=any_of(answered(), budget(usd=5)))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.text, answer.usage.cost_usd) == ("Two.", None)


async def test_all_count_in_the_budget(sqlite_url: str) -> None:
    """A panel of three is three calls for a budget, which ends the run in time."""
    panel = Panel({name: says(*["" for _ in range(9)]) for name in "abc"}, merge=majority)
    agent = make_agent(panel, stop=any_of(answered(), budget(usd=0.10)))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert answer.reason == "budget"
    assert answer.usage.cost_usd is not None
    assert answer.usage.cost_usd <= Decimal("0.10")


async def test_a_member_that_fails(store_url: str) -> None:
    """A member that fails for good is a missing vote, with why; the others answer."""
    broken = fails(QuotaExhausted("the account is empty"))
    panel = Panel({"broken": broken, "a": says("Two."), "b": says("Two.")}, merge=majority)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)
        failed = await row(client, "model.0/broken.0")

    assert answer.text == "Two."
    assert failed.state is PromiseState.REJECTED
    assert told["missing"] == [{"member": "broken", "why": "QuotaExhausted: the account is empty"}]


async def test_a_member_that_retries_alone(store_url: str) -> None:
    """A failure that passes is retried by that member alone, and its cost counts."""
    asked: list[str] = []

    def script(request: Request) -> Reply:
        asked.append("asked")
        if len(asked) == 1:
            raise Overloaded("busy", retry_after=0.01, usage=CENT)
        return cent("Two.")

    calm: list[str] = []

    def steady(request: Request) -> Reply:
        calm.append("asked")
        return cent("Two.")

    panel = Panel({"busy": does(script), "calm": does(steady)}, merge=majority)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel))

    assert (len(asked), len(calm)) == (2, 1)
    assert answer.usage.cost_usd == Decimal("0.03")


async def test_too_few_votes(store_url: str) -> None:
    """Too few votes pause the run; resumed, those that failed are asked again and no others."""
    asked: dict[str, int] = {"a": 0, "b": 0, "c": 0}
    is_broken = [True]

    def script(name: str, *, breaks: bool = True) -> Callable[[Request], Reply]:
        def turn(request: Request) -> Reply:
            asked[name] += 1
            if breaks and is_broken[0]:
                raise QuotaExhausted("the account is empty")
            return cent("Two.")

        return turn

    members = {"a": does(script("a", breaks=False)), "b": does(script("b"))}
    agent = make_agent(Panel(members | {"c": does(script("c"))}, merge=majority))
    async with connect(store_url) as client:
        wanted = r"1 of 3 members of the panel voted, and 2 have to: b: QuotaExhausted: .*; c: "
        with pytest.raises(RunPaused, match=wanted):
            await answer_of(client, agent)
        async with client.work([agent], options=QUICK):
            await client.resume("a/1")
            with pytest.raises(RunPaused, match="1 of 3"):
                await client.result("a/1", agent)
            is_broken[0] = False
            await client.resume("a/1")
            answer = await client.result("a/1", agent)
        told = await panel_in(client)

    assert answer.text == "Two."
    assert asked == {"a": 1, "b": 3, "c": 3}
    assert [each["key"] for each in told["votes"]] == [
        "model.0/a.0",
        "model.0/b.2",
        "model.0/c.2",
    ]


async def test_what_is_not_what_was_asked_for(store_url: str) -> None:
    """A reply that does not fit is no vote; with too few votes it goes back, to all members."""
    members = {
        "a": says("Two.", '{"owls": 2}'),
        "b": says("Three.", '{"owls": 2}'),
        "c": says('{"owls": 2}', '{"owls": 2}'),
    }
    fits = {**members, "a": says('{"owls": 2}')}
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(Panel(members, merge=majority), answer=Count))
        told = [await panel_in(client, f"model.{n}") for n in (0, 1)]
        other = await answer_of(
            client, make_agent(Panel(fits, merge=majority), answer=Count), "a/2"
        )

    assert (answer.value, answer.turns, other.turns) == ({"owls": 2}, 2, 1)
    assert told[0]["why"] == "1 of 3 voted, and 2 have to"
    assert {each["member"] for each in told[0]["missing"]} == {"a", "b"}
    assert agreeing(told[1]) == ["a", "b", "c"]
    assert answer.usage.cost_usd == Decimal("0.06")


async def test_a_refusal_is_no_vote(sqlite_url: str) -> None:
    """A member that declines has no vote, and its words are no answer."""
    declines = does(lambda request: replace(say("No."), stop=StopReason.REFUSAL))
    panel = Panel({"no": declines, "a": says("Two."), "b": says("Two.")}, merge=majority)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)

    assert answer.text == "Two."
    assert told["missing"] == [{"member": "no", "why": "it declined to answer: No."}]


async def test_a_merge_holds(store_url: str) -> None:
    """What was merged holds on a replay, whatever the hook is by now; nobody is asked again."""
    asked: list[str] = []

    def script(request: Request) -> Reply:
        asked.append("asked")
        return cent("Two.")

    @tool
    async def wait(ctx: Any) -> str:
        """Wait."""
        return str(await ctx.receive("go", str))

    turns = says(say(call("wait")), "Two owls.")
    members = {"a": turns, "b": never()}
    agent = make_agent(Panel(members, merge=first), [wait])
    other = make_agent(Model("scripted:other", script=script), [wait])
    async with connect(store_url) as client:
        async with client.work([agent], options=QUICK):
            await client.start(agent, TASK, id="a/1")
            await eventually(lambda: _waits(client))
        async with client.work([other], options=QUICK):
            await client.signal("a/1", "go", "went")
            answer = await client.result("a/1", other)

    assert (answer.text, answer.turns, asked) == ("Two.", 2, ["asked"])


async def _waits(client: Client) -> bool:
    return "tools.0/wait.0/go.0" in await keys(client, "a/1")


async def test_the_members_change(store_url: str) -> None:
    """Votes of members that are gone do not count, and those of who is still there stand."""
    asked: list[str] = []

    def script(request: Request) -> Reply:
        asked.append("asked")
        return cent("Two.")

    kept = does(script)
    before = Panel({"kept": kept, "gone": says("Three."), "late": never()}, merge=majority)
    after = Panel({"kept": kept, "new": says("Two.")}, merge=majority)
    async with connect(store_url) as client:
        async with client.work([agent := make_agent(before)], options=BRIEF):
            await client.start(agent, TASK, id="a/1")
            await eventually(lambda: _has(client, "model.0/gone.0", "model.0/kept.0"))
        other = make_agent(after)
        async with client.work([other], options=QUICK):
            answer = await client.result("a/1", other)
        told = await panel_in(client)

    assert (answer.text, asked, agreeing(told)) == ("Two.", ["asked"], ["kept", "new"])
    assert answer.usage.cost_usd == Decimal("0.03")


async def _has(client: Client, *wanted: str) -> bool:
    return {*wanted} <= {*await keys(client, "a/1")}


async def test_a_wait_is_suspended(store_url: str) -> None:
    """While the last member waits for hours the run holds nothing, and then only it is asked."""
    clock, asked = ManualClock(), {"busy": 0, "calm": 0}

    def busy(request: Request) -> Reply:
        asked["busy"] += 1
        if asked["busy"] == 1:
            raise Overloaded("busy", retry_after=7200)
        return cent("Two.")

    def calm(request: Request) -> Reply:
        asked["calm"] += 1
        return cent("Two.")

    members = {"busy": does(busy, "busy"), "calm": does(calm)}
    agent = make_agent(Panel(members, merge=majority))
    async with connect(store_url, clock=clock) as client, client.work([agent], options=BRIEF):
        await client.start(agent, TASK, id="a/1")
        await eventually(lambda: _is(client, RunStatus.SUSPENDED))
        clock.advance(10_000)
        answer = await client.result("a/1", agent)

    assert (answer.text, asked) == ("Two.", {"busy": 2, "calm": 1})


async def _is(client: Client, status: RunStatus) -> bool:
    return (await client.get("a/1")).status is status


async def test_a_straggler_that_rests(store_url: str) -> None:
    """A member that waits for its next attempt is closed when others have voted."""
    busy = fails(Overloaded("busy", retry_after=7200, usage=CENT))
    slow = asyncio.Event()

    async def calm(request: Request) -> Reply:
        await slow.wait()
        return cent("Two.")

    panel = Panel({"busy": busy, "calm": does(calm)}, merge=majority, need=1)
    agent = make_agent(panel)
    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        await eventually(lambda: _has(client, "model.0/busy.0"))
        slow.set()
        answer = await client.result("a/1", agent)
        closed = await row(client, "model.0/busy.0")

    assert closed.state is PromiseState.CANCELLED
    assert answer.usage.cost_usd == Decimal("0.02")


async def test_last_words(sqlite_url: str) -> None:
    """A loop that is cut short asks the panel for its last words, without tools."""

    @tool(effect="pure")
    def look() -> str:
        """Look."""
        return "two"

    panel = Panel({"a": says(say(call("look")), "So far two."), "b": never()}, merge=first)
    agent = make_agent(panel, [look], any_of(answered(), max_turns(1)))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        told = await panel_in(client, "model.1")

    assert (answer.text, answer.reason, agreeing(told)) == ("So far two.", "max_turns", ["a"])


async def test_an_agent_of_a_panel(sqlite_url: str) -> None:
    """An agent may have a panel for its model."""
    agent = Agent("owls", "Count.", Panel([says("Two.", name="a"), "scripted:b"][:1], merge=first))
    async with connect(sqlite_url) as client, client.work([agent.durable]):
        await client.start(agent.durable, Task("Count."), id="a/1")
        answer: Answer = await client.result("a/1", agent.durable)

    assert answer.text == "Two."


async def test_a_mistake_in_a_member(sqlite_url: str) -> None:
    """A bug in a script pauses the run with its line, as it does for a model."""
    agent = make_agent(Panel({"a": fails(KeyError("x")), "b": says("Two.")}, merge=majority))
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused, match=r"the hook `model` \(.*test_panel.py"):
            await answer_of(client, agent)


NO_PANELS = [
    (lambda: Panel([], merge=first), "has no member"),
    (lambda: Panel({}, merge=first), "has no member"),
    (lambda: Panel("openai:gpt", merge=first), "give a list"),
    (lambda: Panel(["nowhere:x"], merge=first), "no provider 'nowhere'"),
    (lambda: Panel([3], merge=first), "3 is no model"),
    (lambda: Panel(["openai:gpt", "openai:gpt"], merge=first), "two members .* called 'gpt'"),
    (lambda: Panel({"a b": "openai:gpt"}, merge=first), "called 'a b'"),
    (lambda: Panel([Panel(["openai:gpt"], merge=first)], merge=first), "a panel cannot be"),
    (lambda: Panel(["openai:gpt"], merge=majority, need=2), "need=2"),
    (lambda: Panel(["openai:gpt"], merge=majority, need=0), "need=0"),
    (lambda: Panel(["openai:gpt"], merge=majority, need=True), "need=True"),
    (lambda: Panel(["openai:a", "openai:b"], merge=first, need=2), "one vote is enough"),
    (lambda: Panel(["openai:gpt"], merge=weighted(1, 2)), "2 weights for 1 members"),
    (lambda: Panel(["openai:gpt"], merge=weighted), "merge=.* is none"),
    (lambda: Panel(["openai:gpt"], merge=judge), "merge=.* is none"),
    (lambda: Panel(["openai:gpt"], merge="majority"), "merge='majority' is none"),
    (lambda: Panel(["openai:gpt"], merge=None), "merge=None is none"),
    (lambda: Panel(["openai:gpt"], merge=print), "print> is none; .* with one parameter"),
    (lambda: Panel(["openai:gpt"], merge=lambda: 1), "a function of the votes, with one parameter"),
    (lambda: Panel(["openai:gpt"], merge=lambda votes, more: 1), "with one parameter"),
    (lambda: Panel(["openai:gpt"], merge=lambda *, votes: 1), "with one parameter"),
    (lambda: weighted(1, 0), "weighted"),
    (lambda: weighted(1, float("nan")), "weighted"),
    (lambda: judge("openai:gpt", " "), "says nothing"),
    (lambda: judge(3, "Good."), "no model"),
    (lambda: Panel({"judge": "openai:gpt"}, merge=judge("openai:o", "Good.")), "rename it"),
    (lambda: Model("openai:gpt", fallback=[Panel(["openai:a"], merge=first)]), "no model"),
    (lambda: Model("openai:gpt", offline=Panel(["openai:a"], merge=first)), "no model"),
]


@pytest.mark.parametrize("make, said", NO_PANELS, ids=range(len(NO_PANELS)))
def test_what_is_no_panel(make: Callable[[], Any], said: str) -> None:
    """What could not be asked in the night is refused when it is made, with the cure."""
    with pytest.raises(Misuse, match=said):
        make()


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "two"


def merges_nothing(votes: Sequence[Vote]) -> None:
    """Forget what they said."""


@pytest.mark.parametrize(
    "merge, tools, said",
    [
        (majority, [look], "merges by majority, and there are tools"),
        (merges_nothing, [], "which returns nothing"),
    ],
)
def test_hooks_that_do_not_fit(merge: Any, tools: list[Any], said: str) -> None:
    """Tools that no member may call, and a function that merges nothing, are refused at load."""
    panel = Panel([says("x")], merge=merge)
    with pytest.raises(Misuse, match=said):
        Agent("owls", "Count.", panel, tools)


async def test_tools_that_come_later(sqlite_url: str) -> None:
    """Tools that a running agent is given beside such a merge pause it."""
    panel = Panel([says("x")], merge=majority)
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused, match="merges by majority, and there are tools"):
            await answer_of(client, make_agent(panel, [look]))


def test_names_of_members() -> None:
    """A member is known by what its provider calls it, as far as a key can hold that."""
    panel = Panel(["google:gemini-2.5-pro", "groq:qwen/qwen3-32b", "openai:4o"], merge=majority)
    assert list(panel.named) == ["gemini-2_5-pro", "qwen_qwen3-32b", "_4o"]


async def test_a_request_that_is_wrong(sqlite_url: str) -> None:
    """A member whose request is refused as wrong is a missing vote, too."""
    panel = Panel({"a": fails(BadRequest("no")), "b": says("Two.")}, merge=majority, need=1)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(panel))
    assert answer.text == "Two."


async def commits_after(url: str, answering: Any, run_id: str) -> int:
    """Run an agent to its end; return how many commits there were after its last reply."""
    agent = make_agent(answering)
    async with opened(url) as store:
        counting = kill_at_commit(store, 0, Side.BEFORE)
        assert isinstance(counting, KillingStore)
        reached = COUNTING[0] = counting.reached
        client = Client(counting)
        async with client.work([agent]):
            await client.start(agent, TASK, id=run_id)
            await client.result(run_id, agent)
        return len(reached) - REPLIED[0]


COUNTING: list[Any] = [None]
REPLIED = [0]


async def test_commits(sqlite_url: str) -> None:
    """After its slowest needed member a panel of five takes two commits: its row, and the merge."""
    others_written = asyncio.Event()

    async def slowest(request: Request) -> Reply:
        await others_written.wait()
        REPLIED[0] = len(COUNTING[0])
        return cent("Two.")

    def quick(request: Request) -> Reply:
        asyncio.get_running_loop().call_later(0.2, others_written.set)
        return cent("Two.")

    def alone(request: Request) -> Reply:
        REPLIED[0] = len(COUNTING[0])
        return cent("Two.")

    quicks = {name: does(quick) for name in "abcd"}
    members = {**quicks, "slow": does(slowest, "slow")}
    quorum = {**members, "d": never(), "c": never()}
    after = await commits_after(sqlite_url, does(alone), "alone")

    # A model alone takes one, which is that of its reply.
    assert await commits_after(sqlite_url, Panel(members, merge=majority), "all") - after == 1
    panel = Panel(quorum, merge=majority, need=3)
    assert await commits_after(sqlite_url, panel, "quorum") - after == 1
