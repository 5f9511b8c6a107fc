"""A panel judges as a model does: its verdict is put to the vote, recorded and paid for, once."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from substrate import RunPaused, connect
from substrate.agent import Panel, answered, any_of, first, judge, majority, max_turns, rubric
from substrate.agent.history.rows import panel_of
from substrate.models.model import Model
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import BadRequest, Misuse
from tests.fork import HOOKS, Fork
from tests.loops import TASK, answer_of, make_agent, row, scripted
from tests.test_checks import judgement, names_owls, redone
from tests.test_panel import agreeing, cent, choice, does, fails, never, panel_in, says

ENDS = any_of(answered(), max_turns(9))


def says_all(*words: str) -> dict[str, Model]:
    """Return judges who say these, each for a cent, and for reasons of their own."""
    return {f"j{n}": says(each, each, each, name=f"j{n}") for n, each in enumerate(words)}


def in_turn(*words: str) -> Model:
    """Return a judge who says these one after the other, each of another answer, for a cent."""
    left = list(words)
    return does(lambda request: cent(left.pop(0)))


async def test_a_rubric(store_url: str) -> None:
    """Most judges say whether an answer passes, whatever their reasons; all of them are paid."""
    judges = Panel(
        {
            "a": in_turn(judgement(True, "It is fine."), judgement(True, "Fine.")),
            "b": in_turn(judgement(False, "It names no place."), judgement(True, "Good.")),
            "c": in_turn(judgement(False, "Where?"), judgement(False, "Too long.")),
        },
        merge=majority,
    )
    checks = [rubric("It names the place.", judge=judges)]
    model = scripted(cent("Two owls."), cent("Two owls, in the attic."))
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(model, checks=checks))
        first_, second = [await row(client, f"check.{n}/rubric.0") for n in range(2)]
        told = decode((await row(client, "revision.0")).value)
        votes = [await row(client, f"check.0/rubric.0/{name}.0") for name in "abc"]

    assert (answer.text, answer.reason) == ("Two owls, in the attic.", "answered")
    assert "- rubric: It names no place." in told
    assert [panel_of(each).votes for each in (first_, second)] == [
        {"a": False, "b": True, "c": True},
        {"a": True, "b": True, "c": False},
    ]
    assert panel_of(first_).why == "2 of 3 votes"
    assert all(each.is_settled for each in votes)
    assert answer.usage.cost_usd == Decimal("0.08")


async def test_a_judge_of_votes(store_url: str) -> None:
    """Where a panel judges a panel, most choose the best answer, whatever their reasons."""
    choices = [choice(1, "Short."), choice(2, "Where."), choice(2, "It says more.")]
    merge = judge(Panel(says_all(*choices), merge=majority), "It says where.")
    panel = Panel({"left": says("Two."), "right": says("Two, in the attic.")}, merge=merge)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(panel))
        told = await panel_in(client)
        inner = panel_of(await row(client, "model.0/judge.0"))
        found = [each.key for each in await client.journal("a/1")]

    assert answer.text == "Two, in the attic."
    assert (told["why"], agreeing(told)) == ("the judge: Where.", ["right"])
    assert inner.votes == {"j0": False, "j1": True, "j2": True}
    assert {f"model.0/judge.0/j{n}.0" for n in range(3)} <= set(found)
    assert answer.usage.cost_usd == Decimal("0.05")


async def test_judges_that_have_a_judge(sqlite_url: str) -> None:
    """A panel of judges may be merged by a judge of its own, which is a panel, too."""
    highest = Panel(says_all(choice(2), choice(2)), merge=majority)
    judges = Panel(
        {"mild": says(judgement(True)), "strict": says(judgement(False, "No place."))},
        merge=judge(highest, "It is fair."),
    )
    checks = [rubric("It names the place.", judge=judges)]
    model = scripted(*["Two owls."] * 3)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(model, stop=ENDS, checks=checks))
        inner = panel_of(await row(client, "check.0/rubric.0/judge.0"))

    assert (answer.reason, answer.detail) == (
        "unchecked",
        "the check 'rubric' does not pass: No place.",
    )
    assert inner.why == "2 of 2 votes"


async def test_the_first_judge(sqlite_url: str) -> None:
    """With first, one judge is enough, and who is not waited for counts as an estimate."""
    judges = Panel({"slow": never(), "quick": says(judgement(True))}, merge=first)
    agent = make_agent(scripted(cent("Two.")), checks=[rubric("Good.", judge=judges)])
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        panel = panel_of(await row(client, "check.0/rubric.0"))
        found = await client.journal("a/1")

    assert (answer.reason, panel.left) == ("answered", ["slow"])
    assert all(each.is_settled for each in found)


async def test_too_few_judges(store_url: str) -> None:
    """With too few votes the run is paused; resumed, those that failed are asked again."""
    asked: list[str] = []

    def script(request: Request) -> Any:
        asked.append("b")
        if len(asked) == 1:
            raise BadRequest("the account is closed")
        return judgement(True)

    judges = Panel({"a": says(judgement(True)), "b": does(script, "b")}, merge=majority)
    agent = make_agent(scripted("Two."), checks=[rubric("Good.", judge=judges)])
    async with connect(store_url) as client, client.work([agent]):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused, match="1 of 2 members of the panel voted"):
            await client.result("a/1")
        await client.resume("a/1")
        answer = await client.result("a/1", agent)

    assert (answer.reason, asked) == ("answered", ["b", "b"])


async def test_judges_that_give_no_judgement(sqlite_url: str) -> None:
    """They are asked again, and where none gives one, the answer has not passed."""
    judges = Panel({"a": says(*["Well."] * 3), "b": says(*["Hm."] * 3)}, merge=majority)
    agent = make_agent(scripted("Two."), checks=[rubric("Good.", judge=judges)])
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        found = [each.key for each in await client.journal("a/1")]

    assert answer.reason == "unchecked"
    assert "its judge gave no judgement: 'Well.'" in answer.detail
    assert {f"check.0/rubric.{k}" for k in range(3)} <= set(found)


def counting(name: str, words: str, asked: list[str]) -> Model:
    """Return a judge who notes that it was asked."""

    def script(request: Request) -> Any:
        asked.append(name)
        return cent(words)

    return does(script, name)


@pytest.mark.parametrize("after", ["another", "none", "a function"])
async def test_other_judges_after_a_fault(store_url: str, after: str) -> None:
    """Judges that were begun and are gone are closed, whoever judges after them, or nobody."""
    asked: list[str] = []
    one = counting("one", judgement(True), asked)
    failing = Panel({"one": one, "gone": fails(BadRequest("closed"))}, merge=majority, need=2)
    alone = rubric("Good.", judge=counting("alone", judgement(True), asked))
    checks = {"another": [alone], "none": [], "a function": [names_owls]}[after]
    model = scripted("Two owls.")
    before = make_agent(model, checks=[rubric("Good.", judge=failing)])
    async with connect(store_url) as client:
        answer = await redone(client, (before, make_agent(model, checks=checks)))
        found = await client.journal("a/1")

    assert [each.key for each in found if not each.is_settled] == []
    assert asked == ["one"] + ["alone"] * (after == "another")
    assert (answer.text, answer.reason) == ("Two owls.", "answered")


def test_the_key_of_each_judge(tmp_path: Path) -> None:
    """A judge of a panel whose key is not set is told at the start; show has each vote."""
    more = """
