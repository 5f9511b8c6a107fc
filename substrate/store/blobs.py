"""Payloads too long for a row.

Above `ROW_LIMIT` a payload's text moves to `blobs` (zstd, by the sha256 of the text, once per tree
of runs) and the row keeps ``{"$blob": hash, "bytes": n, "preview": "…"}``: still readable with
plain SQL. Readers get the whole text back. No value of a user looks like that, since the codec
tags every key of theirs that begins with ``$``.
"""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from substrate.values.codec import LONGEST
from substrate.values.errors import CheckpointRefused, StoreUnusable
from substrate.values.ids import RunId, root_of
from substrate.values.records import Blob, Checkpoint, JsonText, NewRun, Promise

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROW_LIMIT = 16 * 1024
PREVIEW = 500
PAYLOADS = ("input", "value", "error", "usage", "attempts", "undo", "granted")
_QUICK = 64 * 1024  # characters that are hashed and compressed at once, in less than a millisecond
_LARGEST = 4 * LONGEST  # bytes; no value is nearly as long
_RESTORE = "restore the row of `blobs` from a backup"
_MARK = '{"$blob":"'
_HASH = slice(len(_MARK), len(_MARK) + 64)


def make_blob(root_id: RunId, content: bytes) -> Blob:
    """Return content as a blob of a tree."""
    return Blob(root_id, sha256(content).hexdigest(), zstd.compress(content))


def open_blob(data: bytes) -> bytes:
    """Return the content of a stored blob; raise `StoreUnusable` where it is no whole one.

    A few bytes that somebody has written may stand for more than the memory there is, so no more
    is unpacked than a blob can hold.
    """
    frame = zstd.ZstdDecompressor()
    try:
        length = zstd.get_frame_info(data).decompressed_size or 0  # None where it does not say
        if length > _LARGEST:
            raise StoreUnusable(f"a blob of {len(data)} bytes claims {length}; {_RESTORE}")
        # As long as it says: a buffer that has to grow takes twice the time of two megabytes on.
        content = frame.decompress(data, max(length, 1))
    except zstd.ZstdError as error:
        raise StoreUnusable(f"a blob of {len(data)} bytes is damaged; {_RESTORE}") from error
    if not frame.eof or frame.unused_data:
        raise StoreUnusable(f"a blob of {len(data)} bytes is cut, or more than one; {_RESTORE}")
    return content


def offload(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its long payloads moved into its blobs."""
    promise = checkpoint.promise
    moved: dict[str, Any] = {}
    blobs = list(checkpoint.blobs)
    try:
        for name in PAYLOADS:
            payload: JsonText | None = getattr(promise, name)
            if payload is not None and _is_long(payload):
                blob = make_blob(root_of(promise.id), payload.encode())
                blobs.append(blob)
                moved[name] = _reference(blob, payload)
    except UnicodeEncodeError as error:
        raise CheckpointRefused(f"{promise.id!r} holds text that is no Unicode: {error}") from error
    if not moved:
        return checkpoint
    return replace(checkpoint, promise=replace(promise, **moved), blobs=tuple(blobs))


async def offloaded(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint as `offload` does, in a thread where that takes its time.

    Hashing and compressing leave the loop free there. A store has nothing left to do to it.
    """
    promise = checkpoint.promise
    for payload in (promise.value, promise.input, promise.error, promise.attempts):
        if payload is not None and len(payload) > _QUICK:
            return await asyncio.to_thread(offload, checkpoint)
    return checkpoint


def identity_of(payload: JsonText | None) -> str | None:
    """Return what tells a payload from others, whether it lies in its row or in a blob."""
    if payload is None:
        return None
    if digest := digest_in(payload):
        return digest
    return sha256(payload.encode()).hexdigest() if _is_long(payload) else payload


def offload_input(new: NewRun) -> tuple[NewRun, tuple[Blob, ...]]:
    """Return a new run with a long input moved into a blob, and that blob."""
    light, blobs = offload_payload(root_of(new.id), new.input)
    return (replace(new, input=light), blobs) if blobs else (new, ())


def offload_payload(root_id: RunId, payload: JsonText) -> tuple[JsonText, tuple[Blob, ...]]:
    """Return what a row keeps of a payload, and the blob it was moved into, if it is long."""
    if not _is_long(payload):
        return payload, ()
    blob = make_blob(root_id, payload.encode())
    return _reference(blob, payload), (blob,)


def digest_in(payload: JsonText | None) -> str | None:
    """Return the hash of the blob that a payload refers to, or None when it stands for itself."""
    if payload is None or not payload.startswith(_MARK):
        return None
    return payload[_HASH]


def digests_in(payloads: Sequence[JsonText | None]) -> list[str]:
    """Return the hashes of the blobs that payloads refer to."""
    return [text[_HASH] for text in payloads if text is not None and text.startswith(_MARK)]


def inflate(promise: Promise, contents: Mapping[str, bytes]) -> Promise:
    """Return the row with its blobs' contents, by hash, back in place."""
    restored: dict[str, Any] = {}
    for name in PAYLOADS:
        payload: JsonText | None = getattr(promise, name)
        if payload is not None and digest_in(payload):
            restored[name] = load(payload, contents)
    return replace(promise, **restored) if restored else promise


def load(payload: JsonText, contents: Mapping[str, bytes]) -> JsonText:
    """Return a payload, or the content it refers to.

    Where that is lost the reference stays, which is no JSON of ours: whoever decodes it is told so
    (see `substrate.engine.run.unreadable`), and no other row of the query is lost with it.
    """
    digest = digest_in(payload)
    if digest is None or digest not in contents:
        return payload
    return JsonText(contents[digest].decode(errors="replace"))


def opened_blobs(found: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return the contents of those of these blobs that are whole, by hash."""
    whole = {}
    for digest, data in found:
        with suppress(StoreUnusable):
            whole[digest] = open_blob(data)
    return whole


def _is_long(payload: str) -> bool:
    return len(payload if payload.isascii() else payload.encode()) > ROW_LIMIT


def _reference(blob: Blob, payload: str) -> JsonText:
    preview = payload[:PREVIEW]
    record = {"$blob": blob.hash, "bytes": len(payload.encode()), "preview": preview}
    return JsonText(orjson.dumps(record).decode())
