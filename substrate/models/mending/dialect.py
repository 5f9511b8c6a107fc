"""A schema of whatever draft, or of none, as one of JSON Schema draft 2020-12. Pure.

Tools come from everywhere: older drafts, OpenAPI, hands. A keyword whose value means nothing in
this draft is left out, which asks for less than was meant, and never for more. What is no keyword
of JSON Schema stays, as an annotation.

Invariants: the result is valid, and so are the references in it; what is valid comes back as it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from math import isfinite

from substrate.models.mending.notes import Note
from substrate.models.mending.rules import Rule
from substrate.models.mending.walk import (
    LISTED,
    NAMED,
    SINGLE,
    Schema,
    in_words,
    leads_somewhere,
    walked,
)
from substrate.models.parts import Json

DEEPEST = 64
"""How deep a schema may be anywhere: recursion ends there."""

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_TEXTS = ("title", "description", "format", "pattern", "$comment", "$anchor")
_COUNTS = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("minContains", "maxContains"),
)
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_FLAGS = ("uniqueItems", "deprecated", "readOnly", "writeOnly")
_MAY_BE_FLAGS = ("additionalProperties", "unevaluatedItems", "unevaluatedProperties")
_OF_DOCUMENTS = ("$schema", "$id", "$vocabulary", "$dynamicRef", "$dynamicAnchor", "$recursiveRef")


def in_this_draft(schema: Schema, note: Note) -> Schema:
    """Return a schema that is valid in draft 2020-12."""
    made = _schema(schema, 0, note)
    made = walked(made, lambda each: _with_ref(each, made))
    if made == schema:
        return schema
    note(Rule.DIALECT)
    return made


def _with_ref(schema: Schema, root: Schema) -> Schema:
    """Return a schema without a reference that leads nowhere in its own document."""
    if "$ref" not in schema or leads_somewhere(root, schema["$ref"]):
        return schema
    return {key: value for key, value in schema.items() if key != "$ref"}


def _schema(schema: Mapping[str, Json], depth: int, note: Note) -> Schema:
    if depth > DEEPEST:
        note(Rule.DEEP)
        return {}
    made: Schema = {}
    for key, value in _renewed(schema).items():
        kept = _keyword(key, value, depth, note)
        if kept is not None or key in ("const", "default"):  # whose value may be None
            made[key] = kept
    return _with_pattern(made)


def _keyword(key: str, value: Json, depth: int, note: Note) -> Json:
    """Return a keyword's value, or None where it means nothing in this draft."""
    if key in NAMED:
        if not isinstance(value, dict):
            return None
        return {name: _inner(each, depth, note) for name, each in value.items()}
    if key in LISTED:
        if not isinstance(value, list) or not value:
            return None
        return [_inner(each, depth, note) for each in value]
    if key in SINGLE:
        if isinstance(value, bool) and key in _MAY_BE_FLAGS:
            return value
        return _inner(value, depth, note) if isinstance(value, dict | bool) else None
    check = _CHECKS.get(key)
    return value if check is None or check(value) else _repaired(key, value)


def _inner(value: Json, depth: int, note: Note) -> Json:
    if isinstance(value, dict):
        return _schema(value, depth + 1, note)
    return {"not": {}} if value is False else {}


def _renewed(schema: Mapping[str, Json]) -> Schema:
    """Return a schema with the keywords of older drafts as this one writes them."""
    made = {key: value for key, value in schema.items() if key not in _OF_DOCUMENTS}
    if isinstance(made.get("items"), list):
        made["prefixItems"] = made.pop("items")
        if "additionalItems" in made:
            made["items"] = made.pop("additionalItems")
    made.pop("additionalItems", None)
    for bound, exclusive in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ):
        if isinstance(made.get(exclusive), bool):
            is_exclusive = made.pop(exclusive)
            if is_exclusive and bound in made:
                made[exclusive] = made.pop(bound)
    dependencies = made.pop("dependencies", None)
    if isinstance(dependencies, dict):
        lists = {key: each for key, each in dependencies.items() if isinstance(each, list)}
        others = {key: each for key, each in dependencies.items() if isinstance(each, dict)}
        made.update({"dependentRequired": lists} if lists else {})
        made.update({"dependentSchemas": others} if others else {})
    return made


def _repaired(key: str, value: Json) -> Json:
    """Return what a value that is not valid may have meant, or None."""
    match key, value:
        case "type", str():
            return value.lower() if value.lower() in _TYPES else None
        case "type", list():
            kinds = [each.lower() for each in value if isinstance(each, str)]
            known = list(dict.fromkeys(each for each in kinds if each in _TYPES))
            return known or None
        case "enum", list():
            return list({_spelled(each): each for each in value}.values()) or None
        case "required", list():
            return list(dict.fromkeys(each for each in value if isinstance(each, str)))
    return None


def _spelled(value: Json) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _with_pattern(schema: Schema) -> Schema:
    """Return a schema in which a pattern that not everybody can read is said in words."""
    pattern = schema.get("pattern")
    if pattern is None or _compiles(pattern):
        return schema
    rest = {key: value for key, value in schema.items() if key != "pattern"}
    return in_words(rest, {"pattern": pattern})


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_flag(value: Json) -> bool:
    return isinstance(value, bool)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Json) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_type(value: Json) -> bool:
    if isinstance(value, list):
        return bool(value) and _are_unique(value) and all(each in _TYPES for each in value)
    return value in _TYPES


def _are_unique(values: Json) -> bool:
    return len({_spelled(each) for each in values}) == len(values)


def _are_values(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and _are_unique(value)


def _are_names(value: Json) -> bool:
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return is_list and _are_unique(value)


def _are_names_by_name(value: Json) -> bool:
    return isinstance(value, dict) and all(map(_are_names, value.values()))


_CHECKS: Mapping[str, Callable[[Json], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(_COUNTS, _is_count),
    **dict.fromkeys(_NUMBERS, _is_number),
    **dict.fromkeys(_FLAGS, _is_flag),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "type": _is_type,
    "enum": _are_values,
    "required": _are_names,
    "dependentRequired": _are_names_by_name,
    "$ref": _is_text,
    "examples": lambda value: isinstance(value, list),
}
