"""A handoff is taken: whom the conversation goes to, and what is sent from there.

Invariants: a recorded handoff was made, whatever tools there are now, and none is made up for a
turn that is recorded; what is recorded of the new prompt is what is sent.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from substrate.agent.handoff_tool import HandoffTool, target_of
from substrate.agent.history.keys import HANDOFF
from substrate.agent.history.rows import value_of
from substrate.agent.hook_fault import fault_of
from substrate.agent.hooks import read
from substrate.agent.named_step import named_step
from substrate.agent.prompt import opening
from substrate.agent.recorded import before, is_ahead, turn_ahead
from substrate.agent.recorded import read as read_row
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.engine.step.step import Step
from substrate.models.messages import Json, ToolCall, ToolMessage


async def follow(
    ctx: Context, first: object, tools: Sequence[Tool], told: ToolMessage, transcript: Transcript
) -> tuple[object | None, Transcript]:
    """Return the hooks that the loop goes on with, and the transcript; None where none is new.

    `told` are the results of the turn, `first` the hooks that the run began with.
    """
    if is_ahead(ctx, HANDOFF):
        row = await read_row(ctx, HANDOFF)
    elif turn_ahead(ctx, transcript) is not None or (tool := _called(tools, told)) is None:
        return None, transcript
    else:
        row = await ctx.checkpoint(_step(ctx, tool, transcript)).settled()
    recorded = value_of(row) or {}
    version = (recorded["prompt"], recorded["version"]) if "version" in recorded else None
    return target_of(first, recorded["to"]), transcript.handed_over(
        recorded["to"], recorded["system"], version
    )


def refusals(tools: Sequence[Tool], calls: Sequence[ToolCall], present: object) -> list[str | None]:
    """Say of each call why the conversation is not handed over by it; None where nothing is."""
    known = {each.name: each for each in tools if isinstance(each, HandoffTool)}
    to: str | None = None
    found: list[str | None] = []
    for call in calls:
        tool = known.get(call.name)
        if tool is None:
            found.append(None)
        elif present is None:
            found.append("not called: this loop hands nothing over")
        elif tool.hooks is present:
            found.append(f"not called: you are {tool.to}")
        elif to is not None:
            found.append(f"not called: the conversation goes to {to} already")
        else:
            to = tool.to
            found.append(None)
    return found


def _called(tools: Sequence[Tool], told: ToolMessage) -> HandoffTool | None:
    """Return the tool by which this turn has handed over."""
    known = {each.name: each for each in tools if isinstance(each, HandoffTool)}
    good = (known.get(each.name) for each in told.results if not each.is_error)
    return next((each for each in good if each is not None), None)


def _step(ctx: Context, tool: HandoffTool, transcript: Transcript) -> Step:
    prompt = read(ctx, tool.hooks, "prompt")

    async def render() -> Json:
        return {"to": tool.to, **opening(prompt, transcript.task, ctx.run_id)}

    step = named_step(HANDOFF, render, before(ctx))
    return replace(step, pause_on=(BaseException,), fault_in=partial(fault_of, "prompt"))
