"""A JSON Schema as a check of a value: what of it is known here, and what is wrong with a value.

Known are the keywords of draft 2020-12 that say something of a value, and references within the
schema; the formats of texts are notes for people. Any other keyword is refused when the check is
made, so that nothing passes because nobody looked at it.

Invariants: pure; a value is looked at to a depth of `DEEPEST` references.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from substrate.models.messages import Json
from substrate.values.errors import Misuse
from substrate.values.near import did_you_mean
from substrate.values.number import is_amount, is_whole

DEEPEST = 200
"""So many schemas may stand in each other for one value: one that refers to itself has no end."""

_NOTES = frozenset(
    {
        *("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default"),
        *("examples", "format", "deprecated", "readOnly", "writeOnly", "contentMediaType"),
        *("contentEncoding", "$anchor", "discriminator"),
    }
)
_ONE = ("not", "if", "then", "else", "items", "contains", "propertyNames", "additionalProperties")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")

_TYPES: Mapping[str, Callable[[Json], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_amount(value) and value == int(value),
    "number": is_amount,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def check_schema(schema: object) -> None:
    """Raise `Misuse` for a schema that says something that is not known here."""
    _check(schema, schema)


def problems(schema: Mapping[str, Json], value: Json) -> list[str]:
    """Return what is wrong with a value, a line for each place; nothing where it fits.

    >>> problems({"type": "object", "required": ["title"]}, {})
    ["- the whole: 'title' is missing"]
    """
    found = _Look(schema).problems(schema, value, "", 0)
    return [f"- {at or 'the whole'}: {problem}" for at, problem in found]


Found = Iterator[tuple[str, str]]


class _Look:
    """One look at a value: the schema that references lead into."""

    __slots__ = ("_root",)

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._root = root

    def problems(self, schema: Json, value: Json, at: str, depth: int) -> Found:
        """Yield what is wrong with a value, each with its place."""
        if isinstance(schema, bool):
            if not schema:
                yield at, "nothing may stand here"
            return
        if depth > DEEPEST:
            yield at, f"it is more than {DEEPEST} schemas deep"
            return
        if "$ref" in schema:
            yield from self.problems(_referred(self._root, schema["$ref"]), value, at, depth + 1)
        yield from ((at, problem) for problem in _own(schema, value))
        yield from self._composed(schema, value, at, depth + 1)
        if isinstance(value, dict):
            yield from self._object(schema, value, at, depth + 1)
        if isinstance(value, list):
            yield from self._array(schema, value, at, depth + 1)

    def _fits(self, schema: Json, value: Json, depth: int) -> bool:
        return next(self.problems(schema, value, "", depth), None) is None

    def _composed(self, schema: Mapping[str, Json], value: Json, at: str, depth: int) -> Found:
        for each in schema.get("allOf", ()):
            yield from self.problems(each, value, at, depth)
        for name in ("anyOf", "oneOf"):
            if name not in schema:
                continue
            fitting = [each for each in schema[name] if self._fits(each, value, depth)]
            if not fitting:
                yield at, f"it fits none of the {len(schema[name])} kinds that it may be"
            elif name == "oneOf" and len(fitting) > 1:
                yield at, f"it fits {len(fitting)} kinds, and is to be one of them"
        if "not" in schema and self._fits(schema["not"], value, depth):
            yield at, "it is what it must not be"
        if "if" in schema:
            then = "then" if self._fits(schema["if"], value, depth) else "else"
            yield from self.problems(schema.get(then, True), value, at, depth)

    def _object(
        self, schema: Mapping[str, Json], value: dict[str, Json], at: str, depth: int
    ) -> Found:
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, inner in value.items():
            place, is_known = f"{at}.{name}" if at else name, name in properties
            if is_known:
                yield from self.problems(properties[name], inner, place, depth)
            for pattern, each in patterns.items():
                if re.search(pattern, name):
                    is_known = True
                    yield from self.problems(each, inner, place, depth)
            if not is_known and "additionalProperties" in schema:
                yield from self.problems(schema["additionalProperties"], inner, place, depth)
            if not self._fits(schema.get("propertyNames", True), name, depth):
                yield place, "it may not be called that"
        for name, each in schema.get("dependentSchemas", {}).items():
            if name in value:
                yield from self.problems(each, value, at, depth)

    def _array(self, schema: Mapping[str, Json], value: list[Json], at: str, depth: int) -> Found:
        first = schema.get("prefixItems", ())
        for i, inner in enumerate(value):
            each = first[i] if i < len(first) else schema.get("items", True)
            yield from self.problems(each, inner, f"{at}.{i}" if at else str(i), depth)
        if "contains" in schema:
            count = sum(self._fits(schema["contains"], each, depth) for each in value)
            least, most = schema.get("minContains", 1), schema.get("maxContains", count)
            if not least <= count <= most:
                yield at, f"{count} of its items are of the kind of which there must be {least}"


def _own(schema: Mapping[str, Json], value: Json) -> Iterator[str]:
    """Yield what is wrong with a value by itself, whatever stands in it."""
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(_TYPES[each](value) for each in types):
            yield f"it is to be {' or '.join(types)}"
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        yield f"it is none of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"it is to be {schema['const']!r}"
    yield from _sized(schema, value)
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"it does not match {schema['pattern']!r}"
    if isinstance(value, list) and schema.get("uniqueItems") and _has_twins(value):
        yield "two of its items are the same"
    if isinstance(value, dict):
        wanted = [*schema.get("required", ())]
        wanted += [
            each
            for k, names in schema.get("dependentRequired", {}).items()
            if k in value
            for each in names
        ]
        yield from (f"{name!r} is missing" for name in wanted if name not in value)


_SIZES: Sequence[tuple[tuple[str, str], type[Any], str]] = (
    (("minLength", "maxLength"), str, "characters"),
    (("minItems", "maxItems"), list, "items"),
    (("minProperties", "maxProperties"), dict, "fields"),
)


def _sized(schema: Mapping[str, Json], value: Json) -> Iterator[str]:
    for (least, most), kind, unit in _SIZES:
        if not isinstance(value, kind):
            continue
        if len(value) < schema.get(least, 0):
            yield f"it has {len(value)} {unit}, and at least {schema[least]} are wanted"
        if most in schema and len(value) > schema[most]:
            yield f"it has {len(value)} {unit}, and at most {schema[most]} are allowed"
    if not is_amount(value):
        return
    if "minimum" in schema and value < schema["minimum"]:
        yield f"it is to be {schema['minimum']} or more"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"it is to be {schema['maximum']} or less"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"it is to be above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield f"it is to be below {schema['exclusiveMaximum']}"
    # As they are written: 0.3 is a multiple of 0.1, which no float of them is.
    if "multipleOf" in schema and Decimal(str(value)) % Decimal(str(schema["multipleOf"])):
        yield f"it is no multiple of {schema['multipleOf']}"


def _are_texts(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(each, str) for each in given)


_COUNTS = ("minContains", "maxContains", *(name for names, _, _ in _SIZES for name in names))

_OWN: Mapping[str, Callable[[Any], bool]] = {
    "type": lambda given: all(
        each in _TYPES for each in ([given] if isinstance(given, str) else given)
    ),
    "enum": lambda given: isinstance(given, list),
    "const": lambda given: True,
    "required": _are_texts,
    "dependentRequired": lambda given: all(map(_are_texts, given.values())),
    "pattern": lambda given: re.compile(given) is not None,
    "uniqueItems": lambda given: isinstance(given, bool),
    "multipleOf": lambda given: is_amount(given) and given > 0,
    **{name: lambda given: is_whole(given) and given >= 0 for name in _COUNTS},
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), is_amount),
}
"""The keywords about a value by itself, and whether what they are given is right."""

_KNOWN = frozenset({*_NOTES, *_ONE, *_LISTS, *_NAMED, *_OWN, "$ref"})


def _check(schema: object, root: object, at: str = "#") -> None:
    if isinstance(schema, bool) and at != "#":
        return
    if not isinstance(schema, dict):
        raise Misuse(f"{at} of the schema is {schema!r:.80}; a schema is an object")
    for key, given in schema.items():
        place = f"{at}/{key}"
        try:
            _check_keyword(key, given, root, place)
        except (TypeError, ValueError, AttributeError, LookupError, re.error) as error:
            cause = f"{given!r:.80}, which it cannot be: {error}"
            raise Misuse(f"{place} of the schema is {cause}") from None


def _check_keyword(key: str, given: Any, root: object, place: str) -> None:
    if key not in _KNOWN:
        near = did_you_mean(key, sorted(_KNOWN))
        raise Misuse(f"{place} of the schema is a keyword that is not known here{near}")
    if key in _ONE:
        _check(given, root, place)
    elif key in _LISTS:
        for i, each in enumerate(given):
            _check(each, root, f"{place}/{i}")
    elif key in _NAMED:
        for name, each in given.items():
            _check(each, root, f"{place}/{name}")
            if key == "patternProperties":
                re.compile(name)
    elif key == "$ref":
        _referred(root, given)
    elif key in _OWN and not _OWN[key](given):
        raise ValueError("it is of another kind")


def _referred(root: Any, pointer: str) -> Json:
    """Return what a reference within the schema leads to. Raises `ValueError` for any other."""
    if not pointer.startswith("#"):
        raise ValueError("only references within the schema are followed")
    found = root
    for part in filter(None, pointer[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def _same(one: Json, other: Json) -> bool:
    """Whether two values are the same JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _has_twins(values: Sequence[Json]) -> bool:
    return any(_same(one, other) for i, one in enumerate(values) for other in values[:i])
