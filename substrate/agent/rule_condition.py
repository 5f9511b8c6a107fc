"""The condition of a standing rule: ``cents < 2000 and currency in ["EUR", "CHF"]``. Pure.

One or more comparisons, joined by ``and``. A field is a name of the tool's arguments, or a path of
names: ``order.total``. A value is JSON; a word without quotes is text. There is no ``or``: write
two rules.

===============================  ==================================================================
comparison                       holds where the field
===============================  ==================================================================
``= != < <= > >=``               is, is not, is less, … ; text is compared with text only, and a
                                 date, a moment, a time of day or a duration with what is one
``in [1, 2]``                    is one of these
``starts "/srv/"``               is text that begins so
``has "x"``                      is text or a list that has it
===============================  ==================================================================

A list has no fields: say which of its elements, ``items.0.price``.

What the tool's types make a date is compared as one: ``due <= 2026-12-24``. A moment is compared
with a moment, ``2026-12-24T10:00:00+01:00``, whatever the zones; or with a day, by the day that it
is in its own zone. One without a zone has no place among those with one.

Invariant: what cannot be compared is never taken for a yes that lets something through. Of a tool
that has no such argument no comparison holds. One of another type than the value, or inside of
which the path leads nowhere, makes it unknown.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from substrate.values.errors import Misuse

_TOKEN = re.compile(
    r"""\s*(?P<field>[A-Za-z_][\w.]*)\s*
        (?P<op>!=|<=|>=|=|<|>|\bin\b|\bstarts\b|\bhas\b)\s*
        (?P<value>"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s"\[\]]+)\s*""",
    re.VERBOSE,
)
_AND = re.compile(r"and\b\s*")
_HINT = 'write FIELD OP VALUE, as in cents < 2000 and currency = "EUR"'
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a field with a value."""

    field: str
    op: str
    value: Any

    def holds(self, arguments: Mapping[str, Any]) -> bool | None:
        """Whether it holds of these arguments; None where the two cannot be compared."""
        name, _, path = self.field.partition(".")
        if name not in arguments:
            return False  # all arguments of a tool are there, so it has no such one
        found = _inside(arguments[name], path)
        return None if found is _NOTHING else _HOLDS[self.op](found, self.value)


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """What a rule says of arguments: all of its comparisons."""

    comparisons: tuple[Comparison, ...]

    @classmethod
    def parse(cls, text: str) -> "RuleCondition":
        """Read a condition; empty text holds of everything. Raises `Misuse`."""
        rest, found = text.strip(), []
        while rest:
            match = _TOKEN.match(rest)
            if match is None:
                raise Misuse(f"the condition {text!r:.300} cannot be read at {rest!r:.60}; {_HINT}")
            found.append(Comparison(match["field"], match["op"], _value(match["value"], text)))
            _check(found[-1], text)
            rest = rest[match.end() :]
            if rest and not (joined := _AND.match(rest)):
                raise Misuse(
                    f"the condition {text!r:.300} has {rest!r:.60} where `and` belongs; {_HINT}"
                )
            if rest and joined and not (rest := rest[joined.end() :]):
                raise Misuse(f"the condition {text!r:.300} ends with `and`; {_HINT}")
        return cls(tuple(found))

    def holds(self, arguments: Mapping[str, Any]) -> bool | None:
        """Whether all comparisons hold; None where none fails and one cannot be judged."""
        said = [each.holds(arguments) for each in self.comparisons]
        if False in said:
            return False
        return None if None in said else True

    def fields(self) -> frozenset[str]:
        """Return the names of the arguments that it asks about."""
        return frozenset(each.field.partition(".")[0] for each in self.comparisons)


