"""Whatever is left out of whatever was said, what is sent then is what every provider takes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from substrate.agent.cut import Cut, applied, turns
from substrate.agent.room import Plan, fill_of, staying
from substrate.agent.task import Task
from substrate.agent.transcript import Transcript
from substrate.models.mending.mended import mended
from substrate.models.mending.takes import takes
from substrate.models.messages import (
    Message,
    Reply,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from substrate.models.model import Model
from substrate.models.request import Request, ToolSpec
from substrate.values.codec import decode, encode
from tests.strict import check
from tests.test_models_mending import BODIES, MODELS, TRANSCRIPTS

TOOLS = [ToolSpec("search", "Search.", {"type": "object", "properties": {}})]
SIGNED = {
    "anthropic": {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    "openai": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    "google": {"thought": True, "thoughtSignature": "x"},
    "groq": {"reasoning": "Hm."},
    "openai-chat": {"reasoning": "Hm."},
}
SIZES = st.sampled_from([0, 10, 300, 4_000, 90_000])


@st.composite
def said(draw, provider: str, model: str) -> list[Message]:
    """Make what was said in a loop: thinking, calls with their results, people in between."""
    messages: list[Message] = [UserMessage.of("Do it.")]
    for turn in range(draw(st.integers(1, 9))):
        calls = [f"call_{turn}_{i}" for i in range(draw(st.integers(0, 3)))]
        thinking = [Thinking("Hm.", SIGNED[provider])] if draw(st.booleans()) else []
        parts = [*thinking, Text("I look."), *(ToolCall(id_, "search", {"q": 1}) for id_ in calls)]
        stop = StopReason.TOOL_CALLS if calls else StopReason.END
        messages.append(Reply(tuple(parts), stop, provider, model))
        if calls:
            results = (ToolResult(id_, "search", "x" * draw(SIZES)) for id_ in calls)
            messages.append(ToolMessage(tuple(results)))
        count = draw(st.integers(0 if calls else 1, 2))
        messages += [UserMessage.of("y" * draw(SIZES) or f"Go on, {i}.") for i in range(count)]
    return messages


PLANS = st.tuples(
    st.sampled_from([256, 2_000, 20_000, 200_000]),
    st.lists(st.sampled_from(["results", "turns", "summary"]), max_size=3),
    st.integers(1, 4),
)


def planned(messages: list[Message], plan: Any, model: Model) -> tuple[Cut, str, Plan]:
    """Return the cut that these strategies come to, and the summary in it."""
    window, strategies, keep = plan
    told = Transcript.begin(Task("Do it."), "You are a test.")
    for message in messages[1:]:
        told += message
    request = Request("You are a test.", told.messages, TOOLS)
    fill = fill_of(told, model, request)
    made = Plan(
        told.messages,
        staying(told, (), ()),
        model.provider,
        fill,
        window // 3,
        window,
        lambda message: ("tools.0/search.0", "tools.0/search.1"),
        head="In your own words:",
    )
    for strategy in strategies:
        if strategy == "results":
            made.drop_results(keep)
        elif strategy == "turns":
            made.drop_turns()
        elif made.summary is None and (old := made.old_turns()):
            made.gone.update(old)
            made.summary = ("compact.0/summary.0", "I searched.")
    return made.cut, made.summary[1] if made.summary else "", made


@pytest.mark.parametrize("provider, model", MODELS)
@settings(max_examples=120)
@given(data=st.data())
def test_every_provider_takes_it(provider: str, model: str, data: Any) -> None:
    """After any cut each call has its result, replies are whole, and the judges accept it."""
    messages = data.draw(said(provider, model))
    cut, summary, plan = planned(messages, data.draw(PLANS), Model(f"{provider}:{model}"))
    sent = applied(messages, cut, summary)

    calls = [call.id for m in sent if isinstance(m, Reply) for call in m.tool_calls]
    results = [r.call_id for m in sent if isinstance(m, ToolMessage) for r in m.results]
    assert calls == results
    assert all(any(m is old for old in messages) for m in sent if isinstance(m, Reply))
    assert sent[0] is messages[0]
    people = [m for m in messages if isinstance(m, UserMessage)]
    assert any(m is people[-1] for m in sent)
    assert (
        not any(isinstance(m, Reply) for m in messages)
        or sent[-1] == messages[-1]
        or (isinstance(sent[-1], ToolMessage))
    )
    unread = messages[max(i for i, m in enumerate(messages) if isinstance(m, Reply)) + 1 :]
    assert [m for m in unread if isinstance(m, UserMessage)] == [
        m for m in sent[len(sent) - len(unread) :] if isinstance(m, UserMessage)
    ]
    assert sent == plan.sent()
    request = Request("You are a test.", sent, TOOLS)
    check(provider, BODIES[provider](model, mended(request, takes(provider, model))), model)


@settings(max_examples=300)
@given(messages=TRANSCRIPTS, plan=PLANS)
def test_whatever_was_said(messages: list[Message], plan: Any) -> None:
    """Messages of any kind, in any order, are cut without a fault, and sent to each provider."""
    cut, summary, _ = planned([UserMessage.of("Do it."), *messages], plan, Model("anthropic:m"))
    told = Transcript.begin(Task("Do it."), "You are a test.")
    for message in messages:
        told += message
    sent = applied(told.messages, cut, summary)
    again = Cut.from_json(decode(encode(cut.to_json())))

    assert again == cut
    assert applied(told.messages, again, summary) == sent
    for provider, model in MODELS:
        request = Request("You are a test.", sent, TOOLS)
        check(provider, BODIES[provider](model, mended(request, takes(provider, model))), model)


@settings(max_examples=200)
@given(messages=TRANSCRIPTS)
def test_turns_are_all_of_it(messages: list[Message]) -> None:
    """The turns of messages are all of them, once, in their order."""
    assert [i for turn in turns(messages) for i in turn] == list(range(len(messages)))
