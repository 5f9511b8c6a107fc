"""A loop ends where its conditions say so, with the reason, and what a condition needs is there."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from substrate import RunPaused, connect
from substrate.agent import (
    Answer,
    Condition,
    End,
    EndReason,
    Needs,
    Task,
    Transcript,
    all_of,
    answered,
    any_of,
    budget,
    confident,
    deadline,
    failed,
    max_turns,
    refused,
    signalled,
    tool,
)
from substrate.agent.answer_type import typed_answer_of
from substrate.agent.confidence import ConfidentAnswer
from substrate.models.messages import StopReason, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.values.clock import from_ms
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.fork import HOOKS, Fork, agent
from tests.loops import TASK, answer_of, make_agent, row, scripted


class Book(BaseModel):
    """A book."""

    title: str
    confidence: str = "its own"


def sure(answer: object, confidence: float, missing: str = "") -> str:
    """Return an answer as a model gives it that is asked how sure it is."""
    return json.dumps({"answer": answer, "confidence": confidence, "missing": missing})


@tool(effect="pure")
def look(what: str) -> str:
    """Look for something."""
    if what == "nothing":
        raise LookupError("there is none")
    return f"two {what}"


def test_confidence_wanted_is_asked_for():
    """What the model must give stands in the schema, beside the answer, whatever that is."""
    for answer in (None, Book):
        asked = ask_confidently(answer)
        assert asked["required"] == ["answer", "confidence", "missing"]
        assert asked["properties"]["confidence"]["maximum"] == 1


def ask_confidently(answer):
    """Return the schema that a model is asked for."""
    return ConfidentAnswer(0.8, typed_answer_of(answer)).schema


async def test_words_that_are_not_sure_enough_go_back(store_url):
    """Below the confidence the model is told what is missing, and the answer is the words alone."""
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return sure("One owl?", 0.4, "the attic") if len(seen) == 1 else sure("Two owls.", 0.9)

    agent = make_agent(Model("scripted:test", script=script), stop=any_of(confident(0.8)))
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)
        told, asked = await row(client, "revision.0"), await row(client, "model.1")

    assert (answer.text, answer.reason, answer.confidence) == ("Two owls.", "answered", 0.9)
    assert (answer.turns, answer.is_complete) == (2, True)
    assert "the attic" in decode(told.value)
    assert decode(told.input) == {"before": "model.1", "source": "confidence"}
    assert decode(asked.input)["add"] == ["model.0", "revision.0"]
    assert seen[1].messages[-1] == UserMessage.of(decode(told.value))


async def test_typed_answer(sqlite_url):
    """The kit's field is taken out of a typed answer again, whatever fields that has itself."""
    agent = make_agent(
        scripted(sure({"title": "Owls"}, 0.95)), stop=any_of(confident(0.8)), answer=Book
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert answer.read(Book) == Book(title="Owls")
    assert json.loads(answer.text) == {"title": "Owls"}
    assert answer.confidence == 0.95


async def test_never_endless(sqlite_url):
    """A model that is never sure enough ends the loop with the answer there is, not complete."""
    model = Model("scripted:test", script=lambda request: sure("Perhaps.", 0.5, "all of it"))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(model, stop=confident(0.8, times=2)))

    assert (answer.reason, answer.turns, answer.text) == ("confidence", 3, "Perhaps.")
    assert answer.detail == "0.5 sure of the answer, and 0.8 is wanted; missing: all of it"
    assert not answer.is_complete


async def test_answered_beside_confident(sqlite_url):
    """`answered` takes an answer that is not sure enough for none, in whichever order."""
    for i, stop in enumerate(
        [
            any_of(answered(), confident(0.8)),
            any_of(confident(0.8), answered()),
            all_of(answered(), confident(0.8)),
        ]
    ):
        agent = make_agent(scripted(sure("One?", 0.1), sure("Two.", 0.8)), stop=stop)
        async with connect(sqlite_url) as client:
            answer = await answer_of(client, agent, f"a/{i}")
        assert (answer.text, answer.turns, answer.reason) == ("Two.", 2, "answered")


@pytest.mark.parametrize(
    "wrong",
    [
        "Two owls.",
        '{"answer": "Two."}',
        sure("Two.", 1.5),
        sure(" ", 1.0),
        '{"answer": "Two.", "confidence": "0.9", "missing": ""}',
    ],
)
async def test_a_confidence_that_is_none(sqlite_url, wrong):
    """An answer without a confidence that is one goes back with what is wrong with it."""
    agent = make_agent(scripted(wrong, sure("Two.", 1)), stop=confident(0.8))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
        first = decode((await row(client, "model.0")).value)

    assert (answer.text, answer.turns) == ("Two.", 2)
    assert "does not fit what was asked for" in first["invalid"]["problems"]
    assert "confidence" not in first


