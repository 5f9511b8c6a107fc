"""Texts and JSON values that can be encoded, made of those that cannot. Pure.

Invariant: what can be encoded comes back as it is, the same object.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import TypeVar, cast

from substrate.models.parts import Json
from substrate.values.errors import BadRequest


def whole(text: str) -> str:
    """Return a text that can be encoded: halves of a character are joined, or U+FFFD."""
    if text.isascii():  # which it knows without looking
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


JsonT = TypeVar("JsonT")


def sendable(value: JsonT) -> JsonT:
    """Return a JSON value whose texts can all be encoded, and whose numbers are such."""
    if not value:
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if whole(text) is text:
            return value
    except (TypeError, RecursionError):  # a setting that is not JSON, which its SDK says better
        return value
    except ValueError:
        pass
    try:
        return cast("JsonT", _walked(value))
    except RecursionError as error:
        raise BadRequest(
            f"{str(value)[:200]!r} contains itself and cannot be sent; correct the request"
        ) from error


def _walked(value: Json) -> Json:
    match value:
        case str():
            return whole(value)
        case float() if not isfinite(value):
            return str(value)
        case Mapping():
            return {_walked(key): _walked(each) for key, each in value.items()}
        case list() | tuple():
            return [_walked(each) for each in value]
    return value


T = TypeVar("T")


def changed(value: T, **fields: object) -> T:
    """Return a value with these fields, or the same where they are what it has."""
    differing = {k: v for k, v in fields.items() if getattr(value, k) is not v}
    return replace(value, **differing) if differing else value  # type: ignore[type-var]
