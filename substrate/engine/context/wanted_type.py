"""The type that a wait expects, read from its row: described in words, and checked against a value.

A wait records the JSON Schema of its type. A process that does not have the type, such as the
command line, can so say what to send, and refuse a typing error before it is sent. The wait itself
decides in the end: the validators of its type are not known here.

Invariants: a value that the wait would accept is never refused here. A row without a schema, as in
older journals and for types that have none, expects anything.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from substrate.engine.context.misfit import Schema, Seen, problem
from substrate.values.codec import decode
from substrate.values.records import JsonText, Kind, Promise

T = TypeVar("T")

# A type may contain itself, so both end at a depth, counted in levels of the schema.
_DEEPEST, _DEEPEST_DESCRIBED = 8, 2  # levels of an example, and that are put into words
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
        return self._answer(lambda seen: problem(self.schema, value, seen), None)

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
        case {"anyOf": [*choices]} | {"oneOf": [*choices]}:
            return " or ".join(dict.fromkeys(_words(each, seen, depth + 1) for each in choices))
        case {"type": "object", "properties": properties}:
            return f"an object with {_one_of(properties, ' and ')}"
        case {"type": "object"}:
            return _NAMES["object"]
        case {"type": "array", "items": items}:
            return f"a list, each {_words(items, seen, depth + 1)}"
        case {"type": "array", "prefixItems": [*places]}:
            inside = ", ".join(_words(each, seen, depth + 1) for each in places)
            return f"a list of {len(places)}: {inside}"
        case {"type": "string", "format": str() as form} if form in _FORMS:
            return _FORMS[form]
        case {"type": str() as type_} if type_ in _NAMES:
            return _NAMES[type_] + _bounds(found)
    return _ANYTHING


def _example(schema: Any, seen: Seen, depth: int) -> Any:
    match seen(schema):
        case _ if depth > _DEEPEST:
            return None
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]}:
            return _example(first, seen, depth + 1)
        case {"type": "object", "properties": properties} as found:
            needed = found.get("required", ())
            return {k: _example(v, seen, depth + 1) for k, v in properties.items() if k in needed}
        case {"type": "array", "items": items}:
            return [_example(items, seen, depth + 1)]
        case {"type": "array", "prefixItems": [*places]}:
            return [_example(each, seen, depth + 1) for each in places]
        case {"type": "object"}:
            return {}
        case {"type": "boolean"}:
            return True
        case {"type": "integer" | "number"}:
            return "NUMBER"
        case {"type": "null"}:
            return None
        case {"type": "string"} as found:
            words = _FORMS.get(found.get("format", ""), "")
            return words.partition(" such as ")[2] or "TEXT"
    return "VALUE"


def _one_of(names: Iterable[str], last: str = " or ") -> str:
    found = list(names)
    if not found:
        return "nothing"
    *others, final = found if len(found) <= _FEW else [*found[:_FEW], "…"]
    return f"{', '.join(others)}{last}{final}" if others else final


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    bounds = [
        "" if least is None else f", {least} or more",
        "" if above is None else f", more than {above}",
        "" if most is None else f", {most} or less",
        "" if below is None else f", less than {below}",
    ]
    return "".join(bounds)


_NAMES = {
    "boolean": "true, false, yes or no",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "null": "null",
    "object": "an object",
    "array": "a list",
}
_FORMS: Mapping[str, str] = {
    "date": "a date such as 2026-11-28",
    "date-time": "a moment such as 2026-11-28T09:05:00+01:00",
    "time": "a time of day such as 09:05",
    "duration": "a duration such as PT5M",
    "uuid": "a UUID such as 6fa459ea-ee8a-4ca4-894e-db77e160355e",
    "decimal": "a number in quotes, such as 9.90",
    "ipv4": "an address such as 127.0.0.1",
    "ipv6": "an address such as ::1",
}
