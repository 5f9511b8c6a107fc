"""Calls that the loop goes on without while a person is asked: ``Policy(wait=False)``.

=======================  ==========================================================================
``tools.3/pay.0/gate.0``  the gate; in it, all that the model was told at once
``decided.n``             the calls that were decided when the loop looked, in that order
``tools.3/pay.0``         the call's outcome, as of any other
=======================  ==========================================================================

The loop looks before it asks whether it ends, and makes the calls that it finds decided, side by
side. What came of them is one message after what was said until then. It begins with a mark that
the model was told when it asked, so nobody's words are taken for it.

Invariants: a gate tells by itself whether its call is deferred, so that holds whatever the tool's
policy says by now. What was taken in before a turn is in a row, and a turn that is recorded takes
in nothing else. A call has one outcome, and is told once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from substrate.agent.approval import Asked, Decided, ask_about
from substrate.agent.chain import Chain
from substrate.agent.deferrals import Deferral, Deferrals, gate_key
from substrate.agent.events import ToolStart, emit
from substrate.agent.history.keys import DECIDED, MODEL
from substrate.agent.history.result import (
    CallDeniedForGood,
    is_denied_for_good,
    outcome_of,
    result_in,
)
from substrate.agent.history.rows import input_of, is_deferred, value_of
from substrate.agent.hook_fault import hook
from substrate.agent.named_step import named_step
from substrate.agent.notify import current_notify, tell
from substrate.agent.recorded import before, is_ahead, read
from substrate.agent.share import Share
from substrate.agent.shown import call_words, digest_of
from substrate.agent.spent import spent
from substrate.agent.tool import Tool
from substrate.agent.tool_call import call_of, check_call, check_secrets, still_asked
from substrate.agent.unknown import settle_unknown
from substrate.engine.context.context import Context
from substrate.engine.context.gate import GateRequest
from substrate.engine.context.pending import Pending
from substrate.engine.failure import decode_failure
from substrate.models.messages import Json, Text, ToolCall, ToolResult, Usage, UserMessage
from substrate.values.codec import encode
from substrate.values.gates import code_of
from substrate.values.ids import Key
from substrate.values.records import Promise, PromiseState

ToolsOf = Callable[[str], Sequence[Tool]]
"""The tools of an agent, by its name: of the one that has made a call, which is perhaps gone on."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What came of calls that were deferred."""

    #: What the model is told.
    message: UserMessage
    #: The same, as of calls that were waited for.
    results: Sequence[ToolResult]
    #: What is used by now in and below the run, where one of them may have asked models.
    used: Usage | None
    #: The calls about which nobody is asked any more.
    withdrawn: Sequence[str]


async def ask(
    ctx: Context, scope: Context, tools: Mapping[str, Tool], call: ToolCall, key: Key
) -> Promise | Pending[Promise] | Decided | None:
    """Ask about a call that is not waited for.

    Returns the gate where a person is asked; the pending row of a call that is not made, since the
    same one is being asked about; or what rules say of it. None for a call that is to be waited
    for, or that was begun.
    """
    noted, at = Deferrals.of(ctx), gate_key(key)
    asked = scope.recorded_at(at)
    if asked is None and (scope.recorded_at(key) is not None or scope.has_begun_at(key)):
        return None
    if asked is not None:
        if not is_deferred(asked):
            return None
        gate = await scope.ask_aside(_recorded, tell(current_notify()), at)
        noted.calls[key] = Deferral(call, key, gate)
        return gate
    tool = tools.get(call.name)
    waits = tool is None or tool.approve is None or tool.approve.wait
    if tool is None or (waits and not noted.calls):
        return None
    with hook(scope, "tools"):
        checked = check_call(tools, call)
    if isinstance(checked, str):
        return None
    shown = checked.tool.shown(checked.arguments)
    # Whatever this tool's policy says: the one that is asked about had another, before a deploy or
    # a handoff, and both would be made.
    if (open_ := _same(noted, call, digest_of(checked.tool.name, shown))) is not None:
        code = code_of(open_.gate.id)[:_CODE]
        words = call_words(checked.tool.name, shown)
        return still_asked(scope, key, call, _STILL_ASKED.format(call=words, code=code)).settled()
    if waits:
        return None
    check_secrets(scope, checked.tool)
    decided = await ask_about(scope.inside(key), checked.tool, checked.arguments, call)
    if not isinstance(decided, Asked):
        return decided
    noted.calls[key] = Deferral(call, key, decided.gate)
    return decided.gate


_CODE = 8
_STILL_ASKED = (
    "{call} was not called again: a person is being asked about this very call (approval {code}), "
    "which stays open. You are told what comes of it; do not call it meanwhile."
)


