"""A full context is no dead end: it is summed up, then others are asked, then a person."""

import asyncio
import os
import signal
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from substrate import RunPaused, connect
from substrate.agent.end import Advice, Measure, Verdict
from substrate.agent.history.request import read_request
from substrate.agent.shorten import shortened, size
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.agent.transcript import SUMMARY_HEAD, Transcript
from substrate.models.frame import canonical
from substrate.models.messages import (
    Message,
    Reply,
    Text,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode, encode
from substrate.values.errors import ContextOverflow
from tests.analyst import LIMITS
from tests.loops import TASK, answer_of, make_agent, row
from tests.processes import Process
from tests.runs import keys

ENDS = any_of(answered(), max_turns(12))


@tool(effect="pure")
def read(page: int, chars: int = 3000) -> str:
    """Read a page."""
    return f"page {page}: " + "x" * chars


@dataclass
class Narrow:
    """A model whose context holds so many characters; it reads pages until it has read `pages`."""

    window: int
    pages: int = 6
    chars: int = 3000
    name: str = "narrow"
    sees_summaries: bool = True
    asked: list[Request] = field(default_factory=list)
    refused: int = 0

    def __call__(self, request: Request) -> Reply:
        """Take a turn, or say that it does not fit."""
        if size(request.messages) > self.window:
            self.refused += 1
            raise ContextOverflow(f"{size(request.messages)} is more than {self.window}")
        self.asked.append(request)
        usage = Usage(10, 10, cost_usd=Decimal("0.01"))
        return replace(self._turn(request), usage=usage)

    def _turn(self, request: Request) -> Reply:
        if "sum up what you did" in str(request.messages[-1]):
            return say("I have read up to here." if self.sees_summaries else "")
        turns = sum("sum up what you did" not in str(r.messages[-1]) for r in self.asked)
        if turns > self.pages or not request.may_call_tools:
            return say("Done.")
        return say(call("read", page=turns, chars=self.chars))

    def model(self, **more: Any) -> Model:
        """Return the model."""
        return Model(f"scripted:{self.name}", script=self, **more)


async def test_summed_up_and_asked_again(store_url: str) -> None:
    """A transcript that does not fit is summed up, which is recorded, and the run goes on."""
    narrow = Narrow(10_000, pages=9)
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(narrow.model(), [read], ENDS))
        names = await keys(client, "a/1")
        first = decode((await row(client, "summary.0")).input)
        sent = [canonical(each) for each in narrow.asked]
        calls = [key for key in names if key.startswith(("model.", "summary."))]
        rebuilt = [await read_request(client, "a/1", key) for key in calls]

    assert (answer.reason, answer.text) == ("answered", "Done.")
    assert answer.turns == 10
    assert narrow.refused >= 2
    assert first["before"] == "model.4"
    assert answer.usage.cost_usd == Decimal("0.01") * len(narrow.asked)
    assert SUMMARY_HEAD in str(narrow.asked[-1].messages[0])
    assert sorted(map(encode, rebuilt)) == sorted(map(encode, sent))


@pytest.mark.parametrize("window", [30_000, 8_000])
async def test_one_huge_result(sqlite_url: str, window: int) -> None:
    """A result that is larger than the context by itself is cut, with a word about it."""
    narrow = Narrow(window, pages=1, chars=3_000_000)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(narrow.model(), [read], ENDS))

    assert answer.text == "Done."
    assert "left out, to make room" in str(narrow.asked[-1].messages[-1])


async def test_before_the_fallback(sqlite_url: str) -> None:
    """A larger model of the fallback is asked only where summing up has not helped."""
    narrow, wide = Narrow(10_000), Narrow(10**9, name="wide")
    model = narrow.model(fallback=[Fallback(wide.model(), on=["context"])])
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(model, [read], ENDS))

    assert (answer.text, wide.asked) == ("Done.", [])


@pytest.mark.parametrize("window", [2, 3500])
async def test_then_the_fallback(store_url: str, window: int) -> None:
    """What does not fit also when summed up goes to the fallback, for the reason `context`."""
    narrow = Narrow(window, sees_summaries=False)
    wide = Narrow(10**9, pages=0, name="wide")
    model = narrow.model(fallback=[Fallback(wide.model(), on=["context"])])
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(model, [read], ENDS))
        rows = [r for r in await client.journal("a/1") if r.key.startswith("model.")]
        passed = [each for r in rows for each in decode(r.value).get("passed_over", [])]

    assert answer.text == "Done."
    assert [each["reason"] for each in passed] == ["context"]
    assert len(wide.asked) == 1


async def test_then_a_person(store_url: str) -> None:
    """Where nobody has room the run is paused, and goes on with a model that has."""
    narrow = Narrow(3500, sees_summaries=False)
    async with connect(store_url) as client:
        with pytest.raises(RunPaused, match="does not fit this model, also summed up"):
            await answer_of(client, make_agent(narrow.model(), [read], ENDS))
        tried = narrow.refused
        await client.resume("a/1")
        wide = Narrow(10**9, pages=0)
        agent = make_agent(wide.model(), [read], ENDS)
        async with client.work([agent]):
            answer = await client.result("a/1", agent)
        names = await keys(client, "a/1")

    assert answer.text == "Done."
    assert tried <= 6
    assert [key for key in names if key.startswith("summary.")] == ["summary.0"]


