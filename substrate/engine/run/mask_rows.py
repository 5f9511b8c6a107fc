"""Hides known secrets in each promise that a run writes, before it is written.

Results, errors, signals that were taken, undos and the inputs of steps are payloads of a promise.
Each is searched before the write. While this process knows no secret, nothing is searched. What
people decide, and what is sent to a run's inbox, is searched by the process in which that is done.
"""

import asyncio
from dataclasses import replace
from typing import Any

from substrate.store.blobs import PAYLOADS
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse
from substrate.values.gates import Decision
from substrate.values.records import JsonText, Promise
from substrate.values.secret import hidden, hidden_in, is_any_known

_MOST_AT_ONCE = 64 * 1024
"""Characters of payload in a promise. One with more is searched in a thread."""


def mask_decision(decision: Decision) -> Decision:
    """Return a decision with all known secrets hidden: the answer, who decided, and why.

    Raises `Misuse` where the call would be made with the mask in the place of a secret.
    """
    if not is_any_known():
        return decision
    value = decode(decision.value)
    edited = value.get("arguments") if isinstance(value, dict) else None
    if hidden_in(edited) is not edited:
        raise Misuse(
            "nothing was decided: an edited argument holds a secret that was revealed, and what is "
            "decided is recorded; let the tool have a Secret, and reveal it there"
        )
    return replace(
        decision,
        value=without_secrets(decision.value) or decision.value,
        by=hidden(decision.by),
        via=hidden(decision.via),
        reason=None if decision.reason is None else hidden(decision.reason),
    )


async def mask_row(promise: Promise) -> Promise:
    """Return the promise with all known secrets hidden, ready to be written."""
    if not is_any_known():
        return promise
    if sum(len(getattr(promise, name) or "") for name in PAYLOADS) > _MOST_AT_ONCE:
        return await asyncio.to_thread(_mask_row_at_once, promise)
    return _mask_row_at_once(promise)


def _mask_row_at_once(promise: Promise) -> Promise:
    """Do as `mask_row` does, in the thread that calls it."""
    if not is_any_known():
        return promise
    changed: dict[str, Any] = {}
    for name in PAYLOADS:
        payload: JsonText | None = getattr(promise, name)
        if (masked := without_secrets(payload)) != payload:
            changed[name] = masked
    return replace(promise, **changed) if changed else promise


def without_secrets(payload: JsonText | None) -> JsonText | None:
    """Return a payload with its secrets hidden, as JSON of the same shape."""
    if payload is None or not is_any_known():
        return payload
    value = decode(payload)
    masked = hidden_in(value)
    # `hidden_in` returns the very object where it hid nothing: its text stays byte for byte.
    return payload if masked is value else JsonText(encode(masked))
