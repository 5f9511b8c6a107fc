"""A mistake in a hook stops a run where it is: nothing is undone, and mended it goes on."""

import re
from typing import Any

import pytest

from substrate import Context, RunPaused, RunStatus, connect, durable
from substrate.agent.end import End
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.models.providers.scripted import call, say
from tests.loops import ENDS, TASK, make_agent, scripted
from tests.runs import QUICK

effects: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    effects.clear()


async def charge(cents: int) -> str:
    effects.append("charge")
    return "charged"


@durable
async def give_back(ctx: Context, cents: int) -> None:
    effects.append("undo")


@tool
async def collect(ctx: Context, cents: int) -> str:
    """Collect money."""
    return await ctx.step(charge, cents, undo=give_back)


def broken_after_a_turn(fault: Any) -> Any:
    """Return a stop condition with a mistake that shows in the second turn."""

    def stop(transcript: Any) -> Any:
        return ENDS(transcript) if transcript.turns == 0 else fault(transcript)

    return stop


STOPS = {
    "raises": lambda transcript: transcript.turnz,
    "says True": lambda transcript: True,
    "says a word": lambda transcript: "done",
    "gives no reason": lambda transcript: End("x"),  # type: ignore[arg-type]
}
OTHERS = {
    "no tools": ("tools", None),
    "one tool": ("tools", collect),
    "a name for a tool": ("tools", ["collect"]),
    "a lambda for a tool": ("tools", [lambda x: x]),
    "a word for a model": ("model", "scripted:test"),
    "no model": ("model", None),
    "no answered()": ("stop", max_turns(9)),
    "a number for a prompt": ("prompt", lambda task: 5),
    "nothing for a prompt": ("prompt", lambda task: None),
}
MODEL = scripted(say(call("collect", cents=5)), say("done"))


@pytest.mark.parametrize("fault", STOPS.values(), ids=STOPS)
async def test_a_stop_condition(store_url, fault):
    """One that raises, or gives back what is no verdict, pauses the run and is named."""
    broken = make_agent(MODEL, [collect], broken_after_a_turn(fault))
    mended = make_agent(MODEL, [collect], any_of(answered(), max_turns(5)))

    async with connect(store_url) as client:
        async with client.work([broken, give_back], options=QUICK):
            await client.start(broken, TASK, id="a/1")
            with pytest.raises(RunPaused, match=r"the hook `stop`.* is at fault"):
                await client.result("a/1")
        async with client.work([mended, give_back], options=QUICK):
            await client.resume("a/1")
            answer = await client.result("a/1", mended)

    assert (answer.text, answer.reason) == ("done", "answered")
    assert effects == ["charge"]


@pytest.mark.parametrize("hook, value", OTHERS.values(), ids=OTHERS)
async def test_the_other_hooks(sqlite_url, hook, value):
    """Tools, a model, a prompt or a condition that cannot be pause the run, and are named."""
    hooks = {"model": MODEL, "tools": [collect], "stop": ENDS, "prompt": "You are a test."}
    broken = make_agent(**hooks | {hook: value})  # type: ignore[arg-type]
    mended = make_agent(**hooks)  # type: ignore[arg-type]

    async with connect(sqlite_url) as client:
        async with client.work([broken, give_back], options=QUICK):
            await client.start(broken, TASK, id="a/1")
            with pytest.raises(RunPaused, match=f"the hook `{hook}`"):
                await client.result("a/1")
            assert (await client.get("a/1")).status is RunStatus.PAUSED
        async with client.work([mended, give_back], options=QUICK):
            await client.resume("a/1")
            answer = await client.result("a/1", mended)

    assert answer.text == "done"
    assert effects == ["charge"]


async def test_an_error_says_its_class_and_place(sqlite_url):
    """`RunPaused` says of what class the cause is, and where in the user's code it came up."""

    def prompt(task: Task) -> str:
        raise LookupError("no such owl")

    agent = make_agent(scripted("Done."), prompt=prompt)
    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused) as caught:
            await client.result("a/1")

    told = str(caught.value)
    assert told.startswith("run 'a/1' is paused: LookupError: the hook `prompt` (")
    assert re.search(
        rf"\({re.escape(__file__)}:\d+\) is at fault: LookupError: no such owl; ", told
    )
