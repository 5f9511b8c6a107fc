"""The loop's parts keep their word: tools, stop conditions, and what only a person can mend."""

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from substrate import Context, Durable, RunPaused, connect, durable
from substrate.agent.stop import EndReason, Stop, all_of, answered, any_of, budget, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import InvalidArguments, Tool, tool
from substrate.agent.transcript import Transcript
from substrate.agent.turn import ask, begin
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import Script, call, say
from substrate.models.request import Request
from substrate.values.errors import Misuse, Overloaded
from substrate.values.records import Effect
from tests.loops import TASK, answer_of, make_agent, row, scripted


async def results_seen(url: str, turn: Any, *tools: Tool) -> dict[str, tuple[str, bool]]:
    """Return what the model is shown for one turn's calls: text, and whether it is an error."""
    shown: dict[str, tuple[str, bool]] = {}

    def script(request: Request) -> Any:
        message = request.messages[-1]
        if isinstance(message, ToolMessage):
            shown.update({r.name: (r.content, r.is_error) for r in message.results})
            return say("Done.")
        return turn

    async with connect(url) as client:
        await answer_of(client, make_agent(Model("scripted:test", script=script), tools))
    return shown


@tool(effect="pure")
async def add(a: Annotated[int, Field(description="The first.")], b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="pure")
def fail() -> str:
    """Fail."""
    raise LookupError("no such thing")


@tool
def shout(text: str) -> str:
    """Shout, and break down."""
    raise RuntimeError(text)


def test_schema_comes_from_the_signature() -> None:
    """The model sees names, types, defaults and descriptions, and nothing of ours."""

    @tool(effect="idempotent")
    def pay(cents: int, copy: str = "x", *, idempotency_key: str = "") -> str:
        """Pay."""
        return idempotency_key

    assert add.spec.description == "Add two numbers."
    properties = add.spec.parameters["properties"]
    assert properties["a"] == {"description": "The first.", "type": "integer"}
    assert properties["b"] == {"default": 1, "type": "integer"}
    assert add.spec.parameters["required"] == ["a"]
    assert set(pay.spec.parameters["properties"]) == {"cents", "copy"}
    assert pay.check({"cents": 3}) == {"cents": 3, "copy": "x"}


