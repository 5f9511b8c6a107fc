"""One tool call as one promise: prepared from what the model asked for, read back as a result.

Its key is ``tools.n/<name>.k`` under the name that the model said, whether there is a tool of that
name or not; what cannot name a key stands as ``unknown_tool``. Its row keeps the call as the model
made it.

A person may have to be asked before a call is made: see `approval`.

Invariants: a call that has an outcome keeps it, whatever became of its tool since; one that was
begun is not judged again. Where no tool can go on with it, nobody knows its outcome, and what it
has left open is closed.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from substrate.agent.approval import (
    Allowed,
    Decided,
    Denied,
    allowed_before,
    decide_call,
    denied_since,
)
from substrate.agent.history.keys import UNKNOWN_TOOL
from substrate.agent.history.result import CallDenied, CallDeniedForGood, StillAsked
from substrate.agent.history.suspects import SUSPECTS
from substrate.agent.hook_fault import hook
from substrate.agent.tool import Tool
from substrate.agent.tool_result import as_json
from substrate.agent.tool_schema import InvalidArguments
from substrate.engine.context.context import Context
from substrate.engine.context.pending import Pending
from substrate.engine.failure import failure_of
from substrate.engine.function.arguments import copied
from substrate.engine.run.services import log
from substrate.engine.step.step import Step
from substrate.models.messages import Json, ToolCall
from substrate.values.codec import encode, fingerprint
from substrate.values.errors import InvalidId, Misuse
from substrate.values.ids import Key, check_name
from substrate.values.records import Effect, JsonText, Kind


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call that can be made."""

    #: The tool.
    tool: Tool
    #: What the model gave, as the tool's own types.
    arguments: dict[str, Any]


def check_call(tools: Mapping[str, Tool], call: ToolCall) -> CheckedCall | str:
    """Return the call as it can be made; or what is wrong with it, for the model to mend."""
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
        return CheckedCall(tool, tool.check(copied(call.arguments)))
    except InvalidArguments as error:
        return str(error)


def call_of(
    scope: Context,
    tools: Mapping[str, Tool],
    call: ToolCall,
    *,
    key: Key,
    not_called: str | None = None,
    begins: Callable[[], Callable[[Context], None]] | None = None,
    decided: Decided | None = None,
) -> Pending[Any]:
    """Return the pending call of a tool; what the model got wrong is its recorded failure.

    `key` is the call's, which was taken. `not_called` is why no call of its reply is made, if that
    is so: it concerns what was not begun. `begins` gives for a call of a tool that takes a `ctx`
    what is done before it with its context. `decided` is what was decided of it just now.
    """
    name = call_name(call)
    recorded, is_inside = scope.recorded_at(key), scope.has_begun_at(key)
    if recorded is not None and recorded.is_settled:
        return _refused(scope, key, call, "")  # it is only read
    with hook(scope, "tools"):
        checked = check_call(tools, call)
    if recorded is None and not is_inside:
        if not_called is not None or isinstance(checked, str):
            return _refused(scope, key, call, not_called or str(checked))
        check_secrets(scope, checked.tool)
    elif isinstance(checked, str) or _takes_ctx(checked.tool) != is_inside:
        # It was begun, and may have had its effect: it is neither refused nor begun anew.
        missing = "its tool has changed since" if call.name in tools else str(checked)
        why = f"{call.name!r} was called, and nothing can go on with it: {missing}"
        return scope.abandon(_step(name, call, partial(_refuse, ""), Effect.PURE), why, key)
    # A call that was begun goes on with what was approved, or put in its place by a person.
    has_begun = recorded is not None or is_inside
    before = allowed_before(scope, key, checked.tool) if has_begun else Allowed()
    if before.is_edited and (wrong := _misfit(checked.tool, before.arguments or {})):
        why = f"{call.name!r} was called as a person wanted it, and takes that no more: {wrong}"
        return scope.abandon(_step(name, call, partial(_refuse, ""), Effect.PURE), why, key)
    begin = begins() if begins and _takes_ctx(checked.tool) else _begin_with_nothing

    def made_with(allowed: Allowed) -> Pending[Any]:
        return _made(scope, key, call, checked, begin=begin, allowed=allowed)

    made = made_with(before)
    if is_inside:
        return made  # it was begun, so nobody is asked about it any more
    first = partial(_decide_first, scope, key, call, checked, decided=decided, made_with=made_with)
    return made.after(first)


async def _decide_first(
    scope: Context,
    key: Key,
    call: ToolCall,
    checked: CheckedCall,
    *,
    decided: Decided | None,
    made_with: Callable[[Allowed], Pending[Any]],
) -> Pending[Any] | None:
    """Ask the rules and people; return what is done in a call's place, None where it is made."""
    if decided is None:
        decided = await decide_call(scope.inside(key), checked.tool, checked.arguments)
    if isinstance(decided, Denied):
        refuse = partial(_deny, decided)
        return scope.checkpoint(_step(call_name(call), call, refuse, Effect.PURE), key)
    return None if decided == Allowed() else made_with(decided)


