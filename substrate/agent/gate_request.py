"""What a gate asks, as it is recorded: for an approval, a question and a call in doubt alike.

The row of the gate is what people look at in a list; what is shown of it stands in its promise,
with the policy of that day. To show people more of every gate, add it here.
"""

from collections.abc import Mapping

from substrate.agent.notify import current_notify
from substrate.agent.policy import Policy
from substrate.engine.context.gate import GateRequest
from substrate.models.messages import Json
from substrate.values.codec import encode
from substrate.values.gates import GateKind, NewGate
from substrate.values.records import JsonText


def gate_request(
    kind: GateKind,
    tool: str,
    *,
    summary: str,
    digest: str,
    policy: Policy,
    shown: Mapping[str, Json],
) -> GateRequest:
    """Return what is asked, told of as the hook `notify` of the agent at work says.

    Args:
        kind: What a person is asked.
        tool: The tool that is to be called; for a question, who asks it.
        summary: One line for people.
        digest: A hash of exactly what is shown; a decision names it.
        policy: Who is asked, until when, and what silence means.
        shown: What people see beside all that.
    """
    record = policy.record()
    # A gate that says no kind is an approval.
    kinds = {} if kind is GateKind.APPROVAL else {"kind": kind.value}
    asked = {"tool": tool, "digest": digest, "summary": summary, "policy": record}
    return GateRequest(
        gate=NewGate(
            kind=kind,
            tool=tool,
            digest=digest,
            summary=summary,
            policy=JsonText(encode(record)),
        ),
        shown={**shown, **kinds, **asked},
        tell_after=policy.tell_after if current_notify().is_any else (),
        timeout=policy.timeout_ms,
        on_timeout=policy.silence,
    )
