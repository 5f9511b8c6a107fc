"""Why a JSON value surely does not fit a JSON Schema: what can be known without the type itself.

pydantic made the schema and will judge the value, and converts much: "5" is an int to it. So a text
is tried by pydantic's own types, and by all that a type may make of it before it looks.

Invariants: a value that the type would accept is never refused here. What only the type's own
validators know is not refused here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from math import inf
from typing import Annotated, Any
from uuid import UUID

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from substrate.engine.context.yes_no import yes_and_no

Schema = Mapping[str, Any]
Seen = Callable[[Any], Schema]
"""Returns a part of a schema; for a `$ref`, the part that it points to."""

_DEEPEST = 8  # levels of the schema that are checked: a type may contain itself


def problem(schema: Any, value: Any, seen: Seen, at: str = "", depth: int = 0) -> str | None:
    """Return why pydantic surely refuses a value, with its place; None if it may accept it."""
    found = seen(schema)
    if depth > _DEEPEST:
        return None
    return next(_problems(found, value, seen, at, depth), None)


def _problems(schema: Schema, value: Any, seen: Seen, at: str, depth: int) -> Iterator[str]:
    here = f"{at}: " if at else ""
    match schema:
        case {"anyOf": [*choices]} | {"oneOf": [*choices]}:
            # One choice without a problem is enough: pydantic tries them all.
            if all(problem(each, value, seen, at, depth + 1) for each in choices):
                yield f"{here}{value!r} is none of these"
        # Compared as text, since pydantic may convert: an enum of 1 and 2 may take "1".
        case {"enum": [*values]} if str(value) not in map(str, values):
            yield f"{here}{value!r} is none of these"
        case {"const": only} if str(value) != str(only):
            yield f"{here}{value!r} is not {only!r}"
        case {"enum": _} | {"const": _}:
            return
        case {"type": "object"} if isinstance(value, dict):
            yield from _in_object(schema, value, seen, at, depth)
        case {"type": "object"}:
            yield f"{here}{value!r} is no object"
        case {"type": "array"} if isinstance(value, list):
            yield from _in_list(schema, value, seen, at, depth)
        case {"type": "array"}:
            yield f"{here}{value!r} is no list"
        case {"type": "integer" | "number"} if isinstance(value, bool) and not at:
            # The wait refuses a bool for a number; but inside of a type, pydantic takes it.
            yield f"{value!r} is no number"
        case {"type": str() as type_} if type_ in _PLAIN:
            yield from (f"{here}{value!r} {wrong}" for wrong in _PLAIN[type_](schema, value))


def _in_object(
    schema: Schema, value: dict[str, Any], seen: Seen, at: str, depth: int
) -> Iterator[str]:
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    others = schema.get("additionalProperties", not patterns)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name} is missing" if at else f"{name} is missing"
    for name, inside in value.items():
        place = f"{at}.{name}" if at else name
        kinds = [each for pattern, each in patterns.items() if re.search(pattern, name)]
        if name in known:
            kinds = [known[name]]
        elif not kinds and others is False:
            yield f"{place} is not known; there are: {', '.join([*known, *patterns])}"
        elif not kinds and isinstance(others, dict):
            kinds = [others]
        if wrong := problem(schema.get("propertyNames", {}), name, seen, depth=depth + 1):
            yield f"{at}: a name in it: {wrong}" if at else f"a name in it: {wrong}"
        yield from filter(None, (problem(each, inside, seen, place, depth + 1) for each in kinds))
    yield from _in_size(schema, len(value), "Properties", at)


def _in_list(schema: Schema, value: list[Any], seen: Seen, at: str, depth: int) -> Iterator[str]:
    first = schema.get("prefixItems", [])
    for place, inside in enumerate(value):
        kind = first[place] if place < len(first) else schema.get("items", {})
        yield from filter(None, [problem(kind, inside, seen, f"{at}[{place}]", depth + 1)])
    # A set counts what is alike once.
    yield from _in_size(schema, len(value), "Items", at, may_shrink="uniqueItems" in schema)


def _in_size(
    schema: Schema, size: int, of: str, at: str, *, may_shrink: bool = False
) -> Iterator[str]:
    here = f"{at}: " if at else ""
    least, most = schema.get(f"min{of}", 0), schema.get(f"max{of}", inf)
    if size < least:
        yield f"{here}there are {size}, and {least} are wanted at least"
    if size > most and not may_shrink:
        yield f"{here}there are {size}, and {most} are wanted at most"


def _in_text(schema: Schema, value: Any) -> Iterator[str]:
    form: str | None = schema.get("format")
    if form == "decimal":
        yield from _in_number(schema, value)
    elif form and form in _FORMS:
        if not _makes(_adapter(_FORMS[form]), value):
            yield f"is no {_FORMS[form].__name__}"
    elif form is not None:  # one that is not known here may take a number
        return
    elif not isinstance(value, str):
        yield "is not text"
    else:
        # The type may take blanks away, or change the case, before it looks.
        bare = value.strip()
        tried = {value, bare, bare.lower(), bare.upper(), value.lower(), value.upper()}
        least, most = schema.get("minLength", 0), schema.get("maxLength", inf)
        if not any(least <= len(each) <= most for each in tried):
            yield f"has {len(value):,} characters, and {_range(least, most)} are wanted"
        elif (pattern := schema.get("pattern")) and not any(_matches(pattern, e) for e in tried):
            yield f"does not match {pattern!r}"


def _in_number(schema: Schema, value: Any) -> Iterator[str]:
    type_: type = Decimal if schema.get("format") == "decimal" else _NUMBERS[schema["type"]]
    # An int is right without being converted: a Decimal takes larger ones than a float can hold.
    if isinstance(value, bool) or not isinstance(value, int):
        if not _makes(_adapter(type_), value):
            yield "is not a whole number" if type_ is int else "is not a number"
            return
        value = _adapter(type_).validate_python(value)
    least, most = schema.get("minimum", -inf), schema.get("maximum", inf)
    if value < least or value > most:
        yield f"is not {_range(least, most)}"
    if (above := schema.get("exclusiveMinimum")) is not None and value <= above:
        yield f"is not more than {above}"
    if (below := schema.get("exclusiveMaximum")) is not None and value >= below:
        yield f"is not less than {below}"
    if type_ is int and value % schema.get("multipleOf", 1):
        yield f"is no multiple of {schema['multipleOf']}"


def _matches(pattern: str, value: str) -> bool:
    """Whether it matches for either engine that a type may have."""
    try:
        return bool(re.search(pattern, value)) or _makes(_pattern(pattern), value)
    except (re.error, SchemaError):
        return True


def _range(least: float, most: float) -> str:
    if least > -inf and most < inf:
        return f"{least} to {most}"
    return f"{least} or more" if most == inf else f"{most} or less"


@cache
def _adapter(type_: type) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


@cache
def _pattern(pattern: str) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def _makes(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _in_bool(schema: Schema, value: Any) -> Iterator[str]:
    if not _makes(yes_and_no(), value):
        yield "is not true, false, yes or no"


def _in_null(schema: Schema, value: Any) -> Iterator[str]:
    if value is not None:
        yield "is not null"


_PLAIN: Mapping[str, Callable[[Schema, Any], Iterator[str]]] = {
    "boolean": _in_bool,
    "integer": _in_number,
    "null": _in_null,
    "number": _in_number,
    "string": _in_text,
}
_NUMBERS: Mapping[str, type] = {"integer": int, "number": float}
_FORMS: Mapping[str, type] = {
    "binary": bytes,
    "date": date,
    "date-time": datetime,
    "duration": timedelta,
    "ipv4": IPv4Address,
    "ipv4network": IPv4Network,
    "ipv6": IPv6Address,
    "ipv6network": IPv6Network,
    "time": time,
    "uuid": UUID,
}
