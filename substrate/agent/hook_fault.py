"""A fault in a hook stops the run where it is: it is paused, and goes on once the hook is mended.

Hooks are edited under running runs. What raises there, or gives back something that is none of what
a hook gives, is a mistake in a file, no outcome of the run: nothing is undone for it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from substrate.agent.end import Verdict
from substrate.agent.faults import same_name, verdict_fault
from substrate.agent.tool import Tool, as_tool
from substrate.engine.context.context import Context
from substrate.engine.failure import failure_of
from substrate.engine.function.place import in_place
from substrate.models.model import Model
from substrate.values.errors import Misuse


@contextmanager
def hook(ctx: Context, name: str) -> Iterator[None]:
    """Pause the run where the block raises; the message names the hook and the remedy.

    The block calls no operation of `ctx`: what a step raises is the run's own.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a hook is user code
        failure = failure_of(error)
        at = f" ({failure.frame[0]}:{failure.frame[1]})" if failure.frame else ""
        message = f"the hook `{name}`{at} is at fault: {failure.type}: {failure.message}"
        message += "; mend it, and resume the run: it goes on from here"
        ctx.pause(replace(failure, message=message))


def verdict_of(ctx: Context, stop: Callable[[Any], Any], transcript: object) -> Verdict:
    """Ask the hook `stop`, and return what it says."""
    with hook(ctx, "stop"):
        said: Verdict = stop(transcript)
        if problem := verdict_fault(said):
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


def model_of(ctx: Context, model: Model) -> Model:
    """Return the hook `model`."""
    with hook(ctx, "model"):
        if not isinstance(model, Model):
            raise Misuse(f"it is {model!r}; write Model('provider:name')")
        return model