async def test_last_words_of_a_doubt(sqlite_url):
    """Last words are taken out as well, and tell how sure they are."""
    agent = make_agent(
        scripted(sure("One?", 0.1), sure("One.", 0.3)), stop=any_of(confident(0.8), max_turns(1))
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.text, answer.confidence) == ("max_turns", "One.", 0.3)


async def test_a_message_begins_the_count_anew(sqlite_url):
    """Who hears from people again has as many tries again."""
    transcript = Transcript.begin(TASK, "").revised("Sure?", "confidence")
    assert transcript.revisions == ("confidence",)
    assert (transcript + UserMessage.of("And now?")).revisions == ()


async def test_the_agent_ends_its_work(store_url):
    """The tool that the condition brings ends the work with the answer that it is given."""
    seen: list[Request] = []

    def script(request: Request) -> object:
        seen.append(request)
        return "I have begun." if len(seen) == 1 else say(call("finish", answer="Two owls."))

    agent = make_agent(
        Model("scripted:test", script=script), [look], any_of(signalled(), max_turns(9))
    )
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.text, answer.reason, answer.ended_by) == ("Two owls.", "signalled", "agent")
    assert answer.is_complete
    assert answer.turns == len(seen) == 2
    assert [each.name for each in seen[0].tools] == ["look", "finish"]
    assert "call finish" in json.dumps(seen[1].messages[-1].to_json())


async def test_the_agent_ends_its_work_with_a_value(sqlite_url):
    """The tool takes an answer of the agent's type; what does not fit is told by its field."""
    wrong, right = call("finish", answer={"pages": 1}), call("finish", answer={"title": "Owls"})
    agent = make_agent(scripted(say(wrong), say(right)), stop=signalled(), answer=Book)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert answer.read(Book) == Book(title="Owls")
    assert (answer.reason, answer.turns) == ("signalled", 2)


async def test_words_end_nothing(sqlite_url):
    """A model that only talks is told to end its work by the tool, and not without end."""
    model = Model("scripted:test", script=lambda request: "Well.")
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(model, stop=signalled()))

    assert (answer.reason, answer.turns) == ("failed", 4)
    assert "nor called finish" in answer.detail


async def test_a_person_ends_the_work(store_url):
    """A signal ends the loop before its next turn, and the model says what it has."""
    seen: list[Request] = []

    def script(request: Request) -> object:
        seen.append(request)
        return say(call("look", what="owls")) if request.may_call_tools else "One so far."

    agent = make_agent(
        Model("scripted:test", script=script), [look], any_of(answered(), signalled())
    )
    async with connect(store_url) as client:
        await client.start(agent, TASK, id="a/1")
        await client.signal("a/1", "stop", "enough")
        async with client.work([agent]):
            answer = await client.result("a/1", agent)
        heard = await row(client, "signalled.0")

    assert (answer.reason, answer.text, answer.turns) == ("signalled", "One so far.", 1)
    assert (answer.ended_by, answer.is_complete) == ("person", False)
    assert answer.detail == "a person has ended the work: enough"
    assert (heard.name, decode(heard.value)) == ("stop", ["enough"])
    assert not seen[0].may_call_tools


async def test_a_signal_while_it_works(sqlite_url):
    """A signal that comes in the middle of a call is heeded after it."""
    async with connect(sqlite_url) as client:

        @tool(effect="pure")
        async def work() -> str:
            """Work."""
            await client.signal("a/1", "halt")
            return "worked"

        model = Model(
            "scripted:test",
            script=lambda request: say(call("work")) if request.may_call_tools else "Half of it.",
        )
        agent = make_agent(model, [work], any_of(signalled("halt", tool=None), max_turns(7)))
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.turns, answer.text) == ("signalled", 2, "Half of it.")
    assert answer.detail == "a person has ended the work"


async def test_tool_failures_in_a_row(sqlite_url):
    """So many failures in a row end the loop, over turns, and a success begins the count anew."""
    bad, good = call("look", what="nothing"), call("look", what="owls")
    agent = make_agent(
        scripted(say(bad, bad), say(good), say(bad), say(call("no_such"), bad), "Nothing found."),
        [look],
        any_of(answered(), failed(3)),
    )
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.turns, answer.text) == ("failed", 5, "Nothing found.")
    assert answer.detail == (
        "3 tool calls in a row failed, the last: look: LookupError: there is none"
    )


