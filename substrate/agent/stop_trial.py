"""What is wrong with a stop condition: it is tried before a run begins, on made-up transcripts.

A condition is pure, so that tells nobody anything. What it gives must be a verdict, there as in a
run, where the same function looks at it.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_type_hints

from substrate.agent.condition import Condition, Needs, needs_of
from substrate.agent.confidence import SOURCE
from substrate.agent.end import Advice, End, EndedBy, EndReason, Measure, Stop
from substrate.agent.given import named, takes_one
from substrate.agent.returned import wrong_return
from substrate.agent.task import Task
from substrate.agent.transcript import Transcript
from substrate.models.messages import (
    Confidence,
    Invalid,
    Reply,
    StopReason,
    Text,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
)

_OURS = "substrate.agent."  # where the kit's own conditions are
_MANY = 500  # turns of the longest transcript on which a condition is tried
_VERDICT = (
    "give None to go on, or an End with a reason and words, as in "
    '`return End(EndReason.MAX_TURNS, "why") if … else None`: compose any_of(answered(), …)'
)


def stop_fault(stop: object) -> str | None:
    """Say what is wrong with a stop condition, or a part of it; None where nothing is."""
    return _fault(stop) or _endless(stop)


def _endless(stop: Any) -> str | None:
    """Say where an answer neither ends the loop nor goes back: a run could only be paused at it.

    Of conditions that are not the kit's own nobody knows on which answers they end it.
    """
    if not all(str(each.__module__).startswith(_OURS) for each in _leaves(stop)):
        return None
    begun, reply = _begun()
    said = stop(begun + replace(reply, usage=Usage(cost_usd=Decimal(0))))
    if isinstance(said, End) or (isinstance(said, Advice) and said.measure is Measure.REVISE):
        return None
    return (
        "`stop` does not end the loop where the model has answered; compose "
        "any_of(answered(), …), in which answered() stands by itself"
    )


def _leaves(stop: Any) -> Iterator[Any]:
    parts = stop.parts if isinstance(stop, Condition) else ()
    for each in parts:
        yield from _leaves(each)
    if not parts:
        yield stop.decide if isinstance(stop, Condition) else stop


def _fault(stop: object) -> str | None:
    cure = "write a condition, such as any_of(answered(), max_turns(20))"
    if not takes_one(stop):
        return f"`stop` is {named(stop)}; {cure}"
    assert callable(stop)
    if makes_conditions(stop):
        return f"`stop` is {named(stop)}, which makes a condition; call it, or {cure}"
    # Each part by itself: in a composition, the first to end it keeps the others from being asked.
    parts = stop.parts if isinstance(stop, Condition) else ()
    for each in parts:
        if problem := _fault(each):
            return problem.replace("`stop` is", "`stop` has", 1)
    return None if parts else _condition_fault(stop)


def _condition_fault(stop: Callable[[Any], Any]) -> str | None:
    """Say what is wrong with what a condition gives, as tried and as read."""
    needs = needs_of(stop)
    for transcript in _transcripts(needs):
        try:
            said = stop(transcript)
        except Exception:  # noqa: BLE001, S112 - what it needs may be in real tasks alone
            continue
        if inspect.iscoroutine(said):
            said.close()
        if problem := verdict_fault(said) or undeclared(said, needs):
            return f"`stop` is {named(stop)}, and {problem}"
    decide = stop.decide if isinstance(stop, Condition) else stop
    if problem := wrong_return(decide, right=()):
        return f"`stop` is {named(stop)}, which {problem}; {_VERDICT}"
    return None


def verdict_fault(said: object) -> str | None:
    """Say what is wrong with what a condition gave; None where it is a verdict."""
    match said:
        case None | End(EndReason(), str(), EndedBy() | None) | Advice(Measure(), str(), str()):
            return None
    if inspect.iscoroutine(said):
        said = "a coroutine"
    if callable(said):
        return f"it gave {named(said)}: it makes conditions, and is to be called once before"
    return f"it gave {said!r:.200}; {_VERDICT}"


def undeclared(said: object, needs: Needs) -> str | None:
    """Say what a condition asks for that nobody brings along, as it does not say that it needs it.

    That is one that is called inside of another function.
    """
    is_doubt = isinstance(said, Advice) and said.source == SOURCE
    if not is_doubt or needs.confidence is not None:
        return None
    return (
        "it asks confident() inside of a function, so no model is asked how sure it is; compose "
        "them: any_of(confident(0.8), …)"
    )


def condition_fault(condition: object, composer: str) -> str | None:
    """Say what is wrong with one of the conditions that `composer` is given; None if nothing is."""
    if not takes_one(condition) or (callable(condition) and makes_conditions(condition)):
        return (
            f"{composer}() is given {named(condition)}, which is no condition; call what makes "
            "one: answered(), max_turns(20)"
        )
    return None


def makes_conditions(thing: Callable[..., Any]) -> bool:
    """Whether a function says that it returns a condition: `max_turns`, that was not called."""
    try:
        return bool(get_type_hints(thing).get("return") == Stop)
    except (NameError, TypeError, AttributeError):
        return False


_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def _begun() -> tuple[Transcript, Reply]:
    """Return a transcript that has begun, without signals, and a plain answer to it."""
    begun = replace(
        Transcript.begin(Task("What is an ostinato?"), ""), began=_MOMENT, now=_MOMENT, signals={}
    )
    words = (Text("A phrase that persists."),)
    usage = Usage(cost_usd=Decimal(1))
    return begun, Reply(words, StopReason.END, "scripted", "made up", usage)


def _transcripts(needs: Needs) -> Iterable[Transcript]:
    """Give transcripts of every kind that a condition may be asked about."""
    silent, reply = _begun()
    yield silent
    begun = replace(silent, signals=dict.fromkeys(needs.signals))
    for turns in (1, _MANY):
        yield replace(begun, messages=(*begun.messages, reply), replies=(reply,) * turns)
    called = replace(reply, parts=(ToolCall("1", "look", {}),), stop=StopReason.TOOL_CALLS)
    for is_error in (False, True):
        yield begun + called + ToolMessage((ToolResult("1", "look", "So.", is_error),))
    yield begun + replace(reply, stop=StopReason.REFUSAL)
    yield begun + replace(reply, invalid=Invalid("It is no answer.", is_last=True))
    yield begun + replace(reply, confidence=Confidence(0, 1, "all"))
    yield replace(
        begun + called + ToolMessage((ToolResult("1", "look", "No.", is_error=True),)),
        replies=(called,) * _MANY,
        failures=_MANY,
        is_warned=True,
        now=_MOMENT + timedelta(days=3650),
    )
