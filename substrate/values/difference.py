"""Whether a value has come back from its record as what it was: a walk through both.

Pure. A difference is told by its place and its types, never by its values: these may be secret,
and what is told of them is written to the journal.

What JSON cannot tell apart and programs rarely do counts as the same: a tuple and a list, an int
for a float, a subclass of a plain type and the type itself, two time zones of one moment. What else
may count as the same is said by `Allow`.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, auto
from functools import cached_property
from math import copysign, isnan
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

_PLAIN = (str, int, float, bytes, dict, list, tuple, set, frozenset, datetime, date)
_DATA = (Decimal, bool, type(None), UUID, Enum, time, timedelta, BaseModel)
_EMPTY = (list, dict, set, frozenset, tuple)


class Allow(Flag):
    """What counts as the same beside what always does."""

    NOTHING = 0
    #: In places without a type: a member that is text or a number for that, a UUID for its text.
    OPEN = auto()
    #: A field of a model that was not set, and comes back as set: its default is another each time.
    MADE = auto()
    #: A field of a model that was not set, and comes back as set: nobody knows who reads it.
    WHOLE = auto()
    #: What a program that means the annotated type gives in its place: a member for its text or
    #: number, an int for a Decimal, a set and a frozenset for each other.
    CONVERTED = auto()


def difference(given: Any, back: Any, path: str = "", allow: Allow = Allow.NOTHING) -> str | None:
    """Say where a value that has come back differs from the one that was given; None if nowhere.

    >>> difference({"a": [1, 2]}, {"a": [1, "2"]}, "it")
    "it['a'][1] is int and would come back as str"
    """
    if given is back:
        return None
    if allow and type(given) is not type(back):
        given = _allowed(given, back, allow)
    if not _is_same_type(given, back):
        if hasattr(given, "get_secret_value"):
            return f"{path} is a secret"
        return f"{path} is {type(given).__name__} and would come back as {type(back).__name__}"
    if isinstance(given, (list, tuple)):
        return _of_items(given, back, path, allow)
    if isinstance(given, (set, frozenset)):
        return _of_sets(given, back, path, allow)
    if isinstance(given, dict):
        return _of_dicts(given, back, path, allow)
    if isinstance(given, BaseModel):
        return _of_models(given, back, path, allow)
    if is_dataclass(given):
        names = [field.name for field in fields(given)]
        return _of_attributes(given, back, names, path, allow) or _of_others(
            given, back, names, path
        )
    if _is_equal(given, back):
        return None
    if hasattr(given, "get_secret_value"):
        return f"{path} is a secret"
    return f"{path} would come back as another {type(given).__name__}"


def _allowed(given: Any, back: Any, allow: Allow) -> Any:
    """Return what a value counts as, where something of another type has come back."""
    if isinstance(given, Enum):
        # Any other is no text and no number, and what stands for it is not equal to it.
        is_known = bool(allow & (Allow.CONVERTED | Allow.OPEN)) and isinstance(given, (str, int))
        return given.value if is_known else given
    if isinstance(given, UUID) and Allow.OPEN in allow:
        return str(given)
    if Allow.CONVERTED in allow:
        if isinstance(back, Decimal) and isinstance(given, int) and not isinstance(given, bool):
            return Decimal(given)
        if isinstance(given, (set, frozenset)) and isinstance(back, (set, frozenset)):
            return type(back)(given)
    return given


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


def _of_items(given: Any, back: Any, path: str, allow: Allow) -> str | None:
    if len(given) != len(back):
        return f"{path} has {len(given)} items and would come back with {len(back)}"
    for i, (one, other) in enumerate(zip(given, back, strict=True)):
        if found := difference(one, other, f"{path}[{i}]", allow):
            return found
    return None


def _of_sets(given: Any, back: Any, path: str, allow: Allow) -> str | None:
    if len(given) != len(back):
        return f"{path} has {len(given)} items and would come back with {len(back)}"
    items = {item: item for item in back}
    for item in given:
        if item not in items:
            return f"{path} would come back as another {type(given).__name__}"
        if found := difference(item, items[item], f"an item of {path}", allow):
            return found
    return None


def _of_dicts(given: Any, back: Any, path: str, allow: Allow) -> str | None:
    is_ordered = isinstance(given, OrderedDict) and isinstance(back, OrderedDict)
    if is_ordered and list(given) != sorted(given, key=_written_key):  # as they are in a record
        return f"{path} has an order, which would be lost"
    are_made = isinstance(given, defaultdict) and isinstance(back, defaultdict)
    if are_made and given.default_factory is not back.default_factory:
        return f"{path} has a default_factory, which would be lost"
    keys = {key: key for key in back}
    for key, value in given.items():
        if key not in keys:
            return f"{path}[{_shown(key)}] would be lost"
        if found := difference(key, keys[key], f"a key of {path}", allow):
            return found
        if found := difference(value, back[key], f"{path}[{_shown(key)}]", allow):
            return found
    extra = next((key for key in back if key not in given), None)
    return None if extra is None else f"{path}[{_shown(extra)}] would come back, and is not there"


def _of_models(given: BaseModel, back: BaseModel, path: str, allow: Allow) -> str | None:
    names = list(type(given).model_fields)
    if found := _of_attributes(given, back, names, path, allow):
        return found
    if found := _of_set_fields(given, back, path, allow):
        return found
    extra = given.__pydantic_extra__ or {}, back.__pydantic_extra__ or {}
    if found := _of_dicts(*extra, path, allow):
        return found
    private = given.__pydantic_private__ or {}, back.__pydantic_private__ or {}
    return _of_hidden(*private, path)


def _of_set_fields(given: BaseModel, back: BaseModel, path: str, allow: Allow) -> str | None:
    """Compare which fields were set: a change of some fields leaves the others as they are.

    Not of a model that writes its own form, which says what there is to say.
    """
    if type(given).__pydantic_decorators__.model_serializers:
        return None
    for name in sorted(given.model_fields_set ^ back.model_fields_set):
        was_set = name in given.model_fields_set
        is_lenient = bool(allow & (Allow.MADE | Allow.WHOLE))
        field = type(given).model_fields.get(name) if is_lenient else None
        may_be_set = Allow.WHOLE in allow or (field is not None and not is_remade(given, name))
        if field is not None and (field.exclude if was_set else may_be_set):
            continue
        was, would = ("set", "not set") if was_set else ("not set", "set")
        return f"{path}.{name} was {was} and would come back as {would}"
    return None


def is_remade(model: BaseModel, name: str) -> bool:
    """Whether a reader makes the same of a field that is left out, in any process, on any day.

    A factory is not asked: that it gives the same twice now says nothing about tomorrow. A default
    that may have been made when the class was (an id, a moment, an object) says no more.
    """
    field, value = type(model).model_fields[name], getattr(model, name, None)
    if field.default_factory is not None:
        return field.default_factory in _EMPTY and type(value) in _EMPTY and not value
    return _is_constant(field.default) and difference(field.default, value) is None


def _is_constant(value: Any) -> bool:
    if isinstance(value, _EMPTY):
        inside = (*value, *value.values()) if isinstance(value, dict) else value
        return all(_is_constant(item) for item in inside)
    return isinstance(value, (str, int, float, bytes, Decimal, Enum, type(None)))


def _of_attributes(
    given: Any, back: Any, names: Collection[str], path: str, allow: Allow
) -> str | None:
    for name in names:
        one, other = getattr(given, name, None), getattr(back, name, None)
        if found := difference(one, other, f"{path}.{name}", allow):
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
        is_data = isinstance(value, (*_PLAIN, *_DATA))
        if is_data and (found := difference(value, back[name], f"{path}.{name}")):
            return found
    return None


def _is_equal(given: Any, back: Any) -> bool:
    if isinstance(given, float):
        is_same = given == back and copysign(1, given) == copysign(1, back)
        return bool(is_same or (isnan(given) and isnan(back)))
    if isinstance(given, Decimal):
        return str(given) == str(back)  # 2.0 and 2.00 are equal, and are not the same
    if isinstance(given, datetime):
        return _moment(given) == _moment(back)
    if isinstance(given, time):
        return _hour(given) == _hour(back)
    if isinstance(given, deque) and given.maxlen != back.maxlen:
        return False
    try:
        return bool(given == back)
    except Exception:  # noqa: BLE001 - an object's own __eq__ is user code
        return False


def _hour(when: time) -> object:
    """Return what is to stay of a time of day. Without an offset, its zone and its fold say more.

    One whose zone has an offset only on a date is equal to one without a zone, and is not the same.
    """
    offset, plain = when.utcoffset(), when.replace(tzinfo=None, fold=0)
    return (plain, offset, when.tzinfo is None, when.fold if offset is None else 0)


def _moment(when: datetime) -> object:
    """Return what is to stay of a datetime: of an aware one, no more than the moment."""
    if when.tzinfo is None:
        return when, when.fold
    try:
        return when.astimezone(UTC)
    except OverflowError:
        return when.replace(tzinfo=None), when.utcoffset()


def _written_key(key: Any) -> str:
    return key if isinstance(key, str) else str(next(iter(to_jsonable_python({key: None}))))


def _shown(key: object) -> str:
    return repr(key)[:80]
