"""Whether a value has come back from its record as what it was: a walk through both.

Pure. A difference is told by its place and its types, never by its values: these may be secret,
and what is told of them is written to the journal.

What JSON cannot tell apart and programs rarely do counts as the same: a tuple and a list, an int
for a float, a subclass of a plain type and the type itself, two time zones of one moment. Where
`is_open`, which is for places without a type, an enum member may come back as its value and a UUID
as its text.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from math import isnan
from typing import Any
from uuid import UUID

from pydantic import BaseModel

_PLAIN = (str, int, float, bytes, dict, list, tuple, set, frozenset, datetime, date)


def difference(given: Any, back: Any, path: str = "", *, is_open: bool = False) -> str | None:
    """Say where a value that has come back differs from the one that was given; None if nowhere.

    >>> difference({"a": [1, 2]}, {"a": [1, "2"]}, "it")
    "it['a'][1] is int and would come back as str"
    """
    if given is back:
        return None
    if is_open and isinstance(given, (Enum, UUID)):
        given = given.value if isinstance(given, Enum) else str(given)
    if not _is_same_type(given, back):
        if hasattr(given, "get_secret_value"):
            return f"{path} is a secret"
        return f"{path} is {type(given).__name__} and would come back as {type(back).__name__}"
    if isinstance(given, (list, tuple)):
        return _of_items(given, back, path, is_open=is_open)
    if isinstance(given, dict):
        return _of_dicts(given, back, path, is_open=is_open)
    if isinstance(given, BaseModel):
        return _of_models(given, back, path, is_open=is_open)
    if is_dataclass(given):
        names = [field.name for field in fields(given)]
        return _of_attributes(given, back, names, path, is_open=is_open) or _of_others(
            given, back, names, path
        )
    if _is_equal(given, back):
        return None
    if hasattr(given, "get_secret_value"):
        return f"{path} is a secret"
    return f"{path} would come back as another {type(given).__name__}"


def _is_same_type(given: Any, back: Any) -> bool:
    kind, other = type(given), type(back)
    if kind is other:
        return True
    if isinstance(given, Enum) or isinstance(back, Enum):
        return False
    if isinstance(given, (list, tuple)) and isinstance(back, (list, tuple)):
        # A named tuple has more to lose than its order.
        return not (hasattr(given, "_fields") or hasattr(back, "_fields"))
    if isinstance(given, bool) or isinstance(given, datetime) is not isinstance(back, datetime):
        return False
    if other is float and isinstance(given, int):
        return True
    return other in _PLAIN and isinstance(given, other)


def _of_items(given: Any, back: Any, path: str, *, is_open: bool) -> str | None:
    if len(given) != len(back):
        return f"{path} has {len(given)} items and would come back with {len(back)}"
    for i, (one, other) in enumerate(zip(given, back, strict=True)):
        if found := difference(one, other, f"{path}[{i}]", is_open=is_open):
            return found
    return None


def _of_dicts(given: Any, back: Any, path: str, *, is_open: bool) -> str | None:
    keys = {key: key for key in back}
    for key, value in given.items():
        if key not in keys:
            return f"{path}[{_shown(key)}] would be lost"
        if found := difference(key, keys[key], f"a key of {path}", is_open=is_open):
            return found
        if found := difference(value, back[key], f"{path}[{_shown(key)}]", is_open=is_open):
            return found
    extra = next((key for key in back if key not in given), None)
    return None if extra is None else f"{path}[{_shown(extra)}] would come back, and is not there"


def _of_models(given: BaseModel, back: BaseModel, path: str, *, is_open: bool) -> str | None:
    names = list(type(given).model_fields)
    if found := _of_attributes(given, back, names, path, is_open=is_open):
        return found
    extra = given.__pydantic_extra__ or {}, back.__pydantic_extra__ or {}
    if found := _of_dicts(*extra, path, is_open=is_open):
        return found
    private = given.__pydantic_private__ or {}, back.__pydantic_private__ or {}
    return _of_hidden(*private, path)


def _of_attributes(
    given: Any, back: Any, names: Collection[str], path: str, *, is_open: bool
) -> str | None:
    for name in names:
        one, other = getattr(given, name, None), getattr(back, name, None)
        if found := difference(one, other, f"{path}.{name}", is_open=is_open):
            return found
    return None


def _of_others(given: Any, back: Any, names: Collection[str], path: str) -> str | None:
    """Compare what an object holds beside its fields. What it computes once it computes again."""
    kept = {
        name: value
        for name, value in getattr(given, "__dict__", {}).items()
        if name not in names and not isinstance(getattr(type(given), name, None), cached_property)
    }
    return _of_hidden(kept, getattr(back, "__dict__", {}), path)


def _of_hidden(given: Mapping[str, Any], back: Mapping[str, Any], path: str) -> str | None:
    """Compare what is in no record. A lock or a client that is made anew is as good as before."""
    for name, value in given.items():
        if name not in back:
            return f"{path}.{name} would be lost"
        is_data = isinstance(value, (*_PLAIN, Decimal, bool, type(None)))
        if is_data and (found := difference(value, back[name], f"{path}.{name}")):
            return found
    return None


def _is_equal(given: Any, back: Any) -> bool:
    if isinstance(given, float):
        return bool(given == back or (isnan(given) and isnan(back)))
    if isinstance(given, Decimal):
        return str(given) == str(back)  # 2.0 and 2.00 are equal, and are not the same
    if isinstance(given, datetime):
        return _moment(given) == _moment(back)
    if isinstance(given, (set, frozenset)):
        return given == back and _types(given) == _types(back)
    try:
        return bool(given == back)
    except Exception:  # noqa: BLE001 - an object's own __eq__ is user code
        return False


def _moment(when: datetime) -> object:
    """Return what is to stay of a datetime: of an aware one, no more than the moment."""
    if when.tzinfo is None:
        return when, when.fold
    try:
        return when.astimezone(UTC)
    except OverflowError:
        return when.replace(tzinfo=None), when.utcoffset()


def _types(values: Collection[object]) -> list[str]:
    return sorted(type(value).__name__ for value in values)


def _shown(key: object) -> str:
    return repr(key)[:80]
