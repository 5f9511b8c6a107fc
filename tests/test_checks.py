"""An answer that fails a check goes back with why, and never ends as if it had passed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from substrate import Client, RunPaused, connect
from substrate.agent import (
    Agent,
    Answer,
    Checks,
    Task,
    answered,
    any_of,
    budget,
    confident,
    delegate,
    max_turns,
    rubric,
    schema,
    signalled,
    tool,
)
from substrate.agent.history.request import read_request
from substrate.models.frame import canonical
from substrate.models.messages import Usage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.fork import HOOKS, Fork
from tests.loops import TASK, answer_of, make_agent, row, scripted


class Count(BaseModel):
    """A count."""

    owls: int


def names_owls(answer: Answer, task: Task) -> str | None:
    """Want owls to be named."""
    assert task.text == TASK.text
    return None if "owl" in answer.text else "Say what was counted."


async def is_short(answer: Answer, task: Task) -> str | None:
    """Want few words."""
    return "Be brief." if len(answer.text) > 20 else None


def judgement(passed: object, reason: str = "it is so") -> str:
    """Return what a judge says."""
    return json.dumps({"passed": passed, "reason": reason})


async def keys(client: Client, run_id: str = "a/1") -> list[str]:
    """Return the keys of a run's journal."""
    return [each.key for each in await client.journal(run_id)]


async def test_what_passes(store_url):
    """An answer that passes ends as ever, and what each check said is a row."""
    agent = make_agent(scripted("Two owls."), checks=[names_owls, is_short])
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        rows = [await row(client, f"check.0/{name}.0") for name in ("names_owls", "is_short")]

    assert (answer.text, answer.reason, answer.detail) == ("Two owls.", "answered", "")
    assert [decode(each.value) for each in rows] == [None, None]


async def test_what_goes_back(store_url):
    """All that is wrong is told to the model at once, and the next answer is checked anew."""
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return "Two of them, as far as I can see." if len(seen) == 1 else "Two owls."

    agent = make_agent(Model("scripted:test", script=script), checks=[names_owls, is_short])
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        told, asked = await row(client, "revision.0"), await row(client, "model.1")
        found = await keys(client)

    assert (answer.text, answer.reason, answer.turns) == ("Two owls.", "answered", 2)
    assert decode(told.value) == (
        "Your answer did not pass:\n- names_owls: Say what was counted.\n- is_short: Be brief.\n"
        "Mend that, and give the whole answer again."
    )
    assert decode(asked.input)["add"] == ["model.0", "revision.0"]
    assert {"check.0/names_owls.0", "check.1/names_owls.0", "check.1/is_short.0"} <= set(found)


@pytest.mark.parametrize("corrections", [None, 0, 1])
async def test_what_never_passes(sqlite_url, corrections):
    """After so many tries the run ends as unchecked, with why and with the last answer."""
    model = Model("scripted:test", script=lambda request: f"Two, {len(request.messages)}.")
    checks: Any = [names_owls] if corrections is None else Checks([names_owls], corrections)
    agent = make_agent(model, stop=any_of(answered(), max_turns(9)), checks=checks)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    tries = 2 if corrections is None else corrections
    assert (answer.reason, answer.turns) == ("unchecked", 1 + tries)
    assert answer.text == f"Two, {1 + 2 * tries}."
    assert answer.detail == "the check 'names_owls' does not pass: Say what was counted."
    assert not answer.is_complete


async def test_a_judge(store_url):
    """A judge's calls are recorded and priced, and what it says goes to the model."""
    asked: list[Request] = []

    def judge(request: Request) -> Any:
        asked.append(request)
        said = judgement(len(asked) > 1, "It names no place.")
        return replace(say(said), usage=Usage(10, 5, cost_usd=Decimal("0.02")))

    checks = [rubric("It names the place.", judge=Model("scripted:judge", script=judge))]
    agent = make_agent(scripted("Two owls.", "Two owls, in the attic."), checks=checks)
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        first = await row(client, "check.0/rubric.0")
        told = decode((await row(client, "revision.0")).value)

    assert (answer.text, answer.reason) == ("Two owls, in the attic.", "answered")
    assert "- rubric: It names no place." in told
    words = json.dumps([each.to_json() for each in asked[0].messages])
    assert all(each in words for each in ("It names the place.", TASK.text, "Two owls."))
    assert not asked[0].tools
    assert decode(first.usage)["cost_usd"] == "0.02"
    assert answer.usage.cost_usd == Decimal("0.04")


