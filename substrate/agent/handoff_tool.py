"""A tool that gives the conversation away: what the loop knows it by, and where it leads.

Invariant: an agent that a run was handed to is found by its name, from the hooks that the run began
with: what they hand over to, and what those do in their turn.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from substrate.agent.tool import Tool, as_tool
from substrate.values.errors import Misuse


@dataclass(frozen=True, slots=True)
class HandoffTool(Tool):
    """A tool by which the model gives the conversation to another agent."""

    #: The other agent's name.
    to: str = ""
    #: Its hooks.
    hooks: Any = None

    @classmethod
    def of(cls, tool: Tool, to: str, hooks: object) -> "HandoffTool":
        """Return a tool as one that hands over to these hooks."""
        given = {each.name: getattr(tool, each.name) for each in fields(Tool)}
        return cls(**given, to=to, hooks=hooks)


@dataclass(frozen=True, slots=True)
class Gone:
    """In the place of an agent that no hooks hand over to any more: each of its hooks raises."""

    #: Its name.
    name: str

    def __getattr__(self, hook: str) -> Any:
        raise Misuse(
            f"the run was handed over to the agent {self.name!r}, and no tool of the hooks hands "
            f"over to that any more; bring handoff({self.name}) back"
        )


def target_of(first: object, name: str) -> object:
    """Return the hooks of the agent of this name, as they can be reached from the first ones."""
    ahead, seen = deque([first]), {id(first)}
    while ahead:
        hooks = ahead.popleft()
        for tool in handoffs_in(getattr(hooks, "tools", ())):
            if tool.to == name:
                return tool.hooks
            if id(tool.hooks) not in seen:
                seen.add(id(tool.hooks))
                ahead.append(tool.hooks)
    return Gone(name)


def handoffs_in(tools: Iterable[object]) -> list[HandoffTool]:
    """Return the tools that hand over."""
    return [each for each in tools if isinstance(each, HandoffTool)]


def handoff_fault(hooks: object) -> str | None:
    """Say which tool hands over to the very agent that has it; None where none does."""
    tools = map(as_tool, getattr(hooks, "tools", ()))
    for each in handoffs_in(tools):
        if each.hooks is hooks:
            return f"`tools` has {each.name!r}, which hands the conversation over to itself"
    return None