def _recorded() -> GateRequest:
    raise AssertionError("a gate that is recorded is not asked anew")


def _same(noted: Deferrals, call: ToolCall, digest: str) -> Deferral | None:
    """Return the deferred call that is the same as this one, if there is one."""
    for each in noted.calls.values():
        given = (each.call.name, encode(each.call.arguments))
        is_same = given == (call.name, encode(call.arguments))
        if is_same or input_of(each.gate).get("digest") == digest:
            return each
    return None


async def take_in(ctx: Context, tools_of: ToolsOf) -> TakenIn | None:
    """Make the calls that are decided by now, and return what came of them; None where none is.

    Where an earlier claim has come further, it is what was taken in then.
    """
    noted = Deferrals.of(ctx)
    found: Mapping[Key, Promise]
    if is_ahead(ctx, DECIDED):
        row, found = await read(ctx, DECIDED), {}  # the gates, too, were read with their outcome
    elif not noted.calls or ctx.is_behind:
        return None
    else:
        if not (found := await ctx.settled_aside(noted.gates)):
            return None
        row = await _note(ctx, noted, found)
    decided = []
    for key in value_of(row) or []:
        if (each := noted.calls.pop(Key(key), None)) is not None:
            decided.append(replace(each, gate=found.get(each.gate.key, each.gate)))
            await ctx.take_up(decided[-1].gate)
    return await _follow(ctx, tools_of, decided, row.key)


async def _note(ctx: Context, noted: Deferrals, found: Mapping[Key, Promise]) -> Promise:
    """Record which calls are taken in before the next turn: those decided first come first."""
    decided = [key for key in noted.calls if gate_key(key) in found]
    decided.sort(key=lambda key: found[gate_key(key)].seq)

    async def note() -> Json:
        return list(decided)

    return await ctx.checkpoint(named_step(DECIDED, note, before(ctx))).settled()


async def withdraw(ctx: Context) -> None:
    """Ask nobody any more: the loop ends. What was decided in the last moment is found decided."""
    if is_ahead(ctx, DECIDED) or ctx.is_behind:
        return
    for each in Deferrals.of(ctx).calls.values():
        if not each.gate.is_settled:
            await ctx.withdraw_aside(each.gate)


async def _follow(
    ctx: Context, tools_of: ToolsOf, decided: Sequence[Deferral], noted_at: Key
) -> TakenIn:
    """Make these calls as they were decided, and tell what came of them."""
    known = {each.key: _tools(tools_of, each) for each in decided}
    asks = [each for each in decided if _takes_ctx(known[each.key].get(each.call.name))]

    def begins(place: int) -> Callable[[Context], None]:
        return Share(ctx, None, len(asks), place).hand_to

    pendings = []
    for each in decided:
        emit(ctx, ToolStart(each.call.name, each.call.arguments))
        begin = partial(begins, asks.index(each) if each in asks else 0)
        made = call_of(ctx, known[each.key], each.call, key=each.key, begins=begin)
        pendings.append(made.settled())
    rows = await ctx.gather(*pendings)
    by_name = {each.call.name: known[each.key].get(each.call.name) for each in decided}
    tools = {name: tool for name, tool in by_name.items() if tool is not None}
    is_over = ctx.recorded(MODEL) is not None
    calls = [each.call for each in decided]
    unknown = await settle_unknown(ctx, tools, calls, rows, is_over=is_over)
    if denied := next(filter(is_denied_for_good, rows), None):
        raise CallDeniedForGood(decode_failure(denied).message)
    used = None
    for turn in dict.fromkeys(each.key.rpartition("/")[0] for each in decided):
        may_ask = any(each.key.startswith(f"{turn}/") for each in asks)
        scope = ctx.inside(Key(turn))
        used = await spent(ctx, scope, may_ask=may_ask, later=noted_at) or used
    found = [unknown.get(row.key) for row in rows]
    told = map(outcome_of, [each.gate for each in decided], rows, found)
    message = UserMessage(tuple(map(Text, told)))
    entry: dict[str, Json] = {"decided": [row.key for row in rows]}
    if unknown:
        entry["settled"] = {key: gate.key for key, gate in unknown.items()}
    Chain.of(ctx).note(message, entry)
    over = [each for each in decided if each.gate.state is PromiseState.CANCELLED]
    withdrawn = [str(input_of(each.gate).get("summary")) for each in over]
    return TakenIn(message, tuple(map(result_in, rows, found)), used, withdrawn)


def _tools(tools_of: ToolsOf, deferral: Deferral) -> Mapping[str, Tool]:
    agent = input_of(deferral.gate).get("agent")
    return {tool.name: tool for tool in tools_of(str(agent))}


def _takes_ctx(tool: Tool | None) -> bool:
    return tool is not None and "ctx" in tool.takes
