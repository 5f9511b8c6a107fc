"""One tool call as one promise: prepared from what the model asked for, read back as a result.

Its key is ``tools.n/<name>.k`` under the name that the model said, whether there is a tool of that
name or not; what cannot name a key stands as ``unknown_tool``. Its row keeps the call as the model
made it.

Invariants: a call that has an outcome keeps it, whatever became of its tool since; one that was
begun is not judged again. Where no tool can go on with it, nobody knows its outcome, and what it
has left open is closed.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from substrate.agent.arguments import InvalidArguments
from substrate.agent.history.rows import UNKNOWN_TOOL
from substrate.agent.history.suspects import SUSPECTS
from substrate.agent.tool import Tool
from substrate.agent.tool_result import as_json
from substrate.engine.context.context import Context
from substrate.engine.context.pending import Pending
from substrate.engine.failure import failure_of
from substrate.engine.function.arguments import copied
from substrate.engine.run.services import log
from substrate.engine.step.step import Step
from substrate.models.messages import Json, ToolCall
from substrate.values.codec import encode, fingerprint
from substrate.values.errors import InvalidId, Misuse, Paused
from substrate.values.ids import check_name
from substrate.values.records import Effect, JsonText, Kind


def call_of(
    scope: Context, tools: Mapping[str, Tool], call: ToolCall, unmade: str | None = None
) -> Pending[Any]:
    """Return the pending call of a tool; what the model got wrong is its recorded failure.

    `unmade` is why no call of its reply is made, if that is so: it concerns what was not begun.
    """
    name, tool = _name(call), tools.get(call.name)
    recorded, is_inside = scope.recorded(name), scope.has_begun(name)
    if recorded is not None and recorded.is_settled:
        return scope.checkpoint(_step(name, call, partial(_refuse, ""), Effect.PURE))  # only read
    problem = validation_error(tools, call)
    if recorded is None and not is_inside:
        problem = unmade or problem
    elif tool is None or problem or _takes_ctx(tool) != is_inside:
        missing = "its tool has changed since" if tool else str(problem)
        why = f"{call.name!r} was called, and nothing can go on with it: {missing}"
        return scope.give_up(_step(name, call, partial(_refuse, ""), Effect.PURE), why)
    if tool is None or problem is not None:
        return scope.checkpoint(_step(name, call, partial(_refuse, problem or ""), Effect.PURE))
    if recorded is None and not is_inside:
        _check_secrets(scope, tool)
    if _takes_ctx(tool):
        called = scope.call(tool.as_durable(), call.id, call.name, call.arguments)
        assert isinstance(called, Pending)
        return called
    invoke = _invoke if inspect.iscoroutinefunction(tool.function) else _invoke_plainly
    step = _step(name, call, partial(invoke, scope.run_id, tool, call.arguments), tool.effect)
    timeout = tool.timeout.total_seconds() if tool.timeout else None
    wants_key = "idempotency_key" in tool.takes
    return scope.checkpoint(
        replace(
            step,
            retry=tool.retry,
            timeout=timeout,
            wants_key=wants_key,
            keep=partial(as_json, tool.function),
            fault_in=tool.fault_in,
        )
    )


def validation_error(tools: Mapping[str, Tool], call: ToolCall) -> str | None:
    """Say what is wrong with a call, for the model to mend; None when nothing is."""
    tool = tools.get(call.name)
    if tool is None:
        there_are = ", ".join(sorted(tools)) or "none"
        return f"there is no tool {call.name!r}; there are: {there_are}"
    if call.malformed is not None:
        return (
            f"{call.name} was not called: its arguments are not a JSON object: "
            f"{call.malformed[:200]!r}"
        )
    try:
        tool.check(call.arguments)
    except InvalidArguments as error:
        return str(error)
    return None


def _name(call: ToolCall) -> str:
    """Return the name in a call's key. The ordinals tell calls apart that share one."""
    try:
        return check_name(call.name)
    except InvalidId:
        return UNKNOWN_TOOL


def _check_secrets(scope: Context, tool: Tool) -> None:
    """Pause the run before a call whose secret is not there: that is for a person to mend."""
    try:
        for each in tool.secrets:
            each.check()
    except Misuse as error:
        scope.execution.leave(Paused(failure_of(error)))


def _takes_ctx(tool: Tool) -> bool:
    return "ctx" in tool.takes


def _step(name: str, call: ToolCall, function: Callable[..., Any], effect: Effect) -> Step:
    input_ = encode({"call_id": call.id, "tool": call.name, "arguments": call.arguments})
    return Step(
        name=name,
        call=function,
        input=JsonText(input_),
        fingerprint=fingerprint(Kind.STEP.value, name, input_),
        effect=effect,
    )


async def _invoke(run_id: str, tool: Tool, arguments: Mapping[str, Json], **given: str) -> Any:
    with _suspected(run_id, tool):
        return await tool.function(**tool.check(copied(arguments)), **given)


def _invoke_plainly(run_id: str, tool: Tool, arguments: Mapping[str, Json], **given: str) -> Any:
    with _suspected(run_id, tool):
        return tool.function(**tool.check(copied(arguments)), **given)


@contextmanager
def _suspected(run_id: str, tool: Tool) -> Iterator[None]:
    """Log an error of a tool that the model is told and that may be a mistake in its code."""
    try:
        yield
    except SUSPECTS as error:
        if tool.fault_in(error) is None:
            failure = failure_of(error)
            told = (run_id, tool.name, failure.type, failure.place, failure.message)
            log.warning("run %s: the tool %r raised %s%s, and the model is told: %s", *told)
        raise


async def _refuse(problem: str) -> None:
    raise InvalidArguments(problem)