async def test_resumed_in_vain(sqlite_url: str) -> None:
    """A run that is resumed with the same model is not summed up once more each time."""
    narrow = Narrow(3500, sees_summaries=False)
    agent = make_agent(narrow.model(), [read], ENDS)
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused):
            await answer_of(client, agent)
        asked, refused = len(narrow.asked), narrow.refused
        await client.resume("a/1")
        async with client.work([agent]):
            with pytest.raises(RunPaused):
                await client.result("a/1", agent)

    assert (len(narrow.asked), narrow.refused) == (asked, refused + 1)


async def test_a_task_that_does_not_fit(sqlite_url: str) -> None:
    """Where there is nothing to sum up yet the model is asked once, and a person is told."""
    narrow = Narrow(3)
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused, match="resume the run"):
            await answer_of(client, make_agent(narrow.model(), [read], ENDS))

    assert narrow.refused == 1


async def test_last_words(sqlite_url: str) -> None:
    """The last words of a loop that was cut short are made room for as well."""
    narrow = Narrow(6_150)
    async with connect(sqlite_url) as client:
        ends = any_of(answered(), max_turns(2))
        answer = await answer_of(client, make_agent(narrow.model(), [read], ends))
        control = await keys(client, "a/1")

    assert (answer.reason, answer.text, answer.turns) == ("max_turns", "Done.", 3)
    assert "summary.0" in control


async def test_an_advised_summary(sqlite_url: str) -> None:
    """A summary that a stop condition advises makes room for itself."""
    narrow = Narrow(10_000)

    def advise(transcript: Transcript) -> Verdict:
        is_due = transcript.turns == 3 and not transcript.summaries
        return Advice(Measure.COMPACT, "much was said") if is_due else None

    async with connect(sqlite_url) as client:
        ends = any_of(answered(), max_turns(12), advise)
        answer = await answer_of(client, make_agent(narrow.model(), [read], ends))

    assert (answer.reason, answer.text) == ("answered", "Done.")


# A crash between the summary and the call


def _drive(url: str, log: Path) -> None:
    asyncio.run(_run(url, log))


async def _run(url: str, log: Path) -> None:
    narrow = Narrow(10_000)

    def script(request: Request) -> Reply:
        reply = narrow(request)
        if SUMMARY_HEAD in str(request.messages[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        if "sum up what you did" in str(request.messages[-1]):
            with log.open("a") as file:
                file.write("summed up\n")
        return reply

    agent = make_agent(Model("scripted:x", script=script), [read], ENDS)
    async with connect(url) as client, client.work([agent], options=LIMITS):
        await client.start(agent, TASK, id="a/1")
        await client.result("a/1", agent)


async def test_a_crash_after_the_summary(store_url: str, tmp_path: Path) -> None:
    """A summary that was recorded is paid for once, and holds after a crash."""
    log = tmp_path / "log"
    process = Process(target=_drive, args=(store_url, log))
    process.start()
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == -signal.SIGKILL

    after: list[Request] = []

    def script(request: Request) -> Reply:
        after.append(request)
        return say("Done.")

    async with connect(store_url) as client:
        agent = make_agent(Model("scripted:x", script=script), [read], ENDS)
        async with client.work([agent], options=LIMITS):
            await client.result("a/1", agent)

    assert log.read_text() == "summed up\n"
    assert "I have read up to here." in str(after[0].messages[0])


# Shortening


def talk(*sizes: int) -> tuple[Message, ...]:
    """Return a conversation whose results have these sizes."""
    messages: list[Message] = [UserMessage.of("The task.")]
    for i, chars in enumerate(sizes):
        messages += [
            replace(say("I read.", ToolCall(str(i), "read", {"page": i}))),
            ToolMessage((ToolResult(str(i), "read", f"{i}" * chars),)),
            UserMessage((Text(f"Somebody says {i}."),)),
        ]
    return tuple(messages)


@pytest.mark.parametrize("room", [50_000, 8_000, 3_000, 700])
@pytest.mark.parametrize(
    "sizes", [(9_000,), (3_000,) * 9, (100,) * 90, (3_000_000, 10), (1, 9_000)]
)
def test_what_is_shortened_can_be_sent(sizes: tuple[int, ...], room: int) -> None:
    """Each call has its result, what people said stays, and it fits as far as it can."""
    before = talk(*sizes)
    after = shortened(before, room)

    said = [m for m in before if isinstance(m, UserMessage)]
    assert [m for m in after if isinstance(m, UserMessage)] == said
    assert after[0] == before[0]
    calls = [c.id for m in after if isinstance(m, Reply) for c in m.tool_calls]
    results = [r.call_id for m in after if isinstance(m, ToolMessage) for r in m.results]
    assert calls == results
    assert calls[-1] == str(len(sizes) - 1)
    assert size(after) <= max(room, size(said) + 600)
    assert shortened(after, room) == after or size(before) > room


def test_what_fits_is_left_alone() -> None:
    """Messages that fit come back as they are, the very same ones."""
    before = talk(100, 100)

    assert all(a is b for a, b in zip(before, shortened(before, 5_000), strict=True))
