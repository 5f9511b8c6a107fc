"""What the model was told of a tool call, and of what people said: from rows alone. Pure."""

import json
from collections.abc import Iterable

from substrate.agent.grant import DelegateFailed
from substrate.agent.history.rows import input_of, value_of
from substrate.agent.tool_schema import InvalidArguments
from substrate.engine.failure import UNKNOWN as UNKNOWN_OUTCOME
from substrate.engine.failure import decode_failure
from substrate.models.messages import Json, Text, ToolCall, ToolResult, UserMessage
from substrate.values.codec import encode
from substrate.values.records import Promise, PromiseState


class CallDenied(Exception):
    """A call was not made, since a person, or a rule, has denied it. Its message is the model's."""


class CallDeniedForGood(CallDenied):
    """The same, of a tool whose policy says that its run fails then."""


_OWN_WORDS = tuple(
    each.__name__ for each in (InvalidArguments, DelegateFailed, CallDenied, CallDeniedForGood)
)
"""Errors that are told without the name of their class, which says nothing to a model."""


def result_of(call: ToolCall, row: Promise, found: Promise | None = None) -> ToolResult:
    """Return what the model is told of a settled call.

    `found` is the gate at which a person has said what became of a call that nobody knew of.
    """
    if found is not None and (told := _found_out(call, found)) is not None:
        return told
    note = _edited_note(row)
    if row.state is PromiseState.RESOLVED:
        return ToolResult(call.id, call.name, note + render(value_of(row)))
    failure = decode_failure(row)
    is_ours = failure.type in _OWN_WORDS
    message = failure.message if is_ours else f"{failure.type}: {failure.message}"
    return ToolResult(call.id, call.name, note + message, is_error=True)


def is_unknown(row: Promise) -> bool:
    """Whether nobody knows what became of a call."""
    return row.state is PromiseState.REJECTED and decode_failure(row).type == UNKNOWN_OUTCOME


def _found_out(call: ToolCall, gate: Promise) -> ToolResult | None:
    """Return what a person has found out of a call; None where the model is left to it."""
    said = value_of(gate)
    answer = said.get("answer") if isinstance(said, dict) else None
    if answer == "not done":
        words = "it was not done, a person has looked; call it again if it is still wanted"
        return ToolResult(call.id, call.name, f"{call.name}: {words}", is_error=True)
    if answer == "done":
        return ToolResult(call.id, call.name, f"{call.name}: it was done, a person has looked")
    if isinstance(answer, dict) and "done" in answer:
        note = "A person has looked: it was done. Its result:\n"
        return ToolResult(call.id, call.name, note + render(answer["done"]))
    return None


def is_denied_for_good(row: Promise) -> bool:
    """Whether a call was denied whose run fails for it."""
    is_rejected = row.state is PromiseState.REJECTED
    return is_rejected and decode_failure(row).type == CallDeniedForGood.__name__


def _edited_note(row: Promise) -> str:
    """Say what ran where a person has changed the arguments: else the model calls again."""
    ran = input_of(row).get("ran")
    if ran is None:
        return ""
    return f"A person changed the arguments before the call; what ran is {render(ran)}. Result:\n"


def result_in(row: Promise, found: Promise | None = None) -> ToolResult:
    """Return what the model was told of a settled call, from its row alone."""
    made = input_of(row)
    return result_of(ToolCall(made["call_id"], made["tool"]), row, found)


def spoken(values: Iterable[Json]) -> UserMessage:
    """Return the values of messages as the model reads them: words, and other values as JSON."""
    words = (render(value) for value in values if value is not None)
    return UserMessage(tuple(Text(each) for each in words if each.strip()))


def render(value: Json) -> str:
    """Return a value as the text that the model reads: words as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    text = encode(value)
    # The journal's own marks for what JSON cannot hold are not for the model.
    return _plain(value) if '{"$' in text else text


def _plain(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
