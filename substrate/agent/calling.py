"""How the tools of a reply are called: side by side, each a promise of its own.

Invariants: each call takes its key before any of them begins, in the order of the reply. What was
asked of people aside stands where its call does, and is not called here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from substrate.agent import deferred
from substrate.agent.approval import Decided
from substrate.agent.chain import Chain
from substrate.agent.events import ToolStart, emit
from substrate.agent.handoff_taken import refusals
from substrate.agent.history.keys import MODEL, TOOLS
from substrate.agent.history.result import CallDeniedForGood, is_denied_for_good, result_of
from substrate.agent.hooks import Tools, tools_of
from substrate.agent.share import Share
from substrate.agent.spent import spent
from substrate.agent.tool import Tool
from substrate.agent.tool_call import call_name, call_of
from substrate.agent.unknown import settle_unknown
from substrate.agent.valid_reply import why_not_called
from substrate.engine.context.context import Context
from substrate.engine.context.pending import Pending
from substrate.engine.failure import decode_failure
from substrate.models.messages import (
    Json,
    Reply,
    ToolCall,
    ToolMessage,
)
from substrate.values.ids import Key
from substrate.values.records import Promise


async def call_tools(
    ctx: Context, tools: Tools, reply: Reply, *, present: object = None
) -> ToolMessage:
    """Call every tool that the reply asks for, side by side, and return their results in order.

    Each call is a promise of its own. A tool's own error, wrong arguments, a tool that does not
    exist, and an outcome nobody knows are results that the model sees. Of a reply that was cut off
    or refused no call is made, which is told as well. A call that is recorded keeps its outcome,
    whatever became of the tool. Where one of the tools takes a `ctx`, so that it may ask models or
    start runs, what was used meanwhile is recorded.

    `present` are the hooks of a loop that hands conversations over; another one refuses to.
    """
    scope = ctx.scope(TOOLS)
    known = {tool.name: tool for tool in tools_of(ctx, tools)}
    calls = _taken(scope, known, reply, present)
    for each in calls:
        if not each.refusal:
            each.told = await deferred.ask(ctx, scope, known, each.call, each.key)
    now = [each for each in calls if not isinstance(each.told, Promise)]
    may_ask = sum(each.takes_ctx for each in now)
    rows = await scope.gather(*_begun(ctx, scope, known, reply, calls))
    is_over = ctx.recorded(MODEL) is not None
    made = [each.call for each in now]
    found = await settle_unknown(scope, known, made, rows, is_over=is_over)
    settled = iter(rows)
    rows = [each.told if isinstance(each.told, Promise) else next(settled) for each in calls]
    gates = [found.get(row.key) for row in rows]
    results = tuple(map(result_of, reply.tool_calls, rows, gates))
    if denied := next(filter(is_denied_for_good, rows), None):
        raise CallDeniedForGood(decode_failure(denied).message)
    used = await spent(ctx, scope, may_ask=may_ask > 0)
    message = ToolMessage(results, used)
    entry: dict[str, Json] = {"results": [row.key for row in rows]}
    if found:
        entry["settled"] = {key: gate.key for key, gate in found.items()}
    Chain.of(ctx).note(message, entry)
    return message


@dataclass(slots=True)
class _Call:
    """A call of a reply, with the key that it has taken."""

    call: ToolCall
    key: Key
    #: Why it is not made.
    refusal: str | None
    #: Whether its tool may ask models, or start runs.
    takes_ctx: bool
    #: What came of asking about it, where it is not waited for: see `deferred.ask`.
    told: Promise | Pending[Promise] | Decided | None = None


def _taken(scope: Context, known: Mapping[str, Tool], reply: Reply, present: object) -> list[_Call]:
    why = why_not_called(reply)
    refused = refusals(list(known.values()), reply.tool_calls, present)
    return [
        _Call(
            call,
            scope.take_key(call_name(call)),
            why or refusal,
            takes_ctx=call.name in known and "ctx" in known[call.name].takes,
        )
        for call, refusal in zip(reply.tool_calls, refused, strict=True)
    ]


def _begun(
    ctx: Context, scope: Context, known: Mapping[str, Tool], reply: Reply, calls: Sequence[_Call]
) -> list[Pending[Promise]]:
    """Return the calls that are made; those that may ask models share what is left."""
    may_ask = sum(each.takes_ctx for each in calls if not isinstance(each.told, Promise))

    def begins(place: int) -> Callable[[Context], None]:
        return Share(ctx, reply, may_ask, place).hand_to

    pendings, place = [], 0
    for each in calls:
        if isinstance(each.told, Promise):
            continue  # a person is asked; the agent goes on without it
        emit(ctx, ToolStart(each.call.name, each.call.arguments))
        if isinstance(each.told, Pending):
            pendings.append(each.told)
        else:
            begin, why, said = partial(begins, place), each.refusal, each.told
            pending = call_of(
                scope, known, each.call, key=each.key, not_called=why, begins=begin, decided=said
            )
            pendings.append(pending.settled())
        place += each.takes_ctx
    return pendings