async def test_a_judge_counts_in_the_budget(sqlite_url):
    """What judges use is within the budget of the run, once, also beside tools that ask models."""

    def judge(request: Request) -> Any:
        return replace(say(judgement(False)), usage=Usage(900, 0, cost_usd=Decimal(0)))

    @tool
    async def ask(ctx: Any) -> str:
        """Ask."""
        return "asked"

    model = Model("scripted:test", script=lambda request: _dear("Two owls."))
    checks = Checks([rubric("Good.", judge=Model("scripted:judge", script=judge))], 9)
    agent = make_agent(model, stop=any_of(answered(), budget(tokens=2000)), checks=checks)
    spending = make_agent(
        Model("scripted:test", script=lambda r: _dear(_ask_first(r))),
        [ask],
        checks=[checks.checks[0]],
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        other = await answer_of(client, spending, "a/2")

    assert (answer.reason, answer.turns) == ("budget", 2)  # nothing is left for last words
    assert answer.usage.input_tokens == 2 * 100 + 2 * 900
    assert other.usage.input_tokens == 5 * 100 + 3 * 900


def _dear(turn: Any) -> Any:
    reply = say(turn) if isinstance(turn, str) else turn
    return replace(reply, usage=Usage(100, 0, cost_usd=Decimal(0)))


def _ask_first(request: Request) -> Any:
    """Have a tool asked at first, and again after the first answer."""
    return "Two owls." if len(request.messages) in (3, 7, 9) else say(call("ask"))


async def test_a_judge_that_gives_no_judgement(sqlite_url):
    """It is asked again, then the next is; when nobody judges, the answer has not passed."""
    calls: list[str] = []

    def odd(request: Request) -> str:
        calls.append("odd")
        return "I like it."

    def good(request: Request) -> str:
        calls.append("good")
        return judgement(True)

    other = Fallback(Model("scripted:good", script=good), on=["invalid"])
    helped = rubric("Good.", judge=Model("scripted:odd", script=odd, fallback=[other]))
    alone = rubric("Good.", judge=Model("scripted:odd", script=odd), name="taste")
    async with connect(sqlite_url) as client:
        one = await answer_of(client, make_agent(scripted("Two."), checks=[helped]))
        assert calls == ["odd", "odd", "odd", "good"]
        two = await answer_of(client, make_agent(scripted("Two."), checks=[alone]), "a/2")
        found = await keys(client, "a/2")

    assert one.reason == "answered"
    assert (two.reason, two.text, two.turns) == ("unchecked", "Two.", 1)
    assert two.detail == (
        "the check 'taste' does not pass: its judge gave no judgement: 'I like it.'"
    )
    assert [key for key in found if "taste" in key] == [f"check.0/taste.{k}" for k in range(3)]


async def test_a_judge_is_asked_last(sqlite_url):
    """Where what costs nothing does not pass, no judge is asked."""
    asked: list[Request] = []

    def judge(request: Request) -> str:
        asked.append(request)
        return judgement(True)

    checks = [rubric("Good.", judge=Model("scripted:judge", script=judge)), names_owls]
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(scripted("Two.", "Two owls."), checks=checks))

    assert (answer.reason, len(asked)) == ("answered", 1)


SCHEMAS: dict[str, tuple[Any, str, str]] = {
    "a type": (Count, '{"owls": "many"}', "- owls: Input should be a valid integer"),
    "a dict": (
        {"type": "object", "properties": {"owls": {"type": "integer", "minimum": 1}}},
        '{"owls": 0}',
        "- owls: it is to be 1 or more",
    ),
    "no JSON": (Count, "Two owls.", "it is not JSON"),
}


@pytest.mark.parametrize("shape, wrong, told", SCHEMAS.values(), ids=SCHEMAS)
async def test_a_schema(sqlite_url, shape, wrong, told):
    """An answer in words has to be JSON that fits, and what is wrong is told field by field."""
    agent = make_agent(scripted(wrong, '```json\n{"owls": 2}\n```'), checks=[schema(shape)])
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        revision = decode((await row(client, "revision.0")).value)

    assert (answer.reason, answer.turns) == ("answered", 2)
    assert told in revision


