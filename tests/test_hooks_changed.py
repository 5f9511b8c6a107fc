"""What a hook decided is data: new hooks rule from the first turn on that has no record."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from substrate import Client, Context, Durable, RunPaused, connect, durable
from substrate.agent.calling import call_tools
from substrate.agent.end import Advice, End, EndReason, Measure, Stop, Verdict
from substrate.agent.history.request import read_request
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, tool
from substrate.agent.transcript import Transcript
from substrate.agent.turn import ask, begin, finish, follow_advice
from substrate.models.frame import canonical
from substrate.models.messages import Reply, ToolMessage, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Overloaded
from substrate.values.records import Kind, Promise, PromiseState
from tests.analyst import LIMITS
from tests.loops import TASK, answer_of, make_agent
from tests.processes import Process
from tests.runs import reached

ENDS = any_of(answered(), max_turns(9))


@dataclass
class Stage:
    """A model that follows a script, and breaks down before the turn at which it is `held`.

    A run that is paused there is what a deploy finds: it goes on with other hooks.
    """

    script: Sequence[Any]
    held: int | None = None
    seen: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Any:
        """Take the turn."""
        turn = sum(isinstance(message, Reply) for message in request.messages)
        if len(self.seen) == self.held:
            raise RuntimeError("held, so that the run is paused")
        self.seen.append(request)
        return self.script[turn] if turn < len(self.script) else say("More.")

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:stage", script=self)

    @property
    def told(self) -> dict[str, str]:
        """What the model was last told that tools gave."""
        messages = [m for m in self.seen[-1].messages if isinstance(m, ToolMessage)]
        return {each.call_id: each.content for message in messages for each in message.results}


async def pause(client: Client, agent: Durable[[Task], Answer]) -> None:
    """Run an agent until its model is held."""
    with pytest.raises(RunPaused, match="held"):
        await answer_of(client, agent)


async def go_on(client: Client, agent: Durable[[Task], Answer]) -> Answer:
    """Go on with another agent in the place of the one that was paused."""
    await client.resume("a/1")
    async with client.work([agent]):
        return await client.result("a/1", agent)


async def rows_of(client: Client) -> dict[str, Promise]:
    """Return the run's rows by key, and see that nothing is left open under a run that ended."""
    rows = [row for row in await client.journal("a/1") if row.kind is not Kind.RUN]
    assert [row.key for row in rows if not row.is_settled] == []
    return {row.key: row for row in rows}


def paying(paid: list[int], **options: Any) -> Tool:
    """Return a tool that pays."""

    @tool(**options)
    def refund(cents: int) -> str:
        """Refund."""
        paid.append(cents)
        return f"refunded {cents}"

    return refund


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "an owl"


# Tools


@pytest.mark.parametrize("now", ["gone", "another signature", "another kind", "another effect"])
async def test_a_call_keeps_its_outcome(store_url: str, now: str) -> None:
    """A recorded call is read under the model's name for it, whatever became of the tool."""
    paid: list[int] = []

    @tool(name="refund")
    def other(euros: str) -> str:
        """Refund otherwise."""
        raise AssertionError

    @tool(name="refund")
    async def durable_one(ctx: Context, cents: int) -> str:
        """Refund otherwise."""
        raise AssertionError

    tools: dict[str, list[Tool]] = {
        "gone": [],
        "another signature": [other],
        "another kind": [durable_one],
        "another effect": [paying(paid, effect="pure")],
    }
    script = [say(call("refund", cents=5)), say("Done.")]
    async with connect(store_url) as client:
        held = Stage(script, held=1)
        await pause(client, make_agent(held.model, [paying(paid)], ENDS))
        stage = Stage(script)
        answer = await go_on(client, make_agent(stage.model, tools[now], ENDS))
        rows = await rows_of(client)

    assert (answer.text, paid) == ("Done.", [5])
    assert list(stage.told.values()) == ["refunded 5"]
    assert [key for key in rows if key.startswith("tools.")] == ["tools.0/refund.0"]


async def test_a_wrong_call_keeps_its_outcome(store_url: str) -> None:
    """A call that was refused stays refused: a tool that was added since is not called for it."""
    paid: list[int] = []
    script = [say(call("refund", cents=5), call("no such name!", x=1)), say("Done.")]
    async with connect(store_url) as client:
        await pause(client, make_agent(Stage(script, held=1).model, [look], ENDS))
        stage = Stage(script)
        await go_on(client, make_agent(stage.model, [paying(paid), look], ENDS))
        rows = await rows_of(client)

    assert paid == []
    assert [told.partition(";")[0] for told in stage.told.values()] == [
        "there is no tool 'refund'",
        "there is no tool 'no such name!'",
    ]
    assert {"tools.0/refund.0", "tools.0/unknown_tool.0"} <= rows.keys()


