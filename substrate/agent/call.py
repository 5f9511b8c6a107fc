"""One tool call as one promise: prepared from what the model asked for, read back as a result."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from substrate.agent.tool import InvalidArguments, Tool, jsonable, render
from substrate.engine.context import Context
from substrate.engine.failure import decode_failure
from substrate.engine.pending import Pending
from substrate.engine.step import Step
from substrate.models.messages import Json, ToolCall, ToolResult
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.records import Effect, Kind, Promise, PromiseState
from substrate.values.records import Json as JsonText

UNKNOWN_TOOL = "unknown_tool"


def call_of(scope: Context, tools: Mapping[str, Tool], call: ToolCall) -> Pending[Any]:
    """Return the pending call of a tool; what the model got wrong is its recorded failure."""
    tool = tools.get(call.name)
    problem = problem_of(tools, call)
    if tool is None or problem is not None:
        name = tool.name if tool else UNKNOWN_TOOL
        return scope.perform(_step(name, call, partial(_refuse, problem or ""), Effect.PURE))
    if "ctx" in tool.takes:
        return scope.call(tool.as_durable(), call.arguments)
    invoke = _invoke if inspect.iscoroutinefunction(tool.function) else _invoke_plainly
    step = _step(tool.name, call, partial(invoke, tool, call.arguments), tool.effect)
    timeout = tool.timeout.total_seconds() if tool.timeout else None
    wants_key = "idempotency_key" in tool.takes
    return scope.perform(replace(step, retry=tool.retry, timeout=timeout, wants_key=wants_key))


def result_of(call: ToolCall, promise: Promise) -> ToolResult:
    """Return what the model is told of a settled call."""
    if promise.state is PromiseState.RESOLVED:
        value = decode(promise.value or JsonText("null"))
        return ToolResult(call.id, call.name, render(value))
    failure = decode_failure(promise)
    is_ours = failure.type == InvalidArguments.__name__
    told = failure.message if is_ours else f"{failure.type}: {failure.message}"
    return ToolResult(call.id, call.name, told, is_error=True)


def problem_of(tools: Mapping[str, Tool], call: ToolCall) -> str | None:
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


def _step(name: str, call: ToolCall, function: Callable[..., Any], effect: Effect) -> Step:
    input_ = encode({"call_id": call.id, "tool": call.name, "arguments": call.arguments})
    return Step(
        name=name,
        call=function,
        input=JsonText(input_),
        fingerprint=fingerprint(Kind.STEP.value, name, input_),
        effect=effect,
    )


async def _invoke(tool: Tool, arguments: Mapping[str, Json], **given: str) -> Json:
    return jsonable(await tool.function(**tool.check(arguments), **given))


def _invoke_plainly(tool: Tool, arguments: Mapping[str, Json], **given: str) -> Json:
    return jsonable(tool.function(**tool.check(arguments), **given))


async def _refuse(problem: str) -> None:
    raise InvalidArguments(problem)
