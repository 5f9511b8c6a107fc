"""The last look at what a run is about to write: no secret that is known here, wherever it stands.

Results, errors, signals, undos, and what a call is known by: all of them become a row, and here
they are looked through before they do. Where nothing is known, that is free.
"""

import asyncio
from dataclasses import replace
from typing import Any

from substrate.store.blobs import PAYLOADS
from substrate.values.codec import decode, encode
from substrate.values.records import JsonText, Promise
from substrate.values.secret import hidden_in, is_any_known

_QUICK = 64 * 1024
"""Of more characters, a payload is looked through in a thread."""


async def discreet(promise: Promise) -> Promise:
    """Return the promise as it may be written."""
    if not is_any_known():
        return promise
    if sum(len(getattr(promise, name) or "") for name in PAYLOADS) > _QUICK:
        return await asyncio.to_thread(discreet_at_once, promise)
    return discreet_at_once(promise)


def discreet_at_once(promise: Promise) -> Promise:
    """Return the promise as it may be written; for who is in a thread, or in a transaction."""
    if not is_any_known():
        return promise
    changed: dict[str, Any] = {}
    for name in PAYLOADS:
        payload: JsonText | None = getattr(promise, name)
        if (told := without_secrets(payload)) != payload:
            changed[name] = told
    return replace(promise, **changed) if changed else promise


def without_secrets(payload: JsonText | None) -> JsonText | None:
    """Return a payload with the secrets hidden, as JSON of the same form."""
    if payload is None or not is_any_known():
        return payload
    value = decode(payload)
    told = hidden_in(value)
    return payload if told is value else JsonText(encode(told))
