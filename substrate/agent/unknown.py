"""A call of which nobody knows whether it happened is put to a person, where its tool says so.

The call's row stays what it is: unknown, and never made again. What the person has found out is the
gate ``<call key>/unknown.0``, and what the model is told comes from both.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from substrate.agent.gate_request import gate_request
from substrate.agent.history.keys import UNKNOWN
from substrate.agent.history.result import is_unknown
from substrate.agent.history.rows import tool_of
from substrate.agent.notify import current_notify, tell
from substrate.agent.policy import ALWAYS, Policy
from substrate.agent.shown import call_words, digest_of, shortened
from substrate.agent.tool import Tool
from substrate.engine.context.context import Context
from substrate.engine.context.gate import GateRequest
from substrate.engine.context.pending import Pending
from substrate.engine.failure import decode_failure
from substrate.models.messages import Json, ToolCall
from substrate.values.gates import GateKind
from substrate.values.ids import Key
from substrate.values.records import Promise

WANTS: Mapping[str, Json] = {
    "anyOf": [
        {"enum": ["done", "not done", "leave"]},
        {"type": "object", "properties": {"done": {}}, "required": ["done"]},
    ]
}
"""What a person answers: it was done, with this result, it was not, or the model is left to it."""


async def settle_unknown(
    scope: Context,
    tools: Mapping[str, Tool],
    calls: Sequence[ToolCall],
    rows: Sequence[Promise],
    *,
    is_over: bool,
) -> dict[str, Promise]:
    """Ask what became of calls of which nobody knows; return the settled gates, by the calls' keys.

    All are asked at once. What was asked before is asked whatever the tools say by now; in a turn
    that is over (`is_over`) nothing new is asked.
    """
    asked: dict[str, Pending[Promise]] = {}
    for call, row in zip(calls, rows, strict=True):
        key = Key(f"{row.key}/{UNKNOWN}.0")
        tool = tools.get(call.name)
        wants = tool is not None and tool.on_unknown == "ask" and not is_over
        if is_unknown(row) and (wants or scope.recorded_at(key) is not None):
            policy = (tool.approve if tool else None) or ALWAYS
            request = partial(_request, row, policy)
            gate = scope.gate(request, tell(current_notify()), UNKNOWN, key)
            asked[row.key] = gate.settled()
    if not asked:
        return {}
    return dict(zip(asked, await scope.gather(*asked.values()), strict=True))


def _request(row: Promise, policy: Policy) -> GateRequest:
    name, given = tool_of(row)
    why = decode_failure(row).message
    line = shortened(f"what became of {call_words(name, given)}? {why}")
    shown = {"tool": name, "arguments": given, "error": why}
    digest = digest_of(UNKNOWN, shown)
    # Who is asked and reminded is as before the call; silence decides nothing here.
    asked = Policy(to=policy.to, remind=policy.remind, escalate=policy.escalate)
    return gate_request(
        GateKind.UNKNOWN,
        name,
        summary=line,
        digest=digest,
        policy=asked,
        shown={"arguments": given, "error": why, "wants": WANTS},
    )
