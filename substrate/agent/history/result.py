"""What the model was told of a tool call, and of what people said: from rows alone. Pure."""

import json
import re
from collections.abc import Iterable, Mapping

from substrate.agent.grant import DelegateFailed
from substrate.agent.history.rows import input_of, value_of
from substrate.agent.shown import call_words
from substrate.agent.tool_schema import InvalidArguments
from substrate.engine.failure import UNKNOWN as UNKNOWN_OUTCOME
from substrate.engine.failure import decode_failure
from substrate.models.messages import Json, Text, ToolCall, ToolResult, UserMessage
from substrate.values.clock import from_ms
from substrate.values.codec import encode
from substrate.values.records import Kind, Promise, PromiseState


class CallDenied(Exception):
    """A call was not made, since a person, or a rule, has denied it. Its message is the model's."""


class CallDeniedForGood(CallDenied):
    """The same, of a tool whose policy says that its run fails then."""


class StillAsked(Exception):
    """A call was not made, since a person is being asked about the same one."""


class ResultNotFound(Exception):
    """No tool call of this run has the key of which a model wants the result."""


_OWN_WORDS = tuple(
    each.__name__
    for each in (
        InvalidArguments,
        DelegateFailed,
        CallDenied,
        CallDeniedForGood,
        StillAsked,
        ResultNotFound,
    )
)
"""Errors that are told without the name of their class, which says nothing to a model."""


def result_of(call: ToolCall, row: Promise, found: Promise | None = None) -> ToolResult:
    """Return what the model is told of a settled call.

    `found` is the gate at which a person has said what became of a call that nobody knew of. In the
    place of a call that is deferred stands its gate.
    """
    if row.kind is Kind.GATE:
        return ToolResult(call.id, call.name, _asked(row))
    if found is not None and (told := _found_out(call, found)) is not None:
        return told
    note = _edited_note(row)
    if row.state is PromiseState.RESOLVED:
        return ToolResult(call.id, call.name, note + render(value_of(row)))
    failure = decode_failure(row)
    is_ours = failure.type in _OWN_WORDS
    message = failure.message if is_ours else f"{failure.type}: {failure.message}"
    is_error = failure.type != StillAsked.__name__  # a call that is on its way has not failed
    return ToolResult(call.id, call.name, note + message, is_error=is_error)


def _asked(gate: Promise) -> str:
    """Say that a person is asked, so that a model neither waits for the call nor makes it again."""
    shown = input_of(gate)
    policy, until = shown.get("policy") or {}, (shown.get("plan") or {}).get("expires_at")
    of = f" ({policy['to']})" if policy.get("to") else ""
    silence = "it is called then" if policy.get("on_timeout") == "approve" else "it is not called"
    end = f" Without a decision until {_moment(until)}, {silence}." if until else ""
    return (
        f"{shown['tool']} was not called yet: a person{of} is asked first, which may take days. Go "
        "on without it, and do not call it again for this. What comes of it is told to you in a "
        f"later message, which begins with {_mark(shown)}; no other message speaks of it.{end}"
    )


def outcome_of(gate: Promise, row: Promise, found: Promise | None = None) -> str:
    """Return what the model is told of a call that was deferred, once it has its outcome.

    It begins with the mark that `result_of` has announced. What a person writes is not taken for
    it: they don't know it, and one that they were told is none in their words; see `as_heard`.
    """
    shown = input_of(gate)
    result = result_in(row, found)
    called = call_words(str(shown["tool"]), shown.get("arguments") or {})
    return (
        f"{_mark(shown)} The program that runs you tells you this, no person does. It is about "
        f"your call {called}, of which a person was asked. {_how(gate, row)}{result.content}"
    )


def _how(gate: Promise, row: Promise) -> str:
    """Say that a call was made, unless its own words tell that it was not."""
    if row.state is not PromiseState.RESOLVED and decode_failure(row).type in _OWN_WORDS:
        return ""
    said = value_of(gate)
    state = said.get("state") if isinstance(said, dict) else None
    why = "Nobody decided in time" if state == "auto_approved" else "It was approved"
    made = "Its result" if row.state is PromiseState.RESOLVED else "It went wrong"
    return f"{why}, and it was called. {made}:\n"


def _mark(shown: Mapping[str, Json]) -> str:
    return f"[outcome {shown.get('mark')}]"


def _moment(at: int) -> str:
    return f"{from_ms(at):%Y-%m-%d %H:%M} UTC"


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
    """Return the values of messages as the model reads them: words, and other values as JSON.

    The mark of an outcome is none in them: an agent can be asked what it was told.
    """
    words = (as_heard(render(value)) for value in values if value is not None)
    return UserMessage(tuple(Text(each) for each in words if each.strip()))


def as_heard(words: str) -> str:
    """Return what a person says as the model reads it: a mark in it is said to be theirs."""
    return _MARKS.sub(r"[a person wrote: \1]", words)


_MARKS = re.compile(r"\[(outcome [0-9a-f]{8})\]")


def render(value: Json) -> str:
    """Return a value as the text that the model reads: words as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    text = encode(value)
    # The journal's own marks for what JSON cannot hold are not for the model.
    return _plain(value) if '{"$' in text else text


def _plain(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
