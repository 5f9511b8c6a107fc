"""JSON, the only thing stored: strict, sorted, and the same after every round trip.

What JSON cannot hold and programs need (bytes, a moment, a Decimal) is tagged: see `tags`. Most
values hold none of it. So orjson alone writes and reads them, and a value is gone through only
where there may be a tag.

Invariants: ``decode(encode(x))`` equals x, except that tuples become lists, enum members their
values, UUIDs their text, and instances of a subclass of a plain type those of the type itself;
``encode(decode(text))`` is the same text; a value that cannot be kept, or is longer than
`LONGEST`, raises `NotEncodable`; a tag that is not as `encode` writes it raises `ValueError`.
"""

import math
import re
from hashlib import blake2b
from typing import Any

import orjson

from substrate.values.errors import NotEncodable
from substrate.values.tags import tag, untag

LONGEST = 64 * 1024 * 1024
"""How many bytes of JSON one value may be."""

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
        # What orjson writes without an error and `tag` writes otherwise: NaN, which becomes null,
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
    return untag(value) if is_tagged else value


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
        return orjson.dumps(tag(value, "value"), option=orjson.OPT_SORT_KEYS)
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
