"""The tags in JSON: what it cannot hold and programs need, under a key that begins with ``$``.

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
``{"$forgotten": …}``  what stood there was forgotten, and by which row of ``tombstones``: nothing
                       encodes to it, and who decodes it gets `Forgotten`
=====================  ==========================================================

Invariants: what `tag` gives is JSON, and `untag` gives back what it stands for; a tag that is not
as `tag` writes it raises `ValueError`; what has no tag raises `NotEncodable`, with its place.
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
from typing import Any
from uuid import UUID

from substrate.values.errors import Forgotten, Misuse, NotEncodable
from substrate.values.secret import Secret

FORGOTTEN = "$forgotten"
"""The tag of what was forgotten."""

_TYPES = "None, bool, int, float, str, bytes, datetime, date, Decimal, list, tuple and dict"


def tag(value: Any, path: str) -> Any:
    """Replace what JSON cannot hold; `path` says where in the value we are."""
    match value:
        case None | bool():
            return value
        case Enum():
            return tag(value.value, path)
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
            return [tag(item, f"{path}[{i}]") for i, item in enumerate(value)]
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
        return {"$map": [[_tag_text(k), tag(value[k], f"{path}[{k!r}]")] for k in sorted(value)]}
    return {str.__str__(key): tag(item, f"{path}[{key!r}]") for key, item in value.items()}


def _needs_map(keys: Iterable[str]) -> bool:
    """Say whether a dict with these keys would be read as something else, or not at all."""
    return any(key.startswith("$") or not isinstance(_tag_text(key), str) for key in keys)


def untag(value: Any) -> Any:
    """Return a value with what its tags stand for in their places."""
    if isinstance(value, list):
        return [untag(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key in value:
        if key.startswith("$"):
            return _untag_one(key, value[key] if len(value) == 1 else None)
    return {key: untag(item) for key, item in value.items()}


def _untag_one(name: str, content: Any) -> Any:
    """Return what a tag stands for, if `encode` would write that so and no other way."""
    if name == FORGOTTEN and isinstance(content, str):
        raise Forgotten(
            f"what stood here was forgotten for good, by the row {content[:40]!r} of `tombstones`; "
            "there is nothing left to read, and the run is not resumed: start one under another id"
        )
    try:
        read = _READ.get(name)
        found = read(content) if read and type(content) in (str, list) else _UNREAD
        # What a map holds was looked at on its way here.
        if found is not _UNREAD and name != "$map" and tag(found, name) != {name: content}:
            found = _UNREAD
    except (ValueError, TypeError, ArithmeticError, NotEncodable):
        found = _UNREAD
    if found is _UNREAD:
        raise ValueError(
            f"{{{name!r}: …}} holds what this version does not write there; if a newer one wrote "
            "it, update the kit"
        )
    return found


def _untag_map(content: Any) -> Any:
    keys = [untag(key) for key, _ in content]
    if not all(type(key) is str for key in keys) or sorted(set(keys)) != keys:
        return _UNREAD
    if not _needs_map(keys):
        return _UNREAD
    return {key: untag(item) for key, (_, item) in zip(keys, content, strict=True)}


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
