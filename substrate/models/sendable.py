"""Texts and JSON values that can be sent, made of those that cannot. Pure.

Invariant: what can be sent comes back as it is, the same object.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from math import isfinite
from typing import TypeVar, cast

from substrate.models.parts import Json
from substrate.values.errors import BadRequest
from substrate.values.whole_text import whole


class Fault(Enum):
    """Why a text or a value could not be sent."""

    HALF = "half a character"
    NUL = "a NUL"
    NO_NUMBER = "a number that JSON does not have"


OnFault = Callable[[Fault], None]
"""Gets what was wrong."""


def ignore_fault(fault: Fault) -> None:
    """Do nothing with a fault: nobody is interested."""


def clean(text: str, on_fault: OnFault = ignore_fault, *, keeps_nul: bool = False) -> str:
    """Return a text that every server reads: whole, and with U+FFFD for each NUL."""
    made = whole(text)
    if made is not text:
        on_fault(Fault.HALF)
    if "\0" in made and not keeps_nul:
        on_fault(Fault.NUL)
        made = made.replace("\0", "\ufffd")
    return made


JsonT = TypeVar("JsonT")


def sendable(value: JsonT, on_fault: OnFault = ignore_fault, *, keeps_nul: bool = False) -> JsonT:
    """Return a JSON value whose texts can all be sent, and whose numbers are such.

    With `keeps_nul` a NUL stays: what a provider has signed goes back as it was.
    """
    if not value:
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if whole(text) is text and "\\u0000" not in text:  # which may be what a text says of one
            return value
    except (TypeError, RecursionError):  # a setting that is not JSON, which its SDK says better
        return value
    except ValueError:
        pass
    try:
        made = cast("JsonT", _walked(value, on_fault, keeps_nul=keeps_nul))
    except RecursionError as error:
        raise BadRequest(
            f"{str(value)[:200]!r} contains itself and cannot be sent; correct the request"
        ) from error
    return value if made == value else made


def _walked(value: Json, on_fault: OnFault, *, keeps_nul: bool) -> Json:
    walked = partial(_walked, on_fault=on_fault, keeps_nul=keeps_nul)
    match value:
        case str():
            return clean(value, on_fault, keeps_nul=keeps_nul)
        case float() if not isfinite(value):
            on_fault(Fault.NO_NUMBER)
            return str(value)
        case Mapping():
            return {walked(key): walked(each) for key, each in value.items()}
        case list() | tuple():
            return [walked(each) for each in value]
    return value


T = TypeVar("T")


def changed(value: T, **fields: object) -> T:
    """Return a value with these fields, or the same where they are what it has."""
    differing = {k: v for k, v in fields.items() if getattr(value, k) is not v}
    return replace(value, **differing) if differing else value  # type: ignore[type-var]