async def test_refused(sqlite_url):
    """A model that declines ends the loop, also where nothing else would."""
    refusal = replace(say("I won't."), stop=StopReason.REFUSAL)
    for i, stop in enumerate((refused(), confident(0.8), signalled(), answered())):
        async with connect(sqlite_url) as client:
            answer = await answer_of(client, make_agent(scripted(refusal), stop=stop), f"a/{i}")
        assert (answer.reason, answer.turns) == ("refused", 1)


@pytest.mark.parametrize("moment", [False, True])
async def test_deadline(sqlite_url, moment):
    """A loop that has been at work for too long by the recorded time gives what it has."""
    clock = ManualClock()
    until = from_ms(clock.now_ms()) + timedelta(minutes=10) if moment else timedelta(minutes=10)

    @tool(effect="pure")
    async def wait() -> str:
        """Wait."""
        clock.advance(240)
        return "waited"

    def script(request: Request) -> object:
        return say(call("wait")) if request.may_call_tools else "So far."

    agent = make_agent(
        Model("scripted:test", script=script), [wait], any_of(answered(), deadline(until))
    )
    async with connect(sqlite_url, clock=clock) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.turns, answer.text) == ("deadline", 4, "So far.")


async def test_own_condition_says_what_it_needs(sqlite_url):
    """A condition of one's own gets a signal and a tool, and a plain function is one as ever."""

    def enough(transcript: Transcript) -> End | None:
        said = transcript.signals.get("enough")
        return None if said is None else End(EndReason.SIGNALLED, f"{said} is enough")

    own = Condition(enough, Needs(signals=("enough",), tools=(look,)))
    stop = any_of(own, lambda transcript: None, max_turns(3))
    agent = make_agent(scripted(say(call("look", what="owls")), "Two."), stop=stop)
    async with connect(sqlite_url) as client:
        await client.start(agent, TASK, id="a/1")
        async with client.work([agent]):
            await client.signal("a/1", "enough", 5)
            answer = await client.result("a/1", agent)

    assert answer.reason in ("signalled", "answered")
    assert stop.needs == Needs(signals=("enough",), tools=(look,))


