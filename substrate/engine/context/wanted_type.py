"""The type that a wait expects, read from its row: described in words, and checked against a value.

A wait records the JSON Schema of its type. A process that does not have the type, such as the
command line, can so say what to send, and refuse a typing error before it is sent. The wait itself
decides in the end: the validators of its type are not known here.

Invariants: a value that the wait would accept is never refused here. A row without a schema, as in
older journals and for types that have none, expects anything.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from itertools import count
from math import inf
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from substrate.engine.context.yes_no import yes_and_no
from substrate.values.codec import decode
from substrate.values.records import JsonText, Kind, Promise

Schema = Mapping[str, Any]
Seen = Callable[[Any], Schema]
"""Returns a part of a schema; for a `$ref`, the part that it points to."""

T = TypeVar("T")

# A type may contain itself, so both end at a depth, counted in levels of the schema.
_DEEPEST, _DEEPEST_DESCRIBED = 8, 2  # levels that are checked, and that are put into words
_MOST_LOOKS = 10_000  # parts of a schema that are read to answer one question
_ANYTHING = "any JSON"
_FEW = 6  # fields and choices that are named, at most


@dataclass(frozen=True, slots=True)
class WantedType:
    """What a wait expects."""

    schema: Schema = field(default_factory=dict)

    @classmethod
    def by(cls, promise: Promise) -> "WantedType":
        """Return what the row of a wait says."""
        if promise.kind not in (Kind.SIGNAL, Kind.GATE):
            return cls()
        found = decode(promise.input or JsonText("{}")).get("wants")
        return cls(found if isinstance(found, dict) else {})

    @property
    def is_anything(self) -> bool:
        """Whether any value is right: no type is known."""
        return not self.schema

    @property
    def is_bool(self) -> bool:
        """Whether it is a yes or a no."""
        return self.schema.get("type") == "boolean"

    @property
    def is_text(self) -> bool:
        """Whether it is text, which a person types without quotes."""
        choices = self.schema.get("enum") or [self.schema.get("const")]
        is_named = isinstance(choices, list) and any(isinstance(each, str) for each in choices)
        return self.schema.get("type") == "string" or is_named

    @property
    def words(self) -> str:
        """The type in words: ``true, false, yes or no``, ``an object with amount and note``."""
        return self._answer(lambda seen: _words(self.schema, seen, 0), _ANYTHING)

    @property
    def example(self) -> Any:
        """A value of the type, with a word in capitals where a person has to fill something in."""
        return self._answer(lambda seen: _example(self.schema, seen, 0), "VALUE")

    def refusal(self, value: Any) -> str | None:
        """Say why a JSON value does not fit; None if it may."""
        return self._answer(lambda seen: _problem(self.schema, value, seen, "", 0), None)

    def _answer(self, read: Callable[[Seen], T], otherwise: T) -> T:
        """Return what `read` finds in the schema, or `otherwise` if it is broken or has no end.

        A row may have been written by hand. A broken one must not keep a page from showing the
        other rows.
        """
        looks = count()

        def seen(schema: Any) -> Schema:
            found = schema if isinstance(schema, dict) else {}
            while isinstance(name := found.get("$ref"), str) and next(looks) < _MOST_LOOKS:
                found = self.schema["$defs"][name.removeprefix("#/$defs/")]
            if next(looks) >= _MOST_LOOKS:
                raise OverflowError("the schema has no end")
            return found

        try:
            return read(seen)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
            return otherwise


def _words(schema: Any, seen: Seen, depth: int) -> str:
    match found := seen(schema):
        case _ if depth > _DEEPEST_DESCRIBED:
            return _ANYTHING
        case {"enum": [*values]}:
            return _one_of(map(repr, values))
        case {"const": value}:
            return repr(value)
        case {"anyOf": [*choices]}:
            return " or ".join(dict.fromkeys(_words(each, seen, depth + 1) for each in choices))
        case {"type": "object", "properties": properties}:
            return f"an object with {_one_of(properties, ' and ')}"
        case {"type": "array", "items": items}:
            return f"a list, each {_words(items, seen, depth + 1)}"
        case {"type": "string", "format": str() as form} if form in _FORMS:
            return _FORMS[form][0]
        case {"type": str() as type_} if type_ in _NAMES:
            return _NAMES[type_] + _bounds(found)
    return _ANYTHING


def _example(schema: Any, seen: Seen, depth: int) -> Any:
    match seen(schema):
        case _ if depth > _DEEPEST:
            return None
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]}:
            return _example(first, seen, depth + 1)
        case {"type": "object", "properties": properties} as found:
            needed = found.get("required", ())
            return {k: _example(v, seen, depth + 1) for k, v in properties.items() if k in needed}
        case {"type": "array", "items": items}:
            return [_example(items, seen, depth + 1)]
        case {"type": "boolean"}:
            return True
        case {"type": "integer" | "number"}:
            return "NUMBER"
        case {"type": "null"}:
            return None
        case {"type": "string"} as found:
            words = _FORMS[found["format"]][0] if found.get("format") in _FORMS else ""
            return words.partition(" such as ")[2] or "TEXT"
    return "VALUE"


def _problem(schema: Any, value: Any, seen: Seen, at: str, depth: int) -> str | None:
    """Return why pydantic surely refuses a value; None if it may accept or convert the value."""
    here = f"{at}: " if at else ""
    match found := seen(schema):
        case _ if depth > _DEEPEST:
            return None
        case {"anyOf": [*choices]}:
            # One choice without a problem is enough: pydantic tries them all.
            inside = [_problem(each, value, seen, at, depth + 1) for each in choices]
            return None if None in inside else f"{here}{value!r} is none of these"
        case {"enum": [*values]}:
            # Compared as text, since pydantic may convert: an enum of 1 and 2 may take "1".
            known = str(value) in map(str, values)
            return None if known else f"{here}{value!r} is none of these"
        case {"const": only}:
            return None if str(value) == str(only) else f"{here}{value!r} is not {only!r}"
        case {"type": "object"}:
            return _problem_of_object(found, value, seen, at, depth)
        case {"type": "array"}:
            if not isinstance(value, list):
                return f"{here}{value!r} is no list"
            items = found.get("items", {})
            problems = (
                _problem(items, each, seen, f"{at}[{i}]", depth + 1) for i, each in enumerate(value)
            )
            return next(filter(None, problems), None)
        case {"type": str() as type_} if type_ in _NAMES:
            # The wait refuses a bool for a number; but inside of a type, pydantic takes it.
            is_bool = isinstance(value, bool) and type_ in _NUMBERS and not at
            is_right = not is_bool and _fits(type_, found, value)
            return None if is_right else f"{here}{value!r} is not {_words(found, seen, depth)}"
    return None


def _problem_of_object(schema: Schema, value: Any, seen: Seen, at: str, depth: int) -> str | None:
    if not isinstance(value, dict):
        return f"{at}: {value!r} is no object" if at else f"{value!r} is no object"
    missing = [each for each in schema.get("required", ()) if each not in value]
    if missing:
        return f"{at}.{missing[0]} is missing" if at else f"{missing[0]} is missing"
    for name, inside in schema.get("properties", {}).items():
        if name in value:
            place = f"{at}.{name}" if at else name
            if problem := _problem(inside, value[name], seen, place, depth + 1):
                return problem
    return None


def _fits(type_: str, schema: Schema, value: Any) -> bool:
    """Whether pydantic converts a value to a type that has no validators of its own."""
    if type_ == "null":
        return value is None
    if type_ == "string":
        form = _FORMS.get(schema.get("format", ""))
        if form is None:  # a format that is not known here may take a number: an IP address does
            return isinstance(value, str) or "format" in schema
        return _makes(_adapter(form[1]), value)
    if type_ == "boolean":
        return _makes(yes_and_no(), value)
    # An int is right without being converted: a Decimal takes larger ones than a float can hold.
    made = _adapter(_NUMBERS[type_])
    if not isinstance(value, int) and not _makes(made, value):
        return False
    number = value if isinstance(value, int) else made.validate_python(value)
    return bool(schema.get("minimum", -inf) <= number <= schema.get("maximum", inf))


@cache
def _adapter(type_: type) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def _makes(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _one_of(names: Iterable[str], last: str = " or ") -> str:
    found = list(names)
    if not found:
        return "nothing"
    *others, final = found if len(found) <= _FEW else [*found[:_FEW], "…"]
    return f"{', '.join(others)}{last}{final}" if others else final


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f", {least} or more"
    return "" if most is None else f", {most} or less"


_NAMES = {
    "boolean": "true, false, yes or no",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "null": "null",
    "object": "an object",
    "array": "a list",
}
_NUMBERS: Mapping[str, type] = {"integer": int, "number": float}
_FORMS: Mapping[str, tuple[str, type]] = {
    "date": ("a date such as 2026-11-28", date),
    "date-time": ("a moment such as 2026-11-28T09:05:00+01:00", datetime),
    "time": ("a time of day such as 09:05", time),
    "duration": ("a duration such as PT5M", timedelta),
    "uuid": ("a UUID such as 6fa459ea-ee8a-4ca4-894e-db77e160355e", UUID),
}
