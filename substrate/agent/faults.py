"""What is wrong with a hook, told before a run begins: what it is, and what to write instead.

A prompt is not rendered for it, and no model is asked. A stop condition is pure, so it is tried on
transcripts that are made up: what it gives for them must be a verdict.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_type_hints

from substrate.agent.answer_type import typed_answer_of
from substrate.agent.checks import Rubric, Schema, checks_of
from substrate.agent.condition import Condition, Needs, needs_of
from substrate.agent.confidence import SOURCE, ConfidentAnswer
from substrate.agent.end import Advice, End, EndedBy, EndReason, Measure, Stop
from substrate.agent.prompt import Prompt
from substrate.agent.returned import returns_nothing, wrong_return
from substrate.agent.signalled import finish_tool
from substrate.agent.task import Task
from substrate.agent.tool import Tool, as_tool
from substrate.agent.transcript import Transcript
from substrate.engine.function.place import described
from substrate.engine.function.unawaited import unawaited
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
from substrate.models.model import Model
from substrate.models.panel import Panel, tools_problem
from substrate.values.errors import Misuse

_MANY = 500  # turns of the longest transcript on which a condition is tried
_VERDICT = (
    "give None to go on, or an End with a reason and words, as in "
    '`return End(EndReason.MAX_TURNS, "why") if … else None`: compose any_of(answered(), …)'
)


def prompt_fault(prompt: object) -> str | None:
    """Say what is wrong with a prompt; None where nothing is."""
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, Prompt):
        wrong = (prompt_fault(text) for text in prompt.texts.values())
        return next((each for each in wrong if each), None)
    cure = "write text, or def prompt(task: Task) -> str"
    if not takes_one(prompt):
        return f"`prompt` is {named(prompt)}; {cure}"
    if inspect.iscoroutinefunction(prompt):
        return f"`prompt` is {named(prompt)}, which is async; write a plain def: a step can await"
    if returns_nothing(prompt):
        return f"`prompt` is {named(prompt)}, which returns nothing; end it with `return …`: text"
    return None


def model_fault(model: object) -> str | None:
    """Say what is wrong with a model; None where nothing is."""
    if isinstance(model, Model):
        return None
    if not isinstance(model, Panel):
        return f'`model` is {named(model)}; write Model("provider:name")'
    return _merge_fault(model.merge) if callable(model.merge) else None


def _merge_fault(merge: Callable[..., Any]) -> str | None:
    """Say what is wrong with a merge that is a function; None where nothing is."""
    if not takes_one(merge):
        return f"`model` merges by {named(merge)}; give it one parameter: (votes)"
    if returns_nothing(merge):
        return f"`model` merges by {named(merge)}, which returns nothing; return a vote, or words"
    if inspect.isgeneratorfunction(merge) or inspect.isasyncgenfunction(merge):
        return f"`model` merges by {named(merge)}, which yields; return a vote, or words"
    if problem := unawaited(merge):
        return f"`model` merges by {named(merge)}: in {problem}"
    return None


def tools_fault(tools: object) -> str | None:
    """Say what is wrong with tools; None where nothing is."""
    if isinstance(tools, str | Tool) or not isinstance(tools, Sequence):
        return f"`tools` is {named(tools)}; write a list of functions, even of one or none"
    known: list[Tool] = []
    for thing in tools:
        try:
            known.append(as_tool(thing))
        except (Misuse, TypeError, NameError) as error:
            return f"`tools` has {named(thing)}, which is no tool: {error}"
    for each in known:
        if problem := unawaited(each.function):
            return f"`tools` has {named(each)}: in {problem}"
    return same_name(known)


def same_name(tools: Iterable[Tool]) -> str | None:
    """Say which two tools have one name; None where none have."""
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            return f"`tools` has two called {tool.name!r}; give one another name: @tool(name=…)"
        names.add(tool.name)
    return None


def stop_fault(stop: object) -> str | None:
    """Say what is wrong with a stop condition, or a part of it; None where nothing is."""
    cure = "write a condition, such as any_of(answered(), max_turns(20))"
    if not takes_one(stop):
        return f"`stop` is {named(stop)}; {cure}"
    assert callable(stop)
    if makes_conditions(stop):
        return f"`stop` is {named(stop)}, which makes a condition; call it, or {cure}"
    # Each part by itself: in a composition, the first to end it keeps the others from being asked.
    parts = stop.parts if isinstance(stop, Condition) else ()
    for each in parts:
        if problem := stop_fault(each):
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


def brought_fault(hooks: Any) -> str | None:
    """Say what is wrong with what the condition of hooks brings along; None where nothing is."""
    needs, answer = needs_of(hooks.stop), getattr(hooks, "answer", None)
    try:
        finish = [finish_tool(name, typed_answer_of(answer)) for name in needs.finish]
        if needs.confidence is not None:
            _ = ConfidentAnswer(needs.confidence, typed_answer_of(answer)).schema
    except Misuse as error:
        return f"`stop` cannot be given what it needs: {error}"
    tools = [*map(as_tool, hooks.tools), *needs.tools, *finish]
    model = getattr(hooks, "model", None)
    if tools and isinstance(model, Panel) and not model.may_call_tools:
        return f"`model` cannot be asked: {tools_problem(model)}"
    return same_name(tools)


def judges(hooks: object) -> dict[str, Model]:
    """Return the models that judge the answers of hooks, by the names of their checks."""
    named_checks = checks_of(getattr(hooks, "checks", None)).named
    return {name: each.judge for name, each in named_checks.items() if isinstance(each, Rubric)}


def checks_fault(checks: object) -> str | None:
    """Say what is wrong with checks; None where nothing is."""
    try:
        named_checks = checks_of(checks).named
    except Misuse as error:
        return f"`checks`: {error}"
    for check in named_checks.values():
        if isinstance(check, Rubric | Schema):
            continue
        if not _takes(check, 2):
            return f"`checks` has {named(check)}; give it two parameters: (answer, task)"
        if problem := wrong_return(check, right=(str,)):
            cure = "return None for an answer that passes, else what is wrong with it, in words"
            return f"`checks` has {named(check)}, which {problem}; {cure}"
        if inspect.isgeneratorfunction(check) or inspect.isasyncgenfunction(check):
            return f"`checks` has {named(check)}, which yields; return one text, or None"
        if problem := unawaited(check):
            return f"`checks` has {named(check)}: in {problem}"
    return None


def answer_fault(answer: object) -> str | None:
    """Say what is wrong with the type of an answer; None where nothing is."""
    try:
        typed_answer_of(answer)
    except Misuse as error:
        return f"`answer` cannot be asked for: {error}"
    except Exception as error:  # noqa: BLE001 - pydantic raises several kinds for what is no type
        cause = f"{type(error).__name__}: {error}"
        return f"`answer` is {named(answer)}, which is no type: {cause}; write a class with fields"
    return None


def hooks_fault(hooks: object) -> str | None:
    """Say what is wrong with the first hook that is none; None where nothing is."""
    for name, check in {**HOOK_CHECKS, **OPTIONAL_CHECKS}.items():
        if name in HOOK_CHECKS and not hasattr(hooks, name):
            return f"there is no `{name}`; hooks are {', '.join(HOOK_CHECKS)}"
        if problem := check(getattr(hooks, name, None)):
            return problem
    return brought_fault(hooks)


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


def takes_one(thing: object) -> bool:
    """Whether it can be called with one argument: `answered` cannot, `answered()` can."""
    return _takes(thing, 1)


def _takes(thing: object, count: int) -> bool:
    if not callable(thing):
        return False
    try:
        inspect.signature(thing).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:  # some built-in callables show no signature
        return True
    return True


def makes_conditions(thing: Callable[..., Any]) -> bool:
    """Whether a function says that it returns a condition: `max_turns`, that was not called."""
    try:
        return bool(get_type_hints(thing).get("return") == Stop)
    except (NameError, TypeError, AttributeError):
        return False


def named(thing: object) -> str:
    """Return what a thing is, for a message: a function by its name, a value with its type."""
    if isinstance(thing, Tool):
        return f"the tool {thing.name!r}"
    if callable(thing) and hasattr(thing, "__name__"):
        return f"the {'class' if isinstance(thing, type) else 'function'} {thing.__name__}"
    kind, shown = type(thing).__name__, described(thing)
    shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
    return shown if shown.startswith(kind) or thing is None else f"{kind} {shown}"


HOOK_CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "prompt": prompt_fault,
    "model": model_fault,
    "tools": tools_fault,
    "stop": stop_fault,
}
"""By hook, what says that it is none."""

OPTIONAL_CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "answer": answer_fault,
    "checks": checks_fault,
}
"""The same of those that may be left out."""


def _transcripts(needs: Needs) -> Iterable[Transcript]:
    """Give transcripts of every kind that a condition may be asked about."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    begun = replace(
        Transcript.begin(Task("What is an ostinato?"), ""),
        began=moment,
        now=moment,
        signals=dict.fromkeys(needs.signals),
    )
    yield replace(begun, signals={})
    words = (Text("A phrase that persists."),)
    reply = Reply(words, StopReason.END, "scripted", "made up", Usage(cost_usd=Decimal(1)))
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
        now=moment + timedelta(days=3650),
    )
