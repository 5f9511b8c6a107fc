"""The offline model says what its script says, the same after every crash."""

import re
from decimal import Decimal

import pytest

from substrate.models.messages import (
    Reply,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.errors import BadRequest, Misuse, RateLimited

TASK = UserMessage.of("Find owls")


def offline(*script) -> Model:
    """Return the offline model with these turns."""
    return Model("scripted:demo", script=script)


async def play(model: Model, turns: int) -> list[Reply]:
    """Ask the model turn after turn, answering its tool calls."""
    messages, replies = [TASK], []
    for _ in range(turns):
        reply = await model.answer(Request("Be brief.", messages))
        replies.append(reply)
        results = tuple(ToolResult(each.id, each.name, "found") for each in reply.tool_calls)
        messages += [reply, ToolMessage(results)]
    return replies


async def test_turns_come_in_order():
    """A list of turns is played one a reply, calls with ids that no other call has."""
    model = offline(
        say("I look.", call("search", query="owls"), call("search", query="bats")),
        {"search": {"query": "more"}, "note": {}},
        "Two owls.",
    )

    first, second, third = await play(model, 3)

    assert first.text == "I look."
    assert [each.arguments for each in first.tool_calls] == [{"query": "owls"}, {"query": "bats"}]
    assert [each.name for each in second.tool_calls] == ["search", "note"]
    assert third.text == "Two owls."
    ids = [each.id for each in (*first.tool_calls, *second.tool_calls)]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each) for each in ids), "providers ask for this"
    stops = [StopReason.TOOL_CALLS, StopReason.TOOL_CALLS, StopReason.END]
    assert [reply.stop for reply in (first, second, third)] == stops


async def test_same_request_same_reply():
    """The reply depends on the request alone: a new process goes on where the last one was."""
    turns = [call("search", query="owls"), "Two owls."]
    request = Request("", [TASK, *(await play(offline(*turns), 1))])

    replies = [await offline(*turns).answer(request) for _ in range(3)]

    assert replies[0].text == "Two owls."
    assert replies[0] == replies[1] == replies[2]


@pytest.mark.parametrize(
    "turn, parts",
    [
        ("hm", (Text("hm"),)),
        (Text("hm"), (Text("hm"),)),
        (Thinking("hm"), (Thinking("hm"),)),
        (ToolCall("mine", "f"), (ToolCall("mine", "f"),)),
        (["a", call("f", x=1)], (Text("a"), ToolCall("call_0_1", "f", {"x": 1}))),
        ({"f": {"x": 1}}, (ToolCall("call_0_0", "f", {"x": 1}),)),
        ([], ()),
        (say("a", "b"), (Text("a"), Text("b"))),
    ],
)
async def test_forms_of_a_turn(turn, parts):
    """A turn may be written in the shortest way that says it."""
    reply = await offline(turn).answer(Request("", [TASK]))

    assert reply.parts == parts
    assert reply.made_by("scripted", "demo")


async def test_a_reply_is_given_as_it_is():
    """A whole reply comes as the script has it, to play another model's answer."""
    given = Reply((Text("So."),), StopReason.REFUSAL, "openai", "gpt", Usage(1, 2), "resp_1")

    assert await offline(given).answer(Request("", [TASK])) == given


async def test_functions():
    """A script may be a function of the request, plain or async, and gives any form of turn."""

    def plain(request: Request) -> str:
        return f"{len(request.messages)} so far"

    async def later(request: Request) -> ToolCall:
        return call("count", messages=len(request.messages))

    request = Request("", [TASK, TASK])
    told = await Model("scripted:demo", script=plain).answer(request)
    called = await Model("scripted:demo", script=later).answer(request)

    assert told.text == "2 so far"
    assert called.tool_calls[0].arguments == {"messages": 2}


async def test_a_function_may_fail_like_a_provider():
    """What a script function raises reaches the caller as it is."""

    def busy(request: Request) -> str:
        raise RateLimited("busy", retry_after=7)

    with pytest.raises(RateLimited) as caught:
        await Model("scripted:demo", script=busy).answer(Request("", [TASK]))

    assert caught.value.retry_after == 7


async def test_text_comes_in_pieces():
    """Text is told live word by word, and the pieces are the text."""
    text = "  Two owls,\n\nand a bat. "
    pieces: list[str] = []

    await offline(say(text)).answer(Request("", [TASK]), pieces.append)

    assert "".join(pieces) == text
    assert len(pieces) > 4


async def test_costs_nothing():
    """Tokens are estimated the same way every time, and the cost is known to be 0."""
    said = [Request("", [UserMessage.of("owl " * count)]) for count in (1, 1000)]
    short, long = [await offline("So.").answer(each) for each in said]

    assert long.usage.cost_usd == Decimal(0)
    assert 900 < long.usage.input_tokens - short.usage.input_tokens < 1100
    assert long.usage.output_tokens == short.usage.output_tokens > 0


async def test_exhausted_script():
    """A script that is at its end says so, and how long it is; no retry helps."""
    with pytest.raises(BadRequest, match="has 1 turns and is asked for turn 2") as caught:
        await play(offline("So."), 2)

    assert not caught.value.retryable


@pytest.mark.parametrize("turn", [None, 7, {}, {"f": 1}, [7], {"a", "b"}, b"bytes"])
async def test_no_turn(turn):
    """What is no turn is named, with what would be one."""
    with pytest.raises(BadRequest, match=r"turn 1 of the script is .*; give say") as caught:
        await Model("scripted:demo", script=lambda request: turn).answer(Request("", [TASK]))

    assert repr(turn) in str(caught.value)


def test_a_script_is_no_text():
    """Text where a list of turns belongs is refused when the model is made."""
    with pytest.raises(Misuse, match="give a list of turns"):
        Model("scripted:demo", script="So.")
