"""Whether a reply is what was asked for, and else what the model is told of it.

A reply of which at least one call can be made is one: the wrong calls have results that say what is
wrong. An empty reply, one that was cut off, and an answer that does not fit its type are none.
"""

from collections.abc import Mapping
from dataclasses import replace

from substrate.agent.confidence import Asked
from substrate.agent.hook_fault import hook_in_step
from substrate.agent.tool import Tool
from substrate.agent.tool_call import check_call
from substrate.models.messages import Invalid, Reply, StopReason
from substrate.models.model import Model


def validated(
    tools: dict[str, Tool],
    typed: Asked | None,
    limits: Mapping[str, int | None],
    reply: Reply,
    *,
    is_last: bool,
) -> Reply:
    """Return the reply, marked where none of its calls can be made, or it is no answer."""
    if reply.stop is StopReason.REFUSAL:
        return reply  # which is an answer, and ends the loop
    problem: str | None = None
    if reply.stop is StopReason.LENGTH and (reply.tool_calls or not reply.text.strip()):
        problem = _cut_off(reply, limits)
    elif reply.tool_calls:
        with hook_in_step("tools"):
            problem = _problems(tools, reply)
    elif typed is not None:
        with hook_in_step("answer"):
            problem = typed.problem(reply)
            reply = reply if problem else typed.marked(reply)
    elif not reply.text.strip():
        problem = "Your reply was empty. Give your answer in words, or call a tool."
    return reply if problem is None else replace(reply, invalid=Invalid(problem, is_last))


def _problems(tools: dict[str, Tool], reply: Reply) -> str | None:
    """Say what is wrong with the calls of a reply; None where at least one can be made."""
    problems = []
    for call in reply.tool_calls:
        checked = check_call(tools, call)
        if not isinstance(checked, str):
            return None
        problems.append(checked)
    return "\n".join(problems)


def why_not_called(reply: Reply) -> str | None:
    """Say why no call of a reply is made; None where its calls are meant.

    The last call of a reply that was cut off is not whole, though it may look so; a reply that its
    provider refused or filtered is to have no effect.
    """
    if reply.stop is StopReason.LENGTH:
        return reply.invalid.problems if reply.invalid else _cut_off(reply, {})
    if reply.stop is StopReason.REFUSAL:
        return "not called: the reply that asks for it was refused"
    return None


def _cut_off(reply: Reply, limits: Mapping[str, int | None]) -> str:
    limit = limits.get(reply.model)
    size = f" ({limit} tokens)" if limit else ""
    done = "nothing of this reply was executed" if reply.tool_calls else "nothing of it came"
    return f"cut off at the longest output{size}: {done}; make it shorter"


def longest_outputs(model: Model) -> dict[str, int | None]:
    """Return the longest output of each model that may answer, by its name; None is its own."""
    others = [each.model for each in model.successors if isinstance(each.model, Model)]
    return {each.name: each.max_output_tokens for each in (*others, model)}
