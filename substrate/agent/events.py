"""What an agent does, told to whoever watches: a closed set of frozen values.

=====================  ============================================================================
live                   told once, by the process that drives the run, and recorded nowhere:
                       `TurnStart`, `ModelWaits`, `ModelAsked`, `TextDelta`, `ModelPassedOver`,
                       `ToolStart`, `StepRetry`
of a row               read from the journal by any process, at any time, in the order of `seq`:
                       `TurnEnd`, `ToolEnd`, `CheckEnd`
=====================  ============================================================================

A live event crosses ``ctx.emit`` as JSON, ``{"event": "turn_start", "turn": 1, …}``, which is what
a worker's `on_event` is given; `event_in` reads it back.

Invariants: nothing depends on a live event, since it may be lost; the row that follows supersedes
it. An event of an unknown name, such as one that a fork emits itself, reads as None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from substrate.agent.history.rows import (
    CheckRow,
    calls_of,
    check_of,
    confidence_of,
    invalid_of,
    is_tool_call,
    is_turn,
    model_of,
    passed_over_of,
    tool_of,
    words_of,
)
from substrate.engine.context.context import Context
from substrate.engine.run.services import STEP_RETRY
from substrate.models.messages import Confidence, Json, PassedOver
from substrate.models.request import ModelAsked, ModelWaits
from substrate.values.records import Promise, PromiseState

__all__ = [
    "CheckEnd",
    "LiveEvent",
    "ModelAsked",
    "ModelPassedOver",
    "ModelWaits",
    "RowEvent",
    "StepRetry",
    "TextDelta",
    "ToolEnd",
    "ToolStart",
    "TurnEnd",
    "TurnStart",
    "Voice",
    "Voices",
    "emit",
    "event_in",
    "event_json",
    "event_of",
]


@dataclass(frozen=True, slots=True)
class TurnStart:
    """The loop asks for a turn, or for a summary before it."""

    #: Which turn it is; the first is 1.
    turn: int
    #: The model that is to answer, as ``provider:name``.
    model: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the text of the model that was asked last."""

    #: The piece.
    text: str


@dataclass(frozen=True, slots=True)
class ModelPassedOver:
    """A model was to answer, and another one did."""

    #: The model that did not answer.
    model: str
    #: Why, in a word: see `FallbackReason`.
    reason: str


@dataclass(frozen=True, slots=True)
class ToolStart:
    """A tool is called."""

    #: The tool, as the model names it.
    tool: str
    #: What the model gave.
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class StepRetry:
    """An attempt of a step has failed, and another one follows."""

    #: The step's key.
    key: str
    #: The failed attempt, as its row keeps it.
    attempt: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The model has answered."""

    #: Where the row stands in the journal.
    seq: int
    #: The row's key.
    key: str
    #: The model that answered.
    model: str
    #: What it said.
    text: str
    #: The tool calls that it asks for, as its reply has them.
    calls: Sequence[Mapping[str, Json]]
    #: The models that were to answer before it.
    passed_over: Sequence[PassedOver]
    #: Why the reply is not what was asked for, if it is not.
    invalid: str | None
    #: How sure it is of its answer, if it was asked.
    confidence: Confidence | None = None


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """A tool call has its outcome."""

    #: Where the row stands in the journal.
    seq: int
    #: The row's key.
    key: str
    #: The tool, as the model names it.
    tool: str
    #: What the model gave.
    arguments: Mapping[str, Json]
    #: How the call ended.
    state: PromiseState


@dataclass(frozen=True, slots=True)
class CheckEnd:
    """A check has said something of an answer."""

    #: Where the row stands in the journal.
    seq: int
    #: The row's key.
    key: str
    #: What it said.
    check: CheckRow


LiveEvent = (
    TurnStart | ModelWaits | ModelAsked | TextDelta | ModelPassedOver | ToolStart | StepRetry
)
RowEvent = TurnEnd | ToolEnd | CheckEnd

_NAMES: Mapping[type[LiveEvent], str] = {
    TurnStart: "turn_start",
    ModelWaits: "model_waits",
    ModelAsked: "model_asked",
    TextDelta: "text_delta",
    ModelPassedOver: "passed_over",
    ToolStart: "tool_start",
    StepRetry: STEP_RETRY,
}
_KINDS = {name: kind for kind, name in _NAMES.items()}


def emit(ctx: Context, event: LiveEvent) -> None:
    """Tell who watches now. Nothing is recorded, and a replay is silent."""
    ctx.emit(event_json(event))


class Voices:
    """Lets one of several models be heard that answer at once: the first that speaks.

    What it has said is void when it begins again or fails, and then whoever speaks next is heard.
    With `is_heard` False nobody's words are told, only what else there is to say of a call.
    """

    def __init__(self, ctx: Context, *, is_heard: bool) -> None:
        self._ctx = ctx
        self._is_heard = is_heard
        self._speaker: str | None = None
        self._asked: dict[str, ModelAsked] = {}

    def of(self, name: str) -> "Voice":
        """Return how a call is told of, by a name of its own."""
        return Voice(partial(self._tell, name), partial(self._lose, name))

    def _tell(self, name: str, event: LiveEvent) -> None:
        match event:
            case ModelAsked():
                # Told when it speaks: the words of somebody else would be void by it.
                self._asked[name] = event
                self._lose(name)
                return
            case TextDelta() if not self._is_heard or self._speaker not in (None, name):
                return
            case TextDelta() if self._speaker is None:
                self._speaker = name
                if name in self._asked:
                    emit(self._ctx, self._asked[name])
        emit(self._ctx, event)

    def _lose(self, name: str) -> None:
        if self._speaker == name:
            self._speaker = None


@dataclass(frozen=True, slots=True)
class Voice:
    """How what one model call tells live is told on."""

    #: Takes each event of the call.
    tell: Callable[[LiveEvent], None]
    #: Called where the call has failed: what was told of its words is void.
    lose: Callable[[], None] = lambda: None


def event_json(event: LiveEvent) -> dict[str, Any]:
    """Return a live event as it crosses processes."""
    return {
        "event": _NAMES[type(event)],
        **{each.name: getattr(event, each.name) for each in fields(event)},
    }


def event_in(record: Mapping[str, Any]) -> LiveEvent | None:
    """Return the live event that a worker's `on_event` was given; None for one of another kind."""
    name = record.get("event")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    # Fields of another version are no reason to fail: whoever watches misses one event.
    if kind is None or record.keys() != {"event", *(each.name for each in fields(kind))}:
        return None
    return kind(**{name: value for name, value in record.items() if name != "event"})


def event_of(row: Promise) -> RowEvent | None:
    """Return the event that a row of the journal stands for; None for any other row."""
    if is_turn(row):
        calls, passed_over = tuple(calls_of(row)), tuple(passed_over_of(row))
        model, text = model_of(row), words_of(row)
        said = (invalid_of(row), confidence_of(row))
        return TurnEnd(row.seq, row.key, model, text, calls, passed_over, *said)
    if is_tool_call(row) and row.is_settled:
        return ToolEnd(row.seq, row.key, *tool_of(row), row.state)
    if (check := check_of(row)) is not None:
        return CheckEnd(row.seq, row.key, check)
    return None
