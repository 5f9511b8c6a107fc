"""`signalled`: who may end the work ends it, the agent with a tool or a person with a signal.

The tool takes the agent's answer, of its type where it has one; no model call follows. It is made
by the loop, which alone knows the type. A person's signal cuts the loop short: the model says what
it has.

Invariants: pure; a call of the tool counts while nothing was said since, so that an answer that is
sent back, and a message, make another turn.
"""

import json
from functools import lru_cache
from typing import Any

from substrate.agent.answer_type import TypedAnswer
from substrate.agent.condition import Condition, Needs
from substrate.agent.end import Advice, End, EndedBy, EndReason, Measure, Stop, Verdict
from substrate.agent.ended import answer_in, nothing_more
from substrate.agent.history.result import render
from substrate.agent.tool import Tool, tool
from substrate.agent.transcript import Transcript
from substrate.models.messages import Reply, ToolCall, ToolMessage
from substrate.values.errors import Misuse
from substrate.values.records import Effect

STOP = "stop"
"""The name of the signal, if it is not told otherwise."""

SOURCE = "signalled"
"""Whose advice it is to go on after words that end nothing."""

TIMES = 3
"""How often a model is told that its words end nothing, before the loop ends."""

_QUOTED = 200


def signalled(signal: str | None = STOP, *, tool: str | None = "finish") -> Stop:
    """Stop when the agent ends its own work with a tool, or a person does with a signal.

    The condition brings the tool along: the model calls ``finish`` with its answer, which is the
    run's, of its type and checked as any other. It is a complete one. A person sends the signal,
    ``python -m agent signal ID stop``, perhaps with a word why. It is heeded before the next model
    call, and ends no call or wait that is under way: that is what ``cancel`` does. Then a last call
    of the model, without tools, gives what there is, and the answer is not complete.

    Without `answered` beside it, words end nothing: the model is told to go on, or call the tool.

    Args:
        signal: The signal's name; None for none.
        tool: The tool's name; None for none.

    Raises:
        Misuse: neither, or a name that is none.

    Example:
        >>> stop = any_of(signalled(), max_turns(50))
    """
    if signal is None and tool is None:
        raise Misuse("signalled() listens for nothing; give signal= or tool=")
    needs = Needs(
        signals=() if signal is None else (signal,), finish=() if tool is None else (tool,)
    )

    def stop(transcript: Transcript) -> Verdict:
        if (end := nothing_more(transcript)) is not None:
            return end
        if finishing_call(transcript, tool) is not None:
            return End(EndReason.SIGNALLED, "the agent has ended its work", EndedBy.AGENT)
        if signal in transcript.signals:
            return End(EndReason.SIGNALLED, _said(transcript, signal), EndedBy.PERSON)
        if tool is None or answer_in(transcript) is None:
            return None
        if transcript.revisions.count(SOURCE) >= TIMES:
            return End(EndReason.FAILED, f"it neither worked on nor called {tool}")
        return Advice(Measure.REVISE, _go_on(tool), SOURCE)

    return Condition(stop, needs)


def finishing_call(transcript: Transcript, name: str | None) -> ToolCall | None:
    """Return the call of this tool in the last turn, if it was made and nothing was said since."""
    last = transcript.messages[-1]
    if name is None or not isinstance(last, ToolMessage):
        return None
    right = {each.call_id for each in last.results if each.name == name and not each.is_error}
    reply = next(each for each in reversed(transcript.messages) if isinstance(each, Reply))
    return next((call for call in reply.tool_calls if call.id in right), None)


def finished_with(call: ToolCall) -> str:
    """Return the words of an answer with which the agent has ended its work."""
    answer = call.arguments["answer"]
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def finish_tool(name: str, typed: TypedAnswer | None) -> Tool:
    """Return the tool by which the agent ends its work with an answer of a type, or in words."""
    try:
        return _finish_tool(name, None if typed is None else typed.type)
    except TypeError:  # the type has no hash
        return _finish_tool.__wrapped__(name, None if typed is None else typed.type)


@lru_cache(maxsize=64)
def _finish_tool(name: str, type_: Any) -> Tool:
    async def finish(answer: Any) -> str:
        return "Your work ends here, with this answer."

    finish.__name__ = name
    finish.__annotations__ = {"answer": str if type_ is None else type_, "return": str}
    description = "End your work, and give your answer: call it once nothing is left to do."
    return tool(name=name, description=description, effect=Effect.PURE)(finish)


def _said(transcript: Transcript, signal: str | None) -> str:
    value = transcript.signals[signal or ""]
    word = "" if value is None else " ".join(render(value).split())
    quoted = word if len(word) <= _QUOTED else f"{word[:_QUOTED]}…"
    return f"a person has ended the work{f': {quoted}' if quoted else ''}"


def _go_on(tool: str) -> str:
    return (
        f"Your work is not ended by words: go on with it, or call {tool} with your answer when "
        "nothing is left to do."
    )