async def test_a_typed_answer(sqlite_url):
    """Checks are given the answer that the run would give: words, value, and what it took."""
    given: list[Answer] = []

    def keep(answer: Answer, task: Task) -> None:
        given.append(answer)

    agent = make_agent(
        scripted('{"owls": 2}'), answer=Count, checks=[keep, schema({"required": ["owls"]})]
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert given == [answer]
    assert given[0].read(Count).owls == 2


async def test_an_answer_that_is_sure_or_finished(sqlite_url):
    """An answer is checked as it is taken out, and one by which the agent ends its work as well."""
    sure = json.dumps({"answer": "Two.", "confidence": 0.9, "missing": ""})
    surer = sure.replace("Two.", "Two owls.")
    one = make_agent(scripted(sure, surer), stop=confident(0.8), checks=[names_owls])
    two = make_agent(
        scripted(say(call("finish", answer="Two.")), say(call("finish", answer="Two owls."))),
        stop=signalled(),
        checks=[names_owls],
    )
    async with connect(sqlite_url) as client:
        answers = [await answer_of(client, one), await answer_of(client, two, "a/2")]

    assert [(each.text, each.turns) for each in answers] == [("Two owls.", 2), ("Two owls.", 2)]
    assert [each.reason for each in answers] == ["answered", "signalled"]


async def test_last_words(sqlite_url):
    """Last words are checked once, by no judge, and the detail tells what does not pass."""

    def never(request: Request) -> str:
        raise AssertionError("a judge was asked")

    @tool(effect="pure")
    def look() -> str:
        """Look."""
        return "two"

    checks = [names_owls, rubric("Good.", judge=Model("scripted:judge", script=never))]
    agent = make_agent(scripted(say(call("look")), "Two."), [look], max_turns(1), checks=checks)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.text) == ("max_turns", "Two.")
    assert answer.detail == (
        "the limit of 1 is reached; the check 'names_owls' does not pass: Say what was counted."
    )


