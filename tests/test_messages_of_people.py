"""What people say to an agent is read before its next turn, or its answer tells that it was not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from substrate import Client, Context, connect
from substrate.agent.history.request import read_request
from substrate.agent.stop import answered, any_of, budget, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import tool
from substrate.models.frame import canonical
from substrate.models.messages import Reply, StopReason, Text, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from tests.loops import TASK, make_agent
from tests.runs import keys
from tests.test_hooks_changed import ask_stop_alone

ENDS = any_of(answered(), max_turns(9))


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "an owl"


@dataclass
class Listener:
    """A model that says what the script says; before it answers, something may be sent."""

    client: Client
    script: list[Any]
    sending: dict[int, list[Any]] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)

    async def __call__(self, request: Request) -> Any:
        """Take the turn; meanwhile, people speak."""
        turn = len(self.seen)
        self.seen.append(request)
        for i, value in enumerate(self.sending.get(turn, ())):
            await self.client.signal("a/1", "message", value, f"{turn}.{i}")
        return self.script[turn] if turn < len(self.script) else say(f"More {turn}.")

    @property
    def model(self) -> Model:
        """The model."""
        return Model("scripted:listener", script=self)

    def said(self, turn: int) -> list[str]:
        """What people had said to the model by a turn, but for the task."""
        users = [m for m in self.seen[turn].messages if isinstance(m, UserMessage)]
        return [part.text for m in users[1:] for part in m.parts if isinstance(part, Text)]


Sending = dict[int, list[Any]]


async def run(
    url: str,
    script: list[Any],
    sending: Sending,
    *,
    stop: Any = ENDS,
    loop: Callable[..., Any] = make_agent,
    before: tuple[Any, ...] = (),
) -> tuple[Answer, Listener, list[str]]:
    """Run an agent to whom these messages are sent during these turns."""
    async with connect(url) as client:
        listener = Listener(client, script, sending)
        agent = loop(listener.model, [look], stop)
        await client.start(agent, TASK, id="a/1")
        for value in before:
            await client.signal("a/1", "message", value)
        async with client.work([agent]):
            answer = await client.result("a/1", agent)
        calls = [key for key in await keys(client, "a/1") if key.startswith("model.")]
        rebuilt = [await read_request(client, "a/1", key) for key in sorted(calls)]
        assert rebuilt == [canonical(each) for each in listener.seen]
        return answer, listener, await keys(client, "a/1")


async def test_heard_before_the_next_turn(store_url: str) -> None:
    """Messages are read in order before the next model call; a turn without one leaves no row."""
    sending = {0: ["Look in the attic.", {"where": ["barn"]}], 1: []}
    script = [say(call("look")), say(call("look")), say("Two owls.")]
    answer, listener, names = await run(store_url, script, sending, before=("Hello.",))

    assert listener.said(0) == ["Hello."]
    assert listener.said(1) == ["Hello.", "Look in the attic.", '{"where":["barn"]}']
    assert listener.said(2) == listener.said(1)
    assert (answer.text, answer.detail) == ("Two owls.", "")
    assert sum(name.startswith("heard.") for name in names) == 2


async def test_during_the_last_call(store_url: str) -> None:
    """A message that comes while the model answers makes another turn."""
    answer, listener, _ = await run(
        store_url, [say("Two owls."), say("Three, with the attic.")], {0: ["And the attic?"]}
    )

    assert (answer.text, answer.turns) == ("Three, with the attic.", 2)
    assert listener.said(1) == ["And the attic?"]


async def test_a_message_makes_each_turn_follow(sqlite_url: str) -> None:
    """A conversation goes on for as long as somebody speaks."""
    sending = {i: [f"And {i}?"] for i in range(4)}
    answer, listener, _ = await run(sqlite_url, [], sending)

    assert (answer.text, answer.turns) == ("More 4.", 5)
    assert listener.said(4) == [f"And {i}?" for i in range(4)]


async def test_while_the_run_ends(store_url: str) -> None:
    """A message that comes after the loop has stopped and before the run has ended is read."""
    async with connect(store_url) as client:
        listener = Listener(client, [say("Two owls."), say("Three.")])
        late = ["Wait!"]

        def stop(transcript: Any) -> Any:
            end = answered()(transcript)
            if end and late:
                message = late.pop()
                ends.append(asyncio.ensure_future(client.signal("a/1", "message", message)))
            return end

        ends: list[asyncio.Future[bool]] = []
        agent = make_agent(listener.model, [look], stop, answer=None)
        inner = agent.function

        async def slow(ctx: Context, task: Task) -> Answer:
            answer: Answer = await inner(ctx, task)
            for each in ends:
                await each
            return answer

        object.__setattr__(agent, "function", slow)
        async with client.work([agent]):
            await client.start(agent, TASK, id="a/1")
            answer = await client.result("a/1", agent)

    assert listener.said(1) == ["Wait!"]
    assert answer.text == "Three."


@pytest.mark.parametrize("turns", [1, 2])
async def test_at_a_limit(store_url: str, turns: int) -> None:
    """At a limit the last words take the message in."""
    script = [say(call("look")), say(call("look")), say("So far.")]
    ends = any_of(answered(), max_turns(turns))
    answer, listener, _ = await run(store_url, script, {0: ["Hurry."]}, stop=ends)

    assert answer.reason == "max_turns"
    assert "Hurry." in listener.said(len(listener.seen) - 1)
    assert answer.detail.startswith("the limit of")
    assert "not read" not in answer.detail


async def test_during_the_last_words(store_url: str) -> None:
    """A message that comes during the last words was not read, and the answer says so."""
    script = [say(call("look")), say("So far.")]
    ends = any_of(answered(), max_turns(1))
    answer, listener, names = await run(store_url, script, {1: ["Too late?", "x" * 999]}, stop=ends)

    assert (answer.reason, answer.text, len(listener.seen)) == ("max_turns", "So far.", 2)
    assert "the limit of 1 is reached; not read any more: 'Too late?', 'xxx" in answer.detail
    assert len(answer.detail) < 400
    assert any(name.startswith("heard.") for name in names)


async def test_a_refusal_may_be_answered(sqlite_url: str) -> None:
    """A person who rephrases makes a run that was refused go on."""
    refused: Reply = replace(say("No."), stop=StopReason.REFUSAL)
    answer, _, _ = await run(sqlite_url, [refused, say("Well then.")], {0: ["Please."]})

    assert (answer.reason, answer.text) == ("answered", "Well then.")


async def test_a_failed_run_tells(sqlite_url: str) -> None:
    """A run that has failed tells which message its model has not read."""
    answer, _, _ = await run(sqlite_url, [say("")] * 3, {2: ["Say something."]})

    assert answer.reason == "failed"
    assert answer.detail.endswith("; not read any more: 'Say something.'")


async def test_an_older_loop_tells(sqlite_url: str) -> None:
    """A loop that does not hear after each turn tells what it has not read."""
    answer, _, _ = await run(
        sqlite_url, [say("Two owls.")], {0: ["And the attic?"]}, loop=ask_stop_alone
    )

    assert (answer.text, answer.reason) == ("Two owls.", "answered")
    assert answer.detail == "not read any more: 'And the attic?'"


@pytest.mark.parametrize("value", [None, "", " \n"])
async def test_an_empty_message(sqlite_url: str, value: Any) -> None:
    """A message of nothing is taken, and makes no turn."""
    answer, listener, names = await run(sqlite_url, [say("Two owls.")], {0: [value]})

    assert (answer.text, len(listener.seen)) == ("Two owls.", 1)
    assert sum(name.startswith("heard.") for name in names) == 1


async def test_not_for_a_loop_inside_a_tool(sqlite_url: str) -> None:
    """A message to the run is read by its own loop, and not by one that a tool calls in it."""
    async with connect(sqlite_url) as client:
        inner = Listener(client, [say("Inside.")])
        child = make_agent(inner.model, [], ENDS, name="inner")

        @tool
        async def delegate(ctx: Context) -> str:
            """Have another loop answer."""
            return (await ctx.call(child, Task("Look."))).text

        outer = Listener(client, [say(call("delegate")), say("Done.")], {0: ["For the run."]})
        agent = make_agent(outer.model, [delegate], ENDS)
        async with client.work([agent]):
            await client.start(agent, TASK, id="a/1")
            await client.result("a/1", agent)

    assert inner.said(0) == []
    assert outer.said(1) == ["For the run."]


async def test_a_budget_ends_a_talk(sqlite_url: str) -> None:
    """However much is said, a budget holds: the last words take in what was said."""
    sending = {i: ["Go on."] for i in range(50)}
    ends = any_of(answered(), budget(tokens=3_000))
    answer, _, _ = await run(sqlite_url, [], sending, stop=ends)

    assert answer.reason == "budget"
    assert answer.usage.input_tokens + answer.usage.output_tokens < 3_300
    assert "not read any more: 'Go on.'" in answer.detail


async def test_what_is_recorded(sqlite_url: str) -> None:
    """The row keeps what was said."""
    async with connect(sqlite_url) as client:
        listener = Listener(client, [say(call("look")), say("Done.")], {0: ["Hm.", 7]})
        agent = make_agent(listener.model, [look], ENDS)
        async with client.work([agent]):
            await client.start(agent, TASK, id="a/1")
            await client.result("a/1", agent)
        (heard,) = [r for r in await client.journal("a/1") if r.key.startswith("heard.")]

    assert decode(heard.value or "") == ["Hm.", 7]
