"""JSON, the only thing stored: strict, sorted, and the same after every round trip.

What JSON cannot hold and programs need is tagged by a key that begins with ``$``:

=====================  ==========================================================
``{"$bytes": …}``      bytes, base64
``{"$datetime": …}``   an aware datetime, ISO 8601
``{"$date": …}``       a date
``{"$decimal": …}``    a Decimal
``{"$float": …}``      ``nan``, ``inf``, ``-inf``
``{"$int": …}``        an integer beyond 64 bits
``{"$text": …}``       a string with NUL or lone surrogates, escaped as in JSON
``{"$map": [[k, v]]}`` a dict one of whose own keys begins with ``$``
=====================  ==========================================================

Invariants: ``decode(encode(x))`` equals x, except that tuples become lists, enum members their
values and UUIDs their text; ``encode(decode(text))`` is the same text; a value that cannot be kept
raises `NotEncodable`.
"""

import base64
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from substrate.values.errors import NotEncodable

_TYPES = "None, bool, int, float, str, bytes, datetime, date, Decimal, list, tuple and dict"

_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)


def encode(value: Any) -> str:
    """Return the value as JSON text with sorted keys, or raise `NotEncodable`."""
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return _encode_slowly(value)
    # orjson writes these for values that need a tag, or might: NaN becomes null without an error.
    if b"null" in text or b'"$' in text or b"\\u0000" in text:
        return _encode_slowly(value)
    return text.decode()


def decode(text: str | bytes) -> Any:
    """Return the value that `encode` was given."""
    value = orjson.loads(text)
    tagged = '"$' in text if isinstance(text, str) else b'"$' in text
    return _untag(value) if tagged else value


def fingerprint(*parts: Any) -> str:
    """Return a short stable hash of JSON values."""
    return blake2b(encode(parts).encode(), digest_size=12).hexdigest()


def _encode_slowly(value: Any) -> str:
    try:
        return orjson.dumps(_tag(value, "value"), option=orjson.OPT_SORT_KEYS).decode()
    except RecursionError:
        raise NotEncodable("the value is nested too deeply, or contains itself") from None
    except TypeError as error:  # orjson's own depth limit
        raise NotEncodable(f"the value is not JSON: {error}") from None


def _tag(value: Any, path: str) -> Any:
    """Replace what JSON cannot hold; `path` says where in the value we are."""
    match value:
        case None | bool():
            return value
        case Enum():
            return _tag(value.value, path)
        case str():
            return _tag_text(value)
        case int():
            return int(value) if -(2**63) <= value < 2**63 else {"$int": str(int(value))}
        case float():
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        case list() | tuple():
            return [_tag(item, f"{path}[{i}]") for i, item in enumerate(value)]
        case dict():
            return _tag_dict(value, path)
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case date():
            return _tag_date(value, path)
        case Decimal():
            return {"$decimal": str(value)}
        case UUID():
            return str(value)
    raise NotEncodable(
        f"{path} is {type(value).__name__} ({str(value)[:80]!r}), which JSON cannot hold; "
        f"return {_TYPES} only, for instance model.model_dump(mode='json')"
    )


def _tag_date(value: date, path: str) -> Any:
    if not isinstance(value, datetime):
        return {"$date": value.isoformat()}
    if value.tzinfo is None:
        raise NotEncodable(f"{path} is a datetime without a time zone: {value!r}; add UTC")
    return {"$datetime": value.astimezone(UTC).isoformat()}


def _tag_text(text: str) -> Any:
    if "\0" in text:
        return {"$text": json.dumps(text)[1:-1]}
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"$text": json.dumps(text)[1:-1]}
    return str(text)


def _tag_dict(value: dict[Any, Any], path: str) -> Any:
    for key in value:
        if not isinstance(key, str):
            raise NotEncodable(f"{path} has the key {key!r}; JSON objects have text keys only")
    needs_map = any(key.startswith("$") or not isinstance(_tag_text(key), str) for key in value)
    if needs_map:
        return {"$map": [[_tag_text(k), _tag(value[k], f"{path}[{k!r}]")] for k in sorted(value)]}
    return {str(key): _tag(item, f"{path}[{key!r}]") for key, item in value.items()}


def _untag(value: Any) -> Any:
    if isinstance(value, list):
        return [_untag(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith("$"):
            return _untag_one(key, content)
    return {key: _untag(item) for key, item in value.items()}


def _untag_one(tag: str, content: Any) -> Any:
    match tag:
        case "$text":
            return json.loads(f'"{content}"')
        case "$bytes":
            return base64.b64decode(content)
        case "$datetime":
            return datetime.fromisoformat(content)
        case "$date":
            return date.fromisoformat(content)
        case "$decimal":
            return Decimal(content)
        case "$float":
            return float(content)
        case "$int":
            return int(content)
        case "$map":
            return {_untag(key): _untag(item) for key, item in content}
    raise ValueError(f"{tag!r} is a tag that this version does not know; upgrade ostinato")
