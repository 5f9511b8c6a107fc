"""What a rule compares, held against the types of a tool's arguments: what could never be compared.

An allow whose comparison cannot be made lets nothing through, and a deny stops all; so it is told
when the rule is added, where the tool is known. Pure.

Invariant: what might be compared is never refused here. Of a type that is not known, anything may.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from substrate.agent.rule_condition import Comparison, read_time

_TIMES: tuple[type, ...] = (datetime, date, time, timedelta)
_TEXTS = (str, UUID, PurePath)
_LISTS = (list, tuple, set, frozenset)
_WORDS = {"number": "a number", "text": "text", "bool": "true or false", "list": "a list"}


def misfit(comparison: Comparison, hint: Any) -> tuple[str, str] | None:
    """Say why a comparison with an argument of a type can never be made; None where it may be.

    Returns the fact, and what to write instead where that is clear, to follow it.
    """
    kinds = list(_kinds(hint))
    if None in kinds or "." in comparison.field:  # what lies inside of it is not looked at
        return None
    values = comparison.value if comparison.op == "in" else [comparison.value]
    if any(_fits(comparison.op, value, kind) for value in values for kind in kinds):
        return None
    are = " or ".join(dict.fromkeys(_name(kind) for kind in kinds))
    shown = json.dumps(comparison.value, ensure_ascii=False)
    what = f"{comparison.field} is {are}, which `{comparison.op}` cannot compare with {shown}"
    near = _meant(comparison.value, kinds)
    return what, "" if near is None else f"; write {comparison.field} {comparison.op} {near}"


def _kinds(hint: Any) -> Iterator[str | type | None]:
    """Yield what an argument may be once it is judged; None for what is not known."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif origin in (Union, UnionType):
        for each in get_args(hint):
            yield from _kinds(each)
    elif origin is Literal:
        for each in get_args(hint):
            yield _kind_of(type(each))
    elif isinstance(hint, type) and issubclass(hint, Enum):
        for member in hint:
            yield _kind_of(type(member.value))
    elif (origin or hint) in _LISTS:
        yield "list"
    else:
        yield _kind_of(hint) if isinstance(hint, type) else None


def _kind_of(type_: type) -> str | type | None:
    if issubclass(type_, bool):
        return "bool"
    if issubclass(type_, int | float | Decimal):
        return "number"
    if issubclass(type_, NoneType):
        return "nothing"
    if issubclass(type_, _TEXTS):
        return "text"
    return next((each for each in _TIMES if issubclass(type_, each)), None)


def _fits(op: str, value: Any, kind: str | type | None) -> bool:
    """Whether an operator compares a value with an argument of a kind: see `rule_condition`."""
    is_text = isinstance(value, str)
    if op == "starts":
        return kind == "text" or isinstance(kind, type)
    if op == "has":
        return kind == "list" or (is_text and (kind == "text" or isinstance(kind, type)))
    if value is None:
        return True
    if isinstance(kind, type):
        return any(read_time(each, value) is not None for each in _readable(kind))
    is_bool = isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not is_bool
    if op not in ("=", "!=", "in"):
        return kind == "text" and is_text
    fits = {"text": is_text, "bool": is_bool, "list": isinstance(value, list)}
    return fits.get(str(kind), False)


def _readable(kind: type) -> tuple[type, ...]:
    return (date, datetime) if kind is datetime else (kind,)


def _name(kind: str | type | None) -> str:
    if isinstance(kind, type):
        return {date: "a date", datetime: "a moment", time: "a time of day"}.get(kind, "a duration")
    return _WORDS.get(str(kind), "nothing")


def _meant(value: Any, kinds: list[str | type | None]) -> str | None:
    """Return the value as it was meant, where only its quotes are too many or too few."""
    if "number" in kinds and isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            return None
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return value if is_number else None
    if "text" in kinds and isinstance(value, int | float):
        return json.dumps(str(value))
    return None
