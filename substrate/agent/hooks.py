"""The hooks as the loop reads them: each is one, or the run is paused (see `hook_fault`).

They are read again at each turn, for their file is edited under running runs.
"""

from collections.abc import Callable, Sequence
from typing import Any

from substrate.agent.answer_type import TypedAnswer, typed_answer_of
from substrate.agent.checks import Checks
from substrate.agent.checks import checks_of as as_checks
from substrate.agent.condition import needs_of
from substrate.agent.confidence import Asked, ConfidentAnswer
from substrate.agent.end import Verdict
from substrate.agent.hook_checks import same_name
from substrate.agent.hook_fault import hook
from substrate.agent.stop_trial import undeclared, verdict_fault
from substrate.agent.tool import Tool, as_tool
from substrate.engine.context.context import Context
from substrate.engine.function.place import in_place
from substrate.models.model import Model
from substrate.models.panel import Answering, Panel
from substrate.values.errors import Misuse

Tools = Sequence[Tool | Callable[..., Any]]
"""The hook `tools`: tools, and functions that are one with the defaults."""

AnswerType = type[Any] | TypedAnswer | ConfidentAnswer | None
"""What an answer is to be: a class with named fields, as the hook `answer` says; None for words.

A `ConfidentAnswer` of it has the model say how sure it is.
"""


def read(ctx: Context, hooks: object, name: str) -> Any:
    """Return a hook of a module or an object."""
    with hook(ctx, name):
        try:
            return getattr(hooks, name)
        except AttributeError as error:
            if error.obj is not hooks or error.name != name:
                raise
            raise Misuse(f"there is no `{name}`; hooks are prompt, model, tools and stop") from None


def verdict_of(ctx: Context, stop: Callable[[Any], Any], transcript: object) -> Verdict:
    """Ask the hook `stop`, and return what it says."""
    with hook(ctx, "stop"):
        said: Verdict = stop(transcript)
        if problem := verdict_fault(said) or undeclared(said, needs_of(stop)):
            raise Misuse(f"{problem}{in_place(stop)}")
        return said


def tools_of(ctx: Context, tools: Sequence[Tool | Callable[..., Any]]) -> list[Tool]:
    """Return the hook `tools` as tools."""
    with hook(ctx, "tools"):
        if isinstance(tools, str | Tool) or not isinstance(tools, Sequence):
            raise Misuse(f"it is {tools!r}; give a list of tools, even of one or none")
        known = [as_tool(each) for each in tools]
        if problem := same_name(known):
            raise Misuse(problem)
        return known


def checks_of(ctx: Context, checks: object) -> Checks:
    """Return the hook `checks`."""
    with hook(ctx, "checks"):
        return as_checks(checks)


def model_of(ctx: Context, model: Answering) -> Answering:
    """Return the hook `model`."""
    with hook(ctx, "model"):
        if not isinstance(model, Model | Panel):
            raise Misuse(f"it is {model!r}; write Model('provider:name'), or Panel([…], merge=…)")
        return model


def typed_of(ctx: Context, answer: Any) -> Asked | None:
    """Return the hook `answer` as what a reply is read by; None for words."""
    with hook(ctx, "answer"):
        typed = answer if isinstance(answer, ConfidentAnswer) else typed_answer_of(answer)
        if typed is not None:
            _ = typed.schema  # a type that has none is found out now
        return typed