from substrate.agent import Panel, majority, rubric
from substrate.models.messages import Text


def saying(words):
    return Model("scripted:judge", script=[words])


yes, no = '{"reason": "It counts.", "passed": true}', '{"reason": "No.", "passed": false}'
checks = [rubric("Good.", judge=Panel(
    {"a": saying(yes), "b": saying(no), "c": saying(yes)}, merge=majority
))]
"""
    fork = Fork.make(tmp_path, hooks=HOOKS + more)
    done = fork.do("run", "How many?", "--id", "judged")
    shown = fork.do("show", "judged").out
    assert done.code == 0, done.err
    assert "vote of b  ok" in done.err
    assert "majority: 2 of 3 votes" in shown
    assert "said so: a, c; said otherwise: b" in shown

    fork.write("agent/hooks.py", HOOKS + more.replace("saying(no)", "'openai:o'"))
    done = fork.do("run", "How many?", "--id", "keyless")
    assert done.code != 0
    assert "OPENAI_API_KEY is not set" in done.err
    assert "the judge of the check 'rubric'" in done.err


@pytest.mark.parametrize("given", [3, "openai:gpt", [], None])
def test_what_is_no_judge(given: Any) -> None:
    """What is neither a model nor a panel is refused with the cure."""
    with pytest.raises(Misuse, match="is no model"):
        rubric("Good.", judge=given)
