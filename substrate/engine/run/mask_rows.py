"""Hides secrets in each row before it is written: no row holds a secret that this process knows.

Results, errors, signals, undos and the inputs of calls all become columns of a row. Each of these
payloads is searched before the write. While this process knows no secret, the search costs nothing.
"""

import asyncio
from dataclasses import replace
from typing import Any

from substrate.store.blobs import PAYLOADS
from substrate.values.codec import decode, encode
from substrate.values.records import JsonText, Promise
from substrate.values.secret import hidden_in, is_any_known

_QUICK = 64 * 1024
"""A promise with more characters of payload than this is searched in a thread."""


async def mask_row(promise: Promise) -> Promise:
    """Return the promise with all known secrets hidden, ready to be written."""
    if not is_any_known():
        return promise
    if sum(len(getattr(promise, name) or "") for name in PAYLOADS) > _QUICK:
        return await asyncio.to_thread(mask_row_at_once, promise)
    return mask_row_at_once(promise)


def mask_row_at_once(promise: Promise) -> Promise:
    """Do the same as `mask_row`, synchronously: for callers in a thread or in a transaction."""
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
    # `hidden_in` returns the same object if it found none: then the payload keeps its exact text.
    return payload if masked is value else JsonText(encode(masked))