async def test_what_is_no_answer_is_not_checked(sqlite_url):
    """A refusal, and an answer that does not fit its type, are not the business of checks."""

    def never(answer: Answer, task: Task) -> str:
        raise AssertionError("checked")

    agent = make_agent(scripted("Two.", '{"owls": 2}'), answer=Count, checks=[schema(Count)])
    spoilt = make_agent(
        Model("scripted:test", script=lambda r: "Two."), answer=Count, checks=[never]
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        other = await answer_of(client, spoilt, "a/2")
        found = await keys(client)

    assert (answer.reason, other.reason) == ("answered", "failed")
    assert [key for key in found if key.startswith("check.")] == ["check.1/schema.0"]


def raises(answer: Answer, task: Task) -> str | None:
    """Have a bug."""
    return answer.txt  # type: ignore[attr-defined, no-any-return]


def says_yes(answer: Answer, task: Task) -> Any:
    """Give what is neither."""
    return bool(answer.text)


async def says_nothing(answer: Answer, task: Task) -> str:
    """Give words that say nothing."""
    return " "


@pytest.mark.parametrize("broken", [raises, says_yes, says_nothing])
async def test_a_check_at_fault(store_url, broken):
    """A check that raises, or says what is none, pauses the run; mended, it goes on from there."""
    asked: list[Request] = []

    def script(request: Request) -> str:
        asked.append(request)
        return "Two owls."

    model = Model("scripted:test", script=script)
    faulty, mended = (make_agent(model, checks=[each]) for each in (broken, names_owls))
    async with connect(store_url) as client:
        async with client.work([faulty]):
            await client.start(faulty, TASK, id="a/1")
            with pytest.raises(RunPaused, match=r"the hook `checks`.* is at fault.*resume") as told:
                await client.result("a/1")
        assert broken.__name__ in str(told.value) or __file__ in str(told.value)
        async with client.work([mended]):
            await client.resume("a/1")
            answer = await client.result("a/1", mended)

    assert (answer.text, len(asked)) == ("Two owls.", 1)


async def redone(client: Client, agents: Sequence[Any]) -> Answer:
    """Have the run of the first agent stopped in its last check, and the second one go on."""
    async with client.work([agents[0]]):
        await client.start(agents[0], TASK, id="a/1")
        with pytest.raises(RunPaused):
            await client.result("a/1")
    async with client.work([agents[1]]):
        await client.resume("a/1")
        result: Answer = await client.result("a/1", agents[1])
        return result


async def test_what_is_recorded_holds(store_url):
    """What a check or a judge has said holds though it is gone, and is not asked again."""
    asked: list[str] = []

    def judge(request: Request) -> Any:
        asked.append("judge")
        return replace(say(judgement(False, "Not good.")), usage=Usage(7, cost_usd=Decimal(1)))

    def first(answer: Answer, task: Task) -> None:
        asked.append("first")

    model = Model("scripted:test", script=["Two.", "Two, in the attic."])
    strict = rubric("Good.", judge=Model("scripted:judge", script=judge))
    broken = rubric("Fine.", judge=Model("scripted:none", script=[]), name="broken")
    before = make_agent(model, checks=[first, strict, broken])
    after = make_agent(model, checks=[])
    async with connect(store_url) as client:
        answer = await redone(client, (before, after))
        found = await client.journal("a/1")

    assert asked == ["first", "judge"]
    assert (answer.text, answer.turns, answer.reason) == ("Two, in the attic.", 2, "answered")
    assert answer.usage.cost_usd == Decimal(1)
    assert all(each.is_settled for each in found)


async def test_what_was_asked_can_be_read(sqlite_url):
    """A request after an answer went back, and that of a judge, are read as they were made."""
    asked: dict[str, Request] = {}
    told: list[dict[str, Any]] = []

    def script(request: Request) -> str:
        asked[f"model.{len(request.messages) // 2}"] = request
        return "Two owls, there." if len(request.messages) > 1 else "Two."

    def judge(request: Request) -> str:
        key = f"check.1/rubric.{len(request.messages) // 2}"
        asked[key] = request
        return judgement(True) if key.endswith("1") else "Well."

    checks = [names_owls, rubric("Good.", judge=Model("scripted:judge", script=judge))]
    agent = make_agent(Model("scripted:test", script=script), checks=checks)
    async with connect(sqlite_url) as client:
        async with client.work([agent], on_event=lambda run_id, event: told.append(event)):
            await client.start(agent, TASK, id="a/1")
            await client.result("a/1")
        assert len(asked) == 4
        for key, request in asked.items():
            assert await read_request(client, "a/1", key) == canonical(request), key

    words = [each["text"] for each in told if each["event"] == "text_delta"]
    assert "".join(words) == "Two.Two owls, there."


async def test_a_sub_agent(sqlite_url):
    """A child whose answer does not pass is no whole answer for who asked it."""
    counter = Agent(
        "counter",
        "Count.",
        Model("scripted:counter", script=lambda request: "Two."),
        checks=Checks([names_owls_too], corrections=1),
    )
    ask = call("counter", task="Count owls.")
    agent = make_agent(
        scripted(say(ask), "I do not know."), [delegate(counter, description="Count.")]
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        told = decode((await row(client, "tools.0/counter.0")).error or "null")

    assert (answer.reason, answer.text) == ("answered", "I do not know.")
    assert "names_owls_too" in told["message"]


def names_owls_too(answer: Answer, task: Task) -> str | None:
    """Want owls to be named."""
    return None if "owl" in answer.text else "Say what was counted."


def test_a_judge_that_cannot_be_asked(tmp_path):
    """A judge whose key is not set is told at the start, and not when the first answer is there."""
    hooks = HOOKS + (
        "from substrate.agent import rubric\n"
        'checks = [rubric("Good.", judge=Model("anthropic:claude-sonnet-5-5"))]\n'
    )
    fork = Fork.make(tmp_path, hooks=hooks)
    done = fork.do("run", "How many owls?")

    assert (done.code, done.out) == (1, "")
    assert "ANTHROPIC_API_KEY is not set" in done.err
    assert "the judge of the check 'rubric'" in done.err
    assert fork.calls == []


async def test_a_replay_judges_nothing_again(sqlite_url):
    """A message that comes as the run ends has it driven again over what is recorded."""
    asked: list[str] = []

    async with connect(sqlite_url) as client:

        async def slow(answer: Answer, task: Task) -> None:
            asked.append(answer.text)
            if len(asked) == 1:
                await client.signal("a/1", "message", "And in the attic?")

        agent = make_agent(scripted("Two.", "Three."), checks=[slow])
        answer = await answer_of(client, agent)

    assert (answer.text, answer.turns) == ("Three.", 2)
    assert asked == ["Two.", "Three."]


class NoCheck:
    """What is none."""


WRONG: dict[str, Any] = {
    "text": lambda: Checks("names_owls"),
    "no list": lambda: Checks(names_owls),  # type: ignore[arg-type]
    "a class": lambda: Checks([NoCheck]),  # type: ignore[list-item]
    "a word": lambda: Checks(["names_owls"]),  # type: ignore[list-item]
    "corrections": lambda: Checks([names_owls], corrections=-1),
    "a rubric of nothing": lambda: rubric(" ", judge=Model("scripted:judge", script=[])),
    "a judge that is a word": lambda: rubric("Good.", judge="openai:gpt-6"),  # type: ignore[arg-type]
    "a name that is none": lambda: schema(Count, name="what it is"),
    "no schema": lambda: schema("object"),
    "a keyword of nowhere": lambda: schema({"type": "object", "require": ["a"]}),
    "a type of nowhere": lambda: schema({"type": "objekt"}),
    "a reference of nowhere": lambda: schema({"$ref": "#/$defs/none"}),
    "a reference elsewhere": lambda: schema({"$ref": "https://example.org/schema"}),
    "a pattern that is none": lambda: schema({"pattern": "("}),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_refused_where_it_is_made(make):
    """What is no check is refused before any run begins."""
    with pytest.raises(Misuse):
        make()


def test_names():
    """Two checks of one name, and one without, have names of their own in the journal."""
    checks = Checks([names_owls, names_owls, lambda answer, task: None, schema(Count)])

    assert list(checks.named) == ["names_owls", "names_owls_2", "check", "schema"]
