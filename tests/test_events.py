"""What an agent does is told by a closed set of events: live while it works, and of its rows."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args

import pytest

from substrate import Context, connect, durable
from substrate.agent import Answer, Model, Task, answered, any_of, begin, max_turns, tool
from substrate.agent.events import (
    LiveEvent,
    ModelAsked,
    ModelPassedOver,
    ModelWaits,
    RowEvent,
    StepRetry,
    TextDelta,
    ToolEnd,
    ToolStart,
    TurnEnd,
    TurnStart,
    event_in,
    event_json,
    event_of,
)
from substrate.models.providers.scripted import call, say
from substrate.values.records import PromiseState

OWLS = "scripted:owls"

SAMPLES: list[LiveEvent] = [
    TurnStart(1, OWLS),
    ModelWaits(OWLS, 1.5),
    ModelAsked(OWLS),
    TextDelta("Two "),
    ModelPassedOver(OWLS, "overloaded"),
    ToolStart("count", {"what": "owls"}),
    StepRetry("model.0", {"type": "Overloaded"}),
]


@tool(effect="pure")
def count(what: str) -> int:
    """Count things."""
    return 2


class Hooks:
    """An agent that counts owls and then answers."""

    prompt = "Be brief."
    model = Model(OWLS, script=[say("Let me see.", call("count", what="owls")), "Two owls."])
    tools = (count,)
    stop = staticmethod(any_of(answered(), max_turns(5)))


@durable
async def counting(ctx: Context, task: Task) -> Answer:
    """Work on the task over the hooks above."""
    turn = await begin(ctx, Hooks, task)
    while not (end := turn.stop()):
        await turn.call_tools(await turn.ask())
    return await turn.finish(end)


async def test_told_live_and_of_rows(store_url: str) -> None:
    """A listener is told each turn and call as they begin; their rows tell how they ended."""
    told: list[LiveEvent | None] = []

    def listen(run_id: str, event: dict[str, Any]) -> None:
        told.append(event_in(event))

    async with connect(store_url) as client:
        await client.start(counting, Task("How many owls?"), id="owls")
        async with client.work([counting], on_event=listen) as worker:
            await worker.run_until_idle()
        journal = await client.journal("owls")

    assert [each for each in told if not isinstance(each, TextDelta)] == [
        TurnStart(1, OWLS),
        ModelAsked(OWLS),
        ToolStart("count", {"what": "owls"}),
        TurnStart(2, OWLS),
        ModelAsked(OWLS),
    ]
    said = "".join(each.text for each in told if isinstance(each, TextDelta))
    assert said == "Let me see.Two owls."
    asked, counted, answer = filter(None, map(event_of, journal))
    assert isinstance(asked, TurnEnd)
    assert (asked.key, asked.model, asked.text) == ("model.0", OWLS, "Let me see.")
    assert [each["name"] for each in asked.calls] == ["count"]
    assert isinstance(counted, ToolEnd)
    assert (counted.tool, counted.arguments) == ("count", {"what": "owls"})
    assert counted.state is PromiseState.RESOLVED
    assert isinstance(answer, TurnEnd)
    assert (answer.text, answer.calls) == ("Two owls.", ())
    assert asked.seq < counted.seq < answer.seq


def test_there_and_back() -> None:
    """Each live event is read back from its JSON as it was, and there are no others."""
    assert {type(each) for each in SAMPLES} == {*get_args(LiveEvent)}
    assert [event_in(event_json(each)) for each in SAMPLES] == SAMPLES
    assert all(is_dataclass(kind) for kind in (*get_args(LiveEvent), *get_args(RowEvent)))


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"event": "landed"},
        {"event": ["turn_start"]},
        {"event": "turn_start", "turn": 1},
        {"event": "text_delta", "text": "Two", "more": 1},
    ],
)
def test_of_another_kind(told: Mapping[str, Any]) -> None:
    """An event of a fork's own, or of another version, is none of these, and no error."""
    assert event_in(told) is None
