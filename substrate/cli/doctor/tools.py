"""The tools, each with who is asked before a call; and what an answer passes. None is called."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from substrate.agent.checks import checks_of
from substrate.agent.given import named
from substrate.agent.notify import notify_of
from substrate.agent.tool import Tool, as_tool
from substrate.cli.doctor.finding import Finding, fail, ok, warn
from substrate.values.errors import Misuse
from substrate.values.records import Effect


def look_at_tools(tools: Sequence[Any], agent: str = "") -> Iterator[Finding]:
    """Say of each tool what it takes, what a crash in its middle means, and what it lacks.

    `agent` is whose they are, where they are those of another agent of the fork.
    """
    of = f" of {agent}" if agent else ""
    if not tools:
        yield ok(f"tools{of}", "there are none")
    for tool in map(as_tool, tools):
        yield from _look(tool, f"tool {tool.name}{of}")


def _look(tool: Tool, about: str) -> Iterator[Finding]:
    for each in tool.secrets:
        try:
            each.check()
        except Misuse as error:
            yield fail(about, str(error))
    takes = ", ".join(tool.spec.parameters.get("properties", {})) or "nothing"
    takes += _asking(tool)
    if "ctx" in tool.takes:
        yield ok(about, f"takes {takes}; its steps say their effects")
    elif tool.effect is Effect.ONCE and says_effect(tool.function) is False:
        yield warn(
            about,
            f"takes {takes}; it says no effect, and so is `once`: after a crash in its middle it "
            "is not called again, and nobody knows whether it happened",
            '@tool(effect="pure") where it only reads, "idempotent" with an idempotency_key, or '
            'effect="once" where that is what is meant',
        )
    else:
        key = "" if "idempotency_key" in tool.takes else ", and takes no idempotency_key"
        more = key if tool.effect is Effect.IDEMPOTENT else ""
        yield ok(about, f"takes {takes}; {tool.effect.value}{more}")


def _asking(tool: Tool) -> str:
    """Say who is asked before a call, and of which calls; nothing where nobody is."""
    policy = tool.approve
    if policy is None:
        return ""
    when = "each call" if policy.when is None else f"the calls that {named(policy.when)} says"
    wait = "" if policy.wait else ", and the agent goes on meanwhile"
    return f"; {policy.to or 'a person'} is asked before {when}{wait}"


def look_at_people(hooks: Any, agent: str = "") -> Iterator[Finding]:
    """Say who is told where a person is asked, and what an answer has to pass."""
    of = f" of {agent}" if agent else ""
    if checks := checks_of(getattr(hooks, "checks", None)).named:
        yield ok(f"checks{of}", f"an answer has to pass {', '.join(checks)}")
    told = notify_of(getattr(hooks, "notify", None)).notifiers
    if told:
        yield ok(f"notify{of}", f"who is asked is told by {', '.join(map(named, told))}")
    elif any(tool.approve for tool in map(as_tool, hooks.tools)):
        yield ok(f"notify{of}", "nobody is told that a person is asked: `approvals` lists that")


def says_effect(function: Callable[..., Any]) -> bool | None:
    """Return whether a tool's decorator names its effect; None where its source is not there.

    One that a function makes, as those of skills are, says it there.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    [*defined] = (
        each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    if len(defined) != 1 or "<locals>" in getattr(function, "__qualname__", ""):
        return None
    calls = (each for each in defined[0].decorator_list if isinstance(each, ast.Call))
    return any(word.arg == "effect" for call in calls for word in call.keywords)