def _check(comparison: Comparison, text: str) -> None:
    """Refuse a comparison that could never hold."""
    op, value = comparison.op, comparison.value
    if op == "in" and not isinstance(value, list):
        raise Misuse(f'the condition {text!r:.300}: `in` takes a list, as in currency in ["EUR"]')
    if op == "starts" and not isinstance(value, str):
        raise Misuse(f'the condition {text!r:.300}: `starts` takes text, as in path starts "/srv/"')
    if op in _ORDERS and not (_is_number(value) or isinstance(value, str)):
        raise Misuse(f"the condition {text!r:.300}: {op} compares numbers or texts")


def _value(text: str, whole: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if text[0] in '"[':
            raise Misuse(
                f"the condition {whole!r:.300} has {text!r:.60}, which is no JSON; {_HINT}"
            ) from None
        return text


def _inside(found: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            return _NOTHING
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_same(found: Any, value: Any) -> bool | None:
    if isinstance(found, _TIMES):
        return _in_time(operator.eq, found, value)
    if _is_number(found) and _is_number(value):
        one, other = _number(found), _number(value)
        return None if one.is_nan() or other.is_nan() else one == other
    if type(found) is not type(value):
        return None if found is not None and value is not None else False
    return bool(found == value)


def _number(value: Any) -> Decimal:
    """Return a number as it is written: 0.1 is a tenth, whoever has read it."""
    # An int as it is: one of very many digits has no text.
    return Decimal(value if isinstance(value, int | Decimal) else repr(value))


def _is_other(found: Any, value: Any) -> bool | None:
    same = _is_same(found, value)
    return None if same is None else not same


def _is_one(found: Any, values: Any) -> bool | None:
    said = [_is_same(found, each) for each in values]
    if True in said:
        return True
    return None if None in said else False


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    def holds(found: Any, value: Any) -> bool | None:
        if isinstance(found, _TIMES):
            return _in_time(compare, found, value)
        if _is_number(found) and _is_number(value):
            found, value = _number(found), _number(value)
            return None if found.is_nan() or value.is_nan() else bool(compare(found, value))
        both = isinstance(found, str) and isinstance(value, str)
        return bool(compare(found, value)) if both else None

    return holds


_TIMES = (date, time, timedelta)  # a datetime is a date


def _in_time(compare: Callable[[Any, Any], bool], found: Any, value: Any) -> bool | None:
    """Compare what is a date, a moment, a time of day or a duration with what is written."""
    if value is None:
        return False if compare is operator.eq else None
    kinds = (date, datetime) if isinstance(found, datetime) else (type(found),)
    read = next(
        (each for each in (read_time(kind, value) for kind in kinds) if each is not None), None
    )
    if read is None:
        return None
    if isinstance(found, datetime) and not isinstance(read, datetime):
        found = found.date()  # the day that it is where the moment was written
    if isinstance(found, datetime | time) and (_is_aware(found) is not _is_aware(read)):
        return None
    return bool(compare(found, read))


def read_time(kind: type, value: Any) -> Any:
    """Return text as the date or the time that it says, or None; never a number, as of 1970."""
    if not isinstance(value, str) or (kind is date and len(value) != len("2026-12-24")):
        return None
    try:
        return _reader(kind).validate_python(value)
    except ValidationError:
        return None


@cache
def _reader(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _is_aware(moment: datetime | time) -> bool:
    return moment.utcoffset() is not None


def _starts(found: Any, value: Any) -> bool | None:
    found = _as_text(found)
    return found.startswith(value) if isinstance(found, str) else None


def _as_text(found: Any) -> Any:
    return to_jsonable_python(found) if isinstance(found, _TIMES) else found


def _has(found: Any, value: Any) -> bool | None:
    found = _as_text(found)
    if isinstance(found, list | tuple):
        said = [_is_same(each, value) for each in found]
        return True if True in said else None if None in said else False
    both = isinstance(found, str) and isinstance(value, str)
    return value in found if both else None


_HOLDS: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "=": _is_same,
    "!=": _is_other,
    "in": _is_one,
    "starts": _starts,
    "has": _has,
    **{op: _ordered(compare) for op, compare in _ORDERS.items()},
}