def test_wrong_arguments_are_told_field_by_field() -> None:
    """Each wrong field is named with what is wrong about it."""
    with pytest.raises(InvalidArguments) as told:
        add.check({"b": "x", "c": 1})
    lines = str(told.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["- a", "- b", "- c"]


@pytest.mark.parametrize(
    "function", [lambda: None, lambda x: x, lambda *x: x], ids=["no docstring", "no type", "*args"]
)
def test_a_function_that_cannot_be_a_tool_is_refused(function: Any) -> None:
    """A tool without docstring or types is an error when it is made, not when it is called."""
    function.__name__ = "thing"
    with pytest.raises(Misuse, match="thing"):
        tool(function)


async def test_tools_own_failures_are_results(store_url: str) -> None:
    """What the model or a tool got wrong comes back as a result, and the run goes on."""
    turn = say(
        call("add", a=2),
        replace(call("nothing"), name="nothing"),
        call("fail"),
        call("shout", text="Fire"),
    )
    shown = await results_seen(store_url, turn, add, fail, shout)
    assert shown["add"] == ("3", False)
    assert shown["nothing"] == (
        "there is no tool 'nothing'; there are: add, fail, shout",
        True,
    )
    assert shown["fail"] == ("LookupError: no such thing", True)
    assert shown["shout"][1]
    assert "may have happened" in shown["shout"][0]


async def test_arguments_that_are_no_json_are_told(sqlite_url: str) -> None:
    """Arguments that are not a JSON object are shown to the model, and the tool is not called."""
    malformed = replace(call("add"), malformed='{"a": 1')
    shown = await results_seen(sqlite_url, say(malformed), add)
    assert shown["add"] == (
        "add was not called: its arguments are not a JSON object: '{\"a\": 1'",
        True,
    )


async def test_a_tool_that_says_nothing_is_once(sqlite_url: str) -> None:
    """A tool without a declared effect leaves its intent before it is called."""
    agent = make_agent(scripted(say(call("shout", text="x")), "Done."), [shout])
    async with connect(sqlite_url) as client:
        await answer_of(client, agent)
        assert (await row(client, "tools.0/shout.0")).effect is Effect.ONCE


async def test_a_tool_with_ctx_has_steps_of_its_own(sqlite_url: str) -> None:
    """A tool that takes a ctx is a durable function: what it does stands below its key."""

    @tool
    async def twice(ctx: Context, text: str) -> str:
        """Say it twice."""
        return await ctx.step(double, text)

    async def double(text: str) -> str:
        return text * 2

    agent = make_agent(scripted(say(call("twice", text="ab")), "Done."), [twice])
    async with connect(sqlite_url) as client:
        await answer_of(client, agent)
        assert (await row(client, "tools.0/twice.0/double.0")).value == '"abab"'
        assert (await row(client, "tools.0/twice.0")).value == '"abab"'


def spent(cost: str | None, tokens: int = 100) -> Reply:
    """Return a reply that asks for a tool and has cost this much."""
    usage = Usage(tokens // 2, tokens // 2, cost_usd=None if cost is None else Decimal(cost))
    return replace(say(call("add", a=1)), usage=usage, model="m")


@pytest.mark.parametrize(
    "stop, replies, reason",
    [
        (answered(), [say("Yes.")], EndReason.ANSWERED),
        (answered(), [spent("0")], None),
        (max_turns(2), [spent("0")], None),
        (max_turns(2), [spent("0"), spent("0")], EndReason.MAX_TURNS),
        (budget(usd=0.30), [spent("0.10")], None),
        (budget(usd=0.30), [spent("0.10"), spent("0.15")], EndReason.BUDGET),
        (budget(usd=0.30), [spent(None)], EndReason.BUDGET),
        (budget(tokens=350), [spent(None)], None),
        (budget(tokens=350), [spent(None), spent(None)], EndReason.BUDGET),
        (all_of(answered(), max_turns(2)), [say("Yes.")], None),
        (any_of(answered(), max_turns(1)), [spent("0")], EndReason.MAX_TURNS),
    ],
)
def test_stop_conditions_say_why(
    stop: Stop, replies: list[Reply], reason: EndReason | None
) -> None:
    """A condition stops when it should and gives its reason; a budget keeps room for one call."""
    transcript = Transcript.begin(TASK, "")
    for reply in replies:
        transcript += reply
    end = stop(transcript)
    assert (end.reason if end else None) == reason


async def test_a_loop_cut_short_still_answers(sqlite_url: str) -> None:
    """At its limit the run asks once more, allows no tool, and returns what it has and why."""

    def script(request: Request) -> Any:
        return say(call("add", a=1)) if request.may_call_tools else say("Two, so far.")

    agent = make_agent(Model("scripted:test", script=script), [add], any_of(max_turns(2)))
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)
    assert (answer.text, answer.reason, answer.turns) == ("Two, so far.", "max_turns", 3)
    assert not answer.is_complete


async def test_a_stop_that_never_ends_is_named(sqlite_url: str) -> None:
    """A loop whose stop ignores the model's answer fails with the cure, and does not go on."""
    agent = make_agent(scripted("Done.", "Done."), stop=max_turns(5))
    async with connect(sqlite_url) as client:
        with pytest.raises(Exception, match="add answered"):
            await answer_of(client, agent)


async def test_only_a_person_can_mend_pauses(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing key pauses the run; with the key it goes on, and nothing recorded is redone."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rendered = 0
    model = Model("openai:gpt-6-luna")

    def prompt(task: Task) -> str:
        nonlocal rendered
        rendered += 1
        return "You are a test."

    def agent_of(answering: Model) -> Durable[[Task], Answer]:
        @durable
        async def agent(ctx: Context, task: Task) -> Answer:
            transcript = await begin(ctx, prompt, task)
            transcript += await ask(ctx, answering, transcript)
            return Answer(transcript.messages[-1].to_json()["parts"][0]["text"], "answered")

        return agent

    async with connect(store_url) as client:
        with pytest.raises(RunPaused, match="OPENAI_API_KEY is not set"):
            await answer_of(client, agent_of(model))
        await client.resume("a/1")
        mended = agent_of(scripted("Here I am."))
        async with client.work([mended]):
            assert (await client.result("a/1", mended)).text == "Here I am."
    assert rendered == 1


async def test_passing_failures_are_retried(sqlite_url: str) -> None:
    """A model that is overloaded is asked again, and the journal keeps the failed attempt."""
    asked = 0

    def script(request: Request) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Overloaded("too many of you")
        return say("At last.")

    script_: Script = script
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(Model("scripted:test", script=script_)))
        attempts = (await row(client, "model.0")).attempts
    assert answer.text == "At last."
    assert attempts is not None
    assert "too many of you" in attempts
