"""Replies that their provider did not finish: no call of theirs can be made.

Invariant: after `uncalled` every call of a reply that was cut off or filtered is `malformed`.
"""

import json
from collections.abc import Iterable
from dataclasses import replace

from substrate.models.messages import ReplyPart, StopReason, ToolCall


def uncalled(parts: Iterable[ReplyPart], stop: StopReason) -> tuple[ReplyPart, ...]:
    """Return the parts of a reply, without a call that can be made where it was not finished.

    The last call of a reply that was cut off is incomplete, even where no argument had come yet;
    and nothing of a reply that was filtered is to have an effect.
    """
    if stop not in (StopReason.LENGTH, StopReason.REFUSAL):
        return tuple(parts)
    return tuple(
        replace(part, arguments={}, malformed=_written(part))
        if isinstance(part, ToolCall)
        else part
        for part in parts
    )


def _written(call: ToolCall) -> str:
    """Return a call's arguments as text; none at all are no arguments that came."""
    if call.malformed is not None:
        return call.malformed
    return json.dumps(call.arguments, ensure_ascii=False) if call.arguments else ""