async def test_names_never_collide(sqlite_url: str) -> None:
    """Each call has a row of its own, also where names cannot be keys or are ours."""
    names = ["a b", "ä", "unknown_tool", "x" * 65, "", "look", "look", "spent", "1st"]
    turn = say(*(replace(call("x"), name=name) for name in names))
    stage = Stage([turn, say("Done.")])
    async with connect(sqlite_url) as client:
        await answer_of(client, make_agent(stage.model, [look], ENDS))
        rows = await rows_of(client)

    told = list(stage.told.values())
    assert len(told) == len(names)
    assert [i for i, each in enumerate(told) if each == "an owl"] == [5, 6]
    assert sum(key.startswith("tools.0/") for key in rows) == len(names)


@dataclass(frozen=True)
class Case:
    """A run whose process is killed in the middle of a call."""

    url: str
    folder: Path

    @property
    def paid(self) -> int:
        """How often something was paid, counted outside."""
        log = self.folder / "paid.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def tools(self) -> list[Tool]:
        """Return tools in which the process dies, having paid."""

        def pay() -> None:
            with (self.folder / "paid.log").open("a") as log:
                log.write("paid\n")

        @tool
        def refund(cents: int) -> str:
            """Refund."""
            pay()
            os.kill(os.getpid(), signal.SIGKILL)
            return "never"

        async def die_waiting() -> None:
            async with connect(self.url) as client:
                await reached(client, "a/1", "tools.0/ask_first.0/approved.0")
            os.kill(os.getpid(), signal.SIGKILL)

        @tool
        async def ask_first(ctx: Context, cents: int) -> str:
            """Ask, then refund."""
            await ctx.step(pay, name="reserve")
            await ctx.gather(
                ctx.step(die_waiting, effect="once", name="charge"),
                ctx.receive("approved"),
                ctx.sleep(1000),
            )
            return "never"

        return [refund, ask_first]

    def die(self, name: str) -> None:
        """Be killed in the middle of a call of this tool."""
        process = Process(target=_drive, args=(self, name))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL


def script_of(name: str) -> list[Any]:
    """Return a script that calls one tool, and answers."""
    return [say(call(name, cents=5)), say("Done.")]


def _drive(case: Case, name: str) -> None:
    asyncio.run(_run(case, name))


async def _run(case: Case, name: str) -> None:
    agent = make_agent(Stage(script_of(name)).model, case.tools(), ENDS)
    async with connect(case.url) as client, client.work([agent], options=LIMITS):
        await client.start(agent, TASK, id="a/1")
        await client.result("a/1", agent)


def other_refund() -> Tool:
    """Return a tool of the same name that takes something else."""

    @tool(name="refund")
    def refund(euros: str) -> str:
        """Refund otherwise."""
        raise AssertionError

    return refund


def pure_refund() -> Tool:
    """Return the same tool, with another effect."""

    @tool(effect="pure")
    def refund(cents: int) -> str:
        """Refund."""
        raise AssertionError

    return refund


@pytest.mark.parametrize(
    "tools", [list, lambda: [other_refund()], lambda: [pure_refund()]], ids=["gone", "args", "pure"]
)
async def test_an_intent_without_an_outcome(
    store_url: str, tmp_path: Path, tools: Callable[[], list[Tool]]
) -> None:
    """A call that a crash cut off is unknown, told to the model and settled, whatever its tool."""
    case = Case(store_url, tmp_path)
    await asyncio.to_thread(case.die, "refund")
    stage = Stage(script_of("refund"))
    async with connect(store_url) as client:
        agent = make_agent(stage.model, tools(), ENDS)
        async with client.work([agent], options=LIMITS):
            await client.result("a/1", agent)
        rows = await rows_of(client)

    (told,) = stage.told.values()
    assert case.paid == 1
    assert told.startswith("OutcomeUnknown: ")
    assert "may have happened" in told
    assert rows["tools.0/refund.0"].state is PromiseState.REJECTED