WRONG = {
    "confident of more than all": lambda: confident(1.2),
    "confident of nothing": lambda: confident(0),
    "confident of text": lambda: confident("0.8"),
    "confident of nan": lambda: confident(float("nan")),
    "confident of yes": lambda: confident(True),
    "confident, how often": lambda: confident(0.8, times=-1),
    "failed, never": lambda: failed(0),
    "failed, half": lambda: failed(1.5),
    "a deadline that is over": lambda: deadline(timedelta(0)),
    "a deadline in no zone": lambda: deadline(datetime(2030, 1, 1)),  # noqa: DTZ001
    "a deadline in words": lambda: deadline("tomorrow"),
    "signalled by nothing": lambda: signalled(None, tool=None),
    "signalled by no name": lambda: signalled("stop it"),
    "signalled by a message": lambda: signalled("message"),
    "no name of a tool": lambda: signalled(tool="end work"),
    "any of nothing": any_of,
    "all of nothing": all_of,
    "one that is not called": lambda: any_of(answered, max_turns(3)),
    "one that is none": lambda: all_of(confident(0.8), 0.8),
    "a tool that is none": lambda: Condition(refused(), Needs(tools=("look",))),
    "a budget of nothing": budget,
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_refused_where_it_is_made(make):
    """A condition that could never be right is refused before any run begins."""
    with pytest.raises(Misuse):
        make()


def test_right_where_it_is_made():
    """What is right is not refused."""
    for each in (1, 0.001, 1.0):
        confident(each)
    deadline(datetime(2030, 1, 1, tzinfo=UTC))
    deadline(60)


async def test_a_signal_that_was_heard_counts(store_url):
    """A signal that was heard in a later turn ends the loop after a crash as it did before."""
    stop = any_of(answered(), all_of(signalled(tool=None), max_turns(2)))

    async with connect(store_url) as client:

        @tool(effect="pure")
        async def ring() -> str:
            """Ring."""
            await client.signal("a/1", "stop")
            return "rung"

        def broken(request: Request) -> object:
            if request.may_call_tools:
                return say(call("ring"))
            raise LookupError("no such owl")

        def mended(request: Request) -> object:
            return say(call("ring")) if request.may_call_tools else "Two so far."

        before, after = (
            make_agent(Model("scripted:test", script=each), [ring], stop)
            for each in (broken, mended)
        )
        async with client.work([before]):
            await client.start(before, TASK, id="a/1")
            with pytest.raises(RunPaused):
                await client.result("a/1")
        async with client.work([after]):
            await client.resume("a/1")
            answer = await client.result("a/1", after)
        found = [each.key for each in await client.journal("a/1")]

    assert (answer.reason, answer.turns) == ("max_turns", 3)
    assert answer.text == "Two so far."
    assert [key for key in found if key.startswith("signalled.")] == ["signalled.0"]


@pytest.mark.parametrize(
    "later", [answered(), any_of(answered(), signalled("halt", tool=None))], ids=["none", "other"]
)
async def test_a_signal_that_nobody_listens_for_any_more(store_url, later):
    """Hooks that do not listen any more go on after a signal that older ones have heard."""
    looked = say(call("look", what="owls"))
    waits = any_of(answered(), all_of(signalled(tool=None), max_turns(3)))

    def broken(request: Request) -> object:
        if len(request.messages) == 1:
            return looked
        raise LookupError("no such owl")

    def mended(request: Request) -> object:
        return looked if len(request.messages) < 5 else "Two."

    before = make_agent(Model("scripted:test", script=broken), [look], waits)
    after = make_agent(Model("scripted:test", script=mended), [look], later)
    async with connect(store_url) as client:
        await client.start(before, TASK, id="a/1")
        await client.signal("a/1", "stop")
        async with client.work([before]):
            with pytest.raises(RunPaused):
                await client.result("a/1")
        async with client.work([after]):
            await client.resume("a/1")
            await client.signal("a/1", "message", "Two?")
            answer = await client.result("a/1", after)
        found = {each.key for each in await client.journal("a/1")}

    assert (answer.reason, answer.text, answer.detail) == ("answered", "Two.", "")
    assert "signalled.0" in found
    assert any(key.startswith("heard.") for key in found)


async def test_confidence_asked_for_later(sqlite_url):
    """An answer that was recorded before anybody asked how sure it is goes back for that."""

    def broken(answer: Answer, task: Task) -> str:
        raise LookupError("no such owl")

    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return "Two." if len(seen) == 1 else sure("Two.", 0.9)

    model = Model("scripted:test", script=script)
    before = make_agent(model, checks=[broken])
    after = make_agent(model, stop=confident(0.8))
    async with connect(sqlite_url) as client:
        async with client.work([before]):
            await client.start(before, TASK, id="a/1")
            with pytest.raises(RunPaused):
                await client.result("a/1")
        async with client.work([after]):
            await client.resume("a/1")
            answer = await client.result("a/1", after)

    assert (answer.reason, answer.text, answer.turns) == ("answered", "Two.", 2)
    assert "0.8 is wanted" in json.dumps(seen[1].messages[-1].to_json())


async def test_confidence_no_longer_asked_for(sqlite_url):
    """An answer that says how sure it is is taken out of that, whatever the hooks say by now."""

    def broken(answer: Answer, task: Task) -> str:
        raise LookupError("no such owl")

    model = scripted(sure("Two.", 0.9))
    before = make_agent(model, stop=confident(0.8), checks=[broken])
    after = make_agent(model)
    async with connect(sqlite_url) as client:
        async with client.work([before]):
            await client.start(before, TASK, id="a/1")
            with pytest.raises(RunPaused):
                await client.result("a/1")
        async with client.work([after]):
            await client.resume("a/1")
            answer = await client.result("a/1", after)

    assert (answer.reason, answer.text, answer.confidence) == ("answered", "Two.", 0.9)


def test_typed_on_the_command_line(tmp_path):
    """`signal ID stop` ends a run of a fork, and `show` tells who ended it, and that it did."""
    hooks = HOOKS.replace("import answered, any_of, max_turns", "import *")
    hooks = hooks.replace("any_of(answered(),", "any_of(answered(), signalled(),")
    fork = Fork.make(
        tmp_path, hooks=hooks.replace("TURNS[", "TURNS[not request.may_call_tools or ")
    )

    async def start() -> None:
        async with connect(f"sqlite:///{tmp_path}/runs.db") as client:
            await client.start(agent, Task("How many owls?"), id="owls")

    asyncio.run(start())
    sent = fork.do("signal", "owls", "stop", '"enough"')
    driven = fork.do("resume", "owls")
    shown = fork.do("show", "owls")

    assert sent.code == 0
    assert "an agent that listens for it by signalled() ends before its next turn" in sent.out
    assert (driven.code, driven.out) == (3, "Two owls.\n"), driven.err
    assert "incomplete: a person has ended the work: enough" in driven.err
    assert "signalled" in shown.out
