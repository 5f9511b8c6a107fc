"""`handoff`: a tool by which an agent gives the conversation to another one, for good.

The same run goes on, with its transcript and its inbox. From the next turn on the other agent's
prompt, model, tools and stop are asked; the budgets, the type of the answer and the checks stay
those of the agent that the run began with.
"""

import inspect
from types import ModuleType

from substrate.agent.agent import Agent, durable_of
from substrate.agent.handoff_tool import HandoffTool
from substrate.agent.loop import Hooks
from substrate.agent.policy import Approve, Policy
from substrate.agent.tool import Tool, tool
from substrate.values.errors import Misuse


def handoff(
    agent: Agent | ModuleType | Hooks,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: Approve | None = None,
) -> Tool:
    """Make a tool by which the model gives the conversation to another agent.

    The run, its transcript and its inbox stay; ``handoff.n`` is the row. From the next turn on the
    other agent's prompt, model, tools and stop count, with turns counted from there; budgets, the
    type of the answer and the checks are those of the agent that the run began with. Of several in
    one turn the first counts, and the model is told.

    Args:
        agent: An `Agent`, or a module of hooks that says its `name`.
        name: What the model calls it; ``hand_over_to_`` and the agent's name, if not told
            otherwise.
        description: What the model chooses it by; a module's docstring, or that the agent goes on
            from there, if not told otherwise.
        approve: Whether a person is asked before that, as for any tool: see `tool`.

    Raises:
        Misuse: it is no agent with a name of its own, or `approve` does not wait.

    Example:
        >>> billing = Agent("billing", "Settle it.", Model("scripted:billing", script=["Settled."]))
        >>> handoff(billing, description="For all that is about invoices.").name
        'hand_over_to_billing'
    """
    if isinstance(approve, Policy) and not approve.wait:
        raise Misuse(
            "handoff(approve=Policy(wait=False)): a conversation is given away in its turn, or not "
            "at all; leave wait= out"
        )
    loop = durable_of(agent)
    said = inspect.getdoc(agent) if isinstance(agent, ModuleType) else None
    words = description or said or f"Give this conversation to {loop.name}, who goes on from there."

    async def take_over() -> str:
        return f"{loop.name} goes on with this conversation from here."

    called = f"hand_over_to_{loop.name}" if name is None else name
    made = tool(name=called, description=words, effect="pure", approve=approve)(take_over)
    return HandoffTool.of(made, loop.name, agent)