async def test_a_tool_with_ctx_that_is_gone(store_url: str, tmp_path: Path) -> None:
    """What a tool with steps of its own had begun is closed when nothing can go on with it."""
    case = Case(store_url, tmp_path)
    await asyncio.to_thread(case.die, "ask_first")
    stage = Stage(script_of("ask_first"))
    async with connect(store_url) as client:
        agent = make_agent(stage.model, [look], ENDS)
        async with client.work([agent], options=LIMITS):
            await client.result("a/1", agent)
        rows = await rows_of(client)

    (told,) = stage.told.values()
    below = "tools.0/ask_first.0"
    assert "nothing can go on with it: there is no tool 'ask_first'" in told
    assert "may have happened" in told
    assert rows[f"{below}/reserve.0"].state is PromiseState.RESOLVED
    assert rows[f"{below}/charge.0"].state is PromiseState.REJECTED
    assert rows[f"{below}/approved.0"].state is PromiseState.CANCELLED
    assert rows[below].state is PromiseState.REJECTED
    assert case.paid == 1


# Limits


def looking(turns: int) -> list[Any]:
    """Return a script that looks so often, and answers."""
    return [say(call("look")) for _ in range(turns)] + [say("Two owls.")]


def ask_stop_alone(model: Model, tools: Sequence[Tool], stop: Stop) -> Durable[[Task], Answer]:
    """Return the loop of an older fork, which asks `stop` without the journal."""

    @durable(name="agent")
    async def agent(ctx: Context, task: Task) -> Answer:
        transcript = await begin(ctx, "You are a test.", task)
        while not (end := stop(transcript)):
            transcript = await follow_advice(ctx, model, transcript, end, tools)
            reply = await ask(ctx, model, transcript, tools)
            transcript += reply
            transcript += await call_tools(ctx, tools, reply)
        return await finish(ctx, model, transcript, end, tools)

    return agent


@pytest.mark.parametrize("loop", [make_agent, ask_stop_alone])
async def test_a_lowered_limit(store_url: str, loop: Any) -> None:
    """Turns that are recorded were taken; the new limit ends the loop after them."""
    script = looking(8)
    async with connect(store_url) as client:
        await pause(client, loop(Stage(script, held=4).model, [look], ENDS))
        stage = Stage(script)
        ends = any_of(answered(), max_turns(2))
        answer = await go_on(client, loop(stage.model, [look], ends))
        rows = await rows_of(client)

    assert (answer.reason, answer.turns) == ("max_turns", 5)
    assert len(stage.seen) == 1
    assert "Stop here: the limit of 2 is reached" in str(stage.seen[0].messages[-1])
    assert sum(key.startswith("model.") for key in rows) == 5
    assert sum(key.startswith("tools.") for key in rows) == 4


@pytest.mark.parametrize("loop", [make_agent, ask_stop_alone])
async def test_recorded_last_words(store_url: str, loop: Any) -> None:
    """A loop that was cut short ends there, also where the limit is raised afterwards."""

    @dataclass
    class Wrapped:
        broken: bool = True

    wrapped = Wrapped()

    def wrapping(inner: Durable[[Task], Answer]) -> Durable[[Task], Answer]:
        @durable(name="agent")
        async def agent(ctx: Context, task: Task) -> Answer:
            found = await inner.function(ctx, task)
            await ctx.step(lambda: None, name="done")
            if wrapped.broken:
                await ctx.receive("never")
            return found

        return agent

    stage = Stage(looking(8))
    low, high = any_of(answered(), max_turns(2)), any_of(answered(), max_turns(7))
    async with connect(store_url) as client:
        first = wrapping(loop(stage.model, [look], low))
        async with client.work([first]) as worker:
            await client.start(first, TASK, id="a/1")
            await worker.run_until_idle()
        asked = len(stage.seen)
        wrapped.broken = False
        second = wrapping(loop(stage.model, [look], high))
        async with client.work([second]):
            await client.signal("a/1", "never", None)
            answer = await client.result("a/1", second)

    assert asked == len(stage.seen) == 3
    assert (answer.reason, answer.turns) == ("max_turns", 3)
    assert answer.detail == "the limit of 2 is reached"


def advising(measure: Measure | None, at: int) -> Stop:
    """Return a stop that advises something before a turn."""

    def advise(transcript: Transcript) -> Verdict:
        is_due = measure is not None and transcript.turns == at
        return Advice(measure, "Much was said") if is_due and measure else None

    return any_of(answered(), max_turns(9), advise)


