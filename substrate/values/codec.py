"""JSON, the only thing stored: strict, sorted, and the same after every round trip.

What JSON cannot hold and programs need is tagged by a key that begins with ``$``:

=====================  ==========================================================
``{"$bytes": …}``      bytes, base64
``{"$datetime": …}``   an aware datetime, ISO 8601
``{"$date": …}``       a date
``{"$decimal": …}``    a Decimal
``{"$float": …}``      ``nan``, ``inf``, ``-inf``
``{"$int": …}``        an integer beyond 64 bits
``{"$text": …}``       a string with NUL or lone surrogates, escaped as in JSON; a list of such
                       parts where two surrogates in a row would be read as one character
``{"$secret": …}``     a `Secret`, by its name
``{"$map": [[k, v]]}`` a dict one of whose own keys begins with ``$``
=====================  ==========================================================

Invariants: ``decode(encode(x))`` equals x, except that tuples become lists, enum members their
values, UUIDs their text, and instances of a subclass of a plain type those of the type itself;
``encode(decode(text))`` is the same text; a value that cannot be kept, or is longer than
`LONGEST`, raises `NotEncodable`; a tag that is not as `encode` writes it raises `ValueError`.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from substrate.values.errors import Misuse, NotEncodable
from substrate.values.secret import Secret

LONGEST = 64 * 1024 * 1024
"""How many bytes of JSON one value may be."""

_TYPES = "None, bool, int, float, str, bytes, datetime, date, Decimal, list, tuple and dict"

_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)


# Only a key says that there may be a tag: a text such as "$5" needs no second look. A quote after a
# backslash lies within a text. What is longer is taken for a key, so that the look costs no more
# for texts that are JSON themselves.
_TAGS = re.compile(rb'(?<!\\)"\$(?>(?:[^"\\]|\\.){0,100})(?:"\s*:|[^"])')
_TAGS_TEXT = re.compile(_TAGS.pattern.decode())

_HARMLESS = frozenset((str, int, bool, type(None)))


def encode(value: Any) -> str:
    """Return the value as JSON text with sorted keys, or raise `NotEncodable`."""
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        text = _encode_slowly(value)
    else:
        # What orjson writes without an error and `_tag` writes otherwise: NaN, which becomes null,
        # text with NUL, and keys that look like ours.
        hides = (b"null" in text and _may_hold_nan(value)) or b"\\u0000" in text
        if hides or (b'"$' in text and _TAGS.search(text)):
            text = _encode_slowly(value)
    if len(text) > LONGEST:
        raise NotEncodable(
            f"the value is {len(text) / 1e6:.0f} MB of JSON, and a value ends at "
            f"{LONGEST / 1e6:.0f} MB; put it into a file or an object store, and keep its address"
        )
    return text.decode()


def decode(text: str | bytes) -> Any:
    """Return the value that `encode` was given."""
    value = orjson.loads(text)
    if isinstance(text, str):
        is_tagged = '"$' in text and _TAGS_TEXT.search(text) is not None
    else:
        is_tagged = b'"$' in text and _TAGS.search(text) is not None
    return _untag(value) if is_tagged else value


def is_long(value: Any, limit: int = 64 * 1024) -> bool:
    """Say whether a value may be more than so many bytes of JSON, without writing it.

    It is an estimate that costs no more the longer the value is. Objects of classes are taken by
    their attributes.
    """
    left, stack = limit, [value]
    while stack and left >= 0:
        each = stack.pop()
        kind = type(each)
        if kind is str or kind is bytes:
            left -= len(each)
        elif kind is dict:
            left -= 16 * len(each)
            if left >= 0:
                stack.extend(each.values())
        elif kind is list or kind is tuple or kind is set or kind is frozenset:
            left -= 4 * len(each)
            if left >= 0:
                stack.extend(each)
        else:
            left -= 8
            stack.extend(getattr(each, "__dict__", {}).values())
            stack.extend(getattr(each, name, None) for name in getattr(kind, "__slots__", ()))
    return left < 0


def _may_hold_nan(value: Any) -> bool:
    """Say whether a value may hold a float that orjson writes as null, as it writes None."""
    kind = type(value)
    if kind is float:
        return not math.isfinite(value)
    if kind in _HARMLESS:
        return False
    if kind is not dict and kind is not list and kind is not tuple:
        return True  # an enum member, whose value may be anything
    stack = [value]
    while stack:
        each = stack.pop()
        for item in each.values() if type(each) is dict else each:
            kind = type(item)
            if kind in _HARMLESS:
                continue
            if kind is float:
                if not math.isfinite(item):
                    return True
            elif kind is dict or kind is list or kind is tuple:
                stack.append(item)
            else:  # an enum member, whose value may be anything
                return True
    return False


def fingerprint(*parts: Any) -> str:
    """Return a short stable hash of JSON values."""
    return blake2b(encode(parts).encode(), digest_size=12).hexdigest()


def _encode_slowly(value: Any) -> bytes:
    try:
        return orjson.dumps(_tag(value, "value"), option=orjson.OPT_SORT_KEYS)
    except RecursionError:
        raise NotEncodable("the value is nested too deeply, or contains itself") from None
    except NotEncodable:
        raise
    except TypeError as error:  # orjson's own depth limit
        raise NotEncodable(f"the value is not JSON: {error}") from None
    except Exception as error:  # a class of the user's that is nearly a list, a text, a moment
        raise NotEncodable(
            f"the value cannot be read: its own code raises {type(error).__name__}"
        ) from error


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
            # By the type's own methods, here and below: a subclass may have others of its name.
            whole = int.__index__(value)
            return whole if -(2**63) <= whole < 2**63 else _tag_int(whole, path)
        case float():
            number = float.__float__(value)
            return number if math.isfinite(number) else {"$float": str(number)}
        case list() | tuple():
            return [_tag(item, f"{path}[{i}]") for i, item in enumerate(value)]
        case dict():
            return _tag_dict(value, path)
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case date():
            return _tag_date(value, path)
        case Decimal():
            return {"$decimal": Decimal.__str__(value)}
        case UUID() | Secret():
            return str(value) if isinstance(value, UUID) else {"$secret": value.name}
    raise NotEncodable(
        f"{path} is {type(value).__name__} ({_shown(value)}), which JSON cannot hold; "
        f"return {_TYPES} only, for instance model.model_dump(mode='json')"
    )


def _shown(value: object) -> str:
    try:
        return repr(str(value)[:80])
    except Exception as broken:  # noqa: BLE001 - an object's own __str__ is user code
        return f"its __str__ raises {type(broken).__name__}"


def _tag_int(value: int, path: str) -> Any:
    try:
        return {"$int": str(int(value))}
    except ValueError:  # Python's own limit for text, which holds when it is read back, too
        raise NotEncodable(
            f"{path} is an integer of {value.bit_length()} bits, more than the 4,300 digits that "
            "Python writes; keep it as text, for instance hex(value)"
        ) from None


def _tag_date(value: date, path: str) -> Any:
    if not isinstance(value, datetime):
        return {"$date": date.isoformat(value)}
    if value.tzinfo is None:
        raise NotEncodable(f"{path} is a datetime without a time zone: {value!r}; add UTC")
    try:
        moment = value.astimezone(UTC)
        plain = datetime.combine(moment.date(), moment.time(), UTC).isoformat()
        if moment.isoformat() == plain:
            return {"$datetime": plain}
    except OverflowError:
        raise NotEncodable(
            f"{path} is {value!r}, which lies outside of the years 1 to 9999 in UTC; "
            "leave it out, or say None"
        ) from None
    raise NotEncodable(
        f"{path} is a {type(value).__name__} that says more than a datetime holds: "
        f"{moment.isoformat()}; give a datetime, or text"
    )


# Between two surrogates that JSON would read as one character.
_PAIRS = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def _tag_text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        parts = [json.dumps(str.__str__(part))[1:-1] for part in _PAIRS.split(text)]
        return {"$text": parts if len(parts) > 1 else parts[0]}
    return {"$text": json.dumps(text)[1:-1]} if "\0" in text else str.__str__(text)


def _tag_dict(value: dict[Any, Any], path: str) -> Any:
    for key in value:
        if not isinstance(key, str):
            raise NotEncodable(f"{path} has the key {key!r}; JSON objects have text keys only")
    if _needs_map(value):
        return {"$map": [[_tag_text(k), _tag(value[k], f"{path}[{k!r}]")] for k in sorted(value)]}
    return {str.__str__(key): _tag(item, f"{path}[{key!r}]") for key, item in value.items()}


def _needs_map(keys: Iterable[str]) -> bool:
    """Say whether a dict with these keys would be read as something else, or not at all."""
    return any(key.startswith("$") or not isinstance(_tag_text(key), str) for key in keys)


def _untag(value: Any) -> Any:
    if isinstance(value, list):
        return [_untag(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key in value:
        if key.startswith("$"):
            return _untag_one(key, value[key] if len(value) == 1 else None)
    return {key: _untag(item) for key, item in value.items()}


def _untag_one(tag: str, content: Any) -> Any:
    """Return what a tag stands for, if `encode` would write that so and no other way."""
    try:
        read = _READ.get(tag)
        found = read(content) if read and type(content) in (str, list) else _UNREAD
        # What a map holds was looked at on its way here.
        if found is not _UNREAD and tag != "$map" and _tag(found, tag) != {tag: content}:
            found = _UNREAD
    except (ValueError, TypeError, ArithmeticError, NotEncodable):
        found = _UNREAD
    if found is _UNREAD:
        raise ValueError(
            f"{{{tag!r}: …}} holds what this version does not write there; if a newer one wrote "
            "it, update the kit"
        )
    return found


def _untag_map(content: Any) -> Any:
    keys = [_untag(key) for key, _ in content]
    if not all(type(key) is str for key in keys) or sorted(set(keys)) != keys:
        return _UNREAD
    if not _needs_map(keys):
        return _UNREAD
    return {key: _untag(item) for key, (_, item) in zip(keys, content, strict=True)}


def _read_text(content: str | list[str]) -> str:
    parts = [content] if isinstance(content, str) else content
    return "".join([json.loads('"' + part + '"') for part in parts])


def _read_secret(content: str) -> Any:
    try:
        return Secret(content)
    except Misuse:
        return _UNREAD


_UNREAD = object()
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "$text": _read_text,
    "$bytes": partial(base64.b64decode, validate=True),
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$decimal": Decimal,
    "$float": lambda content: _FLOATS.get(content, _UNREAD),
    "$int": int,
    "$map": _untag_map,
    "$secret": _read_secret,
}
