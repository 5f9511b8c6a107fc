"""What is wrong with a hook, told before a run begins: what it is, and what to write instead.

A prompt is not rendered for it, and no model is asked; a stop condition is tried: see `stop_trial`.
What goes wrong with a hook in a run is another thing: that pauses the run (see `hook_fault`).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from substrate.agent.answer_type import typed_answer_of
from substrate.agent.checks import Rubric, Schema, checks_of, rubric, schema
from substrate.agent.compact import compact_of
from substrate.agent.condition import needs_of
from substrate.agent.confidence import ConfidentAnswer
from substrate.agent.given import named, takes, takes_one
from substrate.agent.notify import notify_of
from substrate.agent.prompt import Prompt
from substrate.agent.recall_result import RECALL_RESULT
from substrate.agent.returned import returns_nothing, wrong_return
from substrate.agent.signalled import finish_tool
from substrate.agent.stop_trial import stop_fault
from substrate.agent.tool import Tool, as_tool
from substrate.engine.function.unawaited import unawaited
from substrate.models.model import Model
from substrate.models.panel import Answering, Panel, tools_problem
from substrate.values.errors import Misuse


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
    taken = next((each for each in tools if each.name == RECALL_RESULT), None)
    if taken is not None and getattr(hooks, "compact", None) is not None:
        return f"`tools` has {RECALL_RESULT!r}, which `compact` brings along; give it another name"
    model = getattr(hooks, "model", None)
    if tools and isinstance(model, Panel) and not model.may_call_tools:
        return f"`model` cannot be asked: {tools_problem(model)}"
    return same_name(tools)


def judges(hooks: object) -> dict[str, Answering]:
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
        if _makes_checks(check):
            return f"`checks` has {named(check)}, which makes checks; call it, as in rubric(…)"
        if not takes(check, 2):
            return f"`checks` has {named(check)}; give it two parameters: (answer, task)"
        if problem := wrong_return(check, right=(str,)):
            cure = "return None for an answer that passes, else what is wrong with it, in words"
            return f"`checks` has {named(check)}, which {problem}; {cure}"
        if inspect.isgeneratorfunction(check) or inspect.isasyncgenfunction(check):
            return f"`checks` has {named(check)}, which yields; return one text, or None"
        if problem := unawaited(check):
            return f"`checks` has {named(check)}: in {problem}"
    return None


def compact_fault(compact: object) -> str | None:
    """Say what is wrong with what is left out of a full context; None where nothing is."""
    try:
        compact_of(compact)
    except Misuse as error:
        return f"`compact`: {error}"
    return None


def _makes_checks(thing: object) -> bool:
    return thing is rubric or thing is schema


def notify_fault(notify: object) -> str | None:
    """Say what is wrong with who is told of gates; None where nothing is."""
    try:
        notifiers = notify_of(notify).notifiers
    except Misuse as error:
        return str(error)
    for each in notifiers:
        if not takes_one(each):
            return f"`notify` has {named(each)}; give it one parameter: (notice)"
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            return f"`notify` has {named(each)}, which yields; tell people in it, and return"
        if problem := unawaited(each):
            return f"`notify` has {named(each)}: in {problem}"
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
    "compact": compact_fault,
    "notify": notify_fault,
}
"""The same of those that may be left out."""