def _misfit(tool: Tool, arguments: Mapping[str, Json]) -> str | None:
    """Say why a tool does not take these arguments; None where it does."""
    try:
        tool.check(copied(arguments))
    except InvalidArguments as error:
        return str(error)
    return None


def _begin_with_nothing(ctx: Context) -> None:
    """Do nothing before a call."""


def _made(
    scope: Context,
    key: Key,
    call: ToolCall,
    checked: CheckedCall,
    *,
    begin: Callable[[Context], None],
    allowed: Allowed,
) -> Pending[Any]:
    """Return the call itself, with the arguments that are allowed; the row tells a person's own."""
    tool, name, ran = checked.tool, call_name(call), allowed.arguments
    edited = ran if allowed.is_edited else None
    if _takes_ctx(tool):
        shown = {"call_id": call.id, "tool": call.name, "arguments": call.arguments}
        return scope.call_as(key, tool.as_durable(begin, ran), shown)
    invoke = _invoke if inspect.iscoroutinefunction(tool.function) else _invoke_plainly
    own = checked.arguments if ran is None else tool.check(copied(ran))
    sent = call.arguments if ran is None else ran
    given = _ForEachAttempt(tool, sent, own)

    async def refuses(failed: int) -> Exception | None:
        denied = await denied_since(scope, tool, sent, allowed.agent, failed)
        return None if denied is None else _denial(denied)

    return scope.checkpoint(
        replace(
            _step(name, call, partial(invoke, scope.run_id, tool, given), tool.effect, edited),
            retry=tool.retry,
            timeout=tool.timeout.total_seconds() if tool.timeout else None,
            wants_key="idempotency_key" in tool.takes,
            keep=partial(as_json, tool.function),
            fault_in=tool.fault_in,
            refuses=refuses,
        ),
        key,
    )


class _ForEachAttempt:
    """What each attempt of a call is given: those that were checked, then others like them.

    A function may change what it is given, so no two attempts share an object.
    """

    __slots__ = ("_arguments", "_checked", "_tool")

    def __init__(self, tool: Tool, arguments: Mapping[str, Json], checked: dict[str, Any]) -> None:
        self._tool = tool
        self._arguments = arguments
        self._checked: dict[str, Any] | None = checked

    def next(self) -> dict[str, Any]:
        """Return the arguments of the next attempt."""
        checked, self._checked = self._checked, None
        return self._tool.check(copied(self._arguments)) if checked is None else checked


def _refused(scope: Context, key: Key, call: ToolCall, problem: str) -> Pending[Any]:
    step = _step(call_name(call), call, partial(_refuse, problem), Effect.PURE)
    return scope.checkpoint(step, key)


def still_asked(scope: Context, key: Key, call: ToolCall, why: str) -> Pending[Any]:
    """Return the pending row of a call that is not made, since the same one waits for a person."""

    async def tell() -> None:
        raise StillAsked(why)

    return scope.checkpoint(_step(call_name(call), call, tell, Effect.PURE), key)


def call_name(call: ToolCall) -> str:
    """Return the name in a call's key. The ordinals tell calls apart that share one."""
    try:
        return check_name(call.name)
    except InvalidId:
        return UNKNOWN_TOOL


def check_secrets(scope: Context, tool: Tool) -> None:
    """Pause the run before a call whose secret is not there: that is for a person to mend."""
    try:
        for each in tool.secrets:
            each.check()
    except Misuse as error:
        scope.pause(failure_of(error))


def _takes_ctx(tool: Tool) -> bool:
    return "ctx" in tool.takes


def _step(
    name: str,
    call: ToolCall,
    function: Callable[..., Any],
    effect: Effect,
    edited: Mapping[str, Json] | None = None,
) -> Step:
    asked = {"call_id": call.id, "tool": call.name, "arguments": call.arguments}
    shown = asked if edited is None else {**asked, "ran": dict(edited)}
    return Step(
        name=name,
        call=function,
        input=JsonText(encode(shown)),
        # What the model asked for, whatever a person has made of it.
        fingerprint=fingerprint(Kind.STEP.value, name, encode(asked)),
        effect=effect,
    )


async def _invoke(run_id: str, tool: Tool, arguments: _ForEachAttempt, **given: str) -> Any:
    with _suspected(run_id, tool):
        return await tool.function(**arguments.next(), **given)


def _invoke_plainly(run_id: str, tool: Tool, arguments: _ForEachAttempt, **given: str) -> Any:
    with _suspected(run_id, tool):
        return tool.function(**arguments.next(), **given)


@contextmanager
def _suspected(run_id: str, tool: Tool) -> Iterator[None]:
    """Log an error of a tool that the model is told and that may be a mistake in its code."""
    try:
        yield
    except SUSPECTS as error:
        if tool.fault_in(error) is None:
            failure = failure_of(error)
            details = (run_id, tool.name, failure.type, failure.place, failure.message)
            log.warning("run %s: the tool %r raised %s%s, and the model is told: %s", *details)
        raise


async def _refuse(problem: str) -> None:
    raise InvalidArguments(problem)


async def _deny(denied: Denied) -> None:
    raise _denial(denied)


def _denial(denied: Denied) -> CallDenied:
    return (CallDeniedForGood if denied.fails else CallDenied)(denied.message)