@pytest.mark.parametrize("measure", [Measure.WARN, Measure.COMPACT])
@pytest.mark.parametrize("held", [2, 3], ids=["before its turn", "after it"])
async def test_what_was_advised(store_url: str, measure: Measure, held: int) -> None:
    """A warning or a summary that was given stays given, and is not given twice."""

    def script(stage: Stage) -> Callable[[Request], Any]:
        def answer(request: Request) -> Any:
            if "sum up" in str(request.messages[-1]):
                return say("So far: one owl.")
            return stage(request)

        return answer

    async with connect(store_url) as client:
        first = Stage(looking(4))
        first.held = held
        model = Model("scripted:x", script=script(first))
        await pause(client, make_agent(model, [look], advising(measure, 2)))
        second = Stage(looking(4))
        model = Model("scripted:x", script=script(second))
        await go_on(client, make_agent(model, [look], advising(None, 0)))
        rows = await rows_of(client)

    name = "warning" if measure is Measure.WARN else "summary"
    given = "Little is left" if measure is Measure.WARN else "So far: one owl."
    assert given in str(second.seen[0].messages)
    assert [key for key in rows if key.startswith(name)] == [f"{name}.0"]


@pytest.mark.parametrize("measure", [Measure.WARN, Measure.COMPACT])
async def test_what_was_not_advised(sqlite_url: str, measure: Measure) -> None:
    """A warning or a summary that a recorded turn did without is not given afterwards."""
    async with connect(sqlite_url) as client:
        await pause(client, make_agent(Stage(looking(4), held=3).model, [look], ENDS))
        stage = Stage(looking(4))
        await go_on(client, make_agent(stage.model, [look], advising(measure, 2)))
        rows = await rows_of(client)

    assert not {"warning.0", "summary.0"} & rows.keys()
    assert len(stage.seen) == 2


async def test_a_limit_lowered_while_the_model_rests(store_url: str) -> None:
    """A turn that was begun and has no reply was not taken: the loop ends, and the row says so."""
    asked: list[Request] = []

    def failing(request: Request) -> Any:
        asked.append(request)
        if len(asked) == 3:
            raise Overloaded("busy", usage=Usage(7, cost_usd=Decimal(1)))
        if len(asked) == 4:
            raise RuntimeError("held, after an attempt that was paid for")
        return say(call("look"))

    stage = Stage(looking(0))
    async with connect(store_url) as client:
        await pause(client, make_agent(Model("scripted:x", script=failing), [look], ENDS))
        ends = any_of(answered(), max_turns(1))
        answer = await go_on(client, make_agent(stage.model, [look], ends))
        rows = await rows_of(client)
        rebuilt = await read_request(client, "a/1", "model.2")

    assert (answer.reason, answer.turns, len(stage.seen)) == ("max_turns", 3, 1)
    assert rebuilt == canonical(stage.seen[0])
    assert decode(rows["model.2"].input or "")["end"]["reason"] == "max_turns"
    assert answer.usage.cost_usd == 1


async def test_loops_one_after_the_other(sqlite_url: str) -> None:
    """Two loops in one function are told apart: what one was advised is not the other's."""

    def script(request: Request) -> Any:
        asked.append(request)
        if "sum up" in str(request.messages[-1]):
            return say("So far: one owl.")
        if len(asked) == held:
            raise RuntimeError("held")
        return looking(3)[sum(isinstance(m, ToolMessage) for m in request.messages)]

    asked: list[Request] = []
    held = 0
    calm, advised = ENDS, advising(Measure.WARN, 2)

    def twice(first: Stop, second: Stop) -> Durable[[Task], Answer]:
        loops = [
            make_agent(Model("scripted:x", script=script), [look], stop) for stop in (first, second)
        ]

        @durable(name="agent")
        async def agent(ctx: Context, task: Task) -> Answer:
            await loops[0].function(ctx, task)
            return await loops[1].function(ctx, task)

        return agent

    async with connect(sqlite_url) as client:
        held = 8
        await pause(client, twice(calm, advised))
        held = 0
        before = len(asked)
        await go_on(client, twice(advised, calm))
        rows = await rows_of(client)

    assert len(asked) == before + 1
    assert decode(rows["warning.0"].input or "") == {"before": "model.6"}
    assert "Little is left" in str(asked[-1].messages)


async def test_a_loop_that_ends_while_its_model_rests(store_url: str) -> None:
    """A model call that was begun and is not asked for any more is closed with its loop."""
    async with connect(store_url) as client:
        await pause(client, make_agent(Stage(looking(4), held=1).model, [look], ENDS))
        ends: Stop = lambda transcript: answered()(transcript) or _enough(transcript)  # noqa: E731
        answer = await go_on(client, make_agent(Stage(looking(4)).model, [look], ends))
        await rows_of(client)

    assert answer.reason == "answered"


def _enough(transcript: Transcript) -> Verdict:
    return End(EndReason.ANSWERED, "enough") if transcript.turns else None
