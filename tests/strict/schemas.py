"""What is valid as a JSON Schema of draft 2020-12, and in the parts of it that providers take.

Written from the specification and its meta-schemas, not from the code that is judged by it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.strict.refused import Json

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA = re.compile(
    "items|not|if|then|else|contains|propertyNames|contentSchema|additionalProperties"
    "|unevaluatedItems|unevaluatedProperties"
)
LIST = re.compile("anyOf|oneOf|allOf|prefixItems")
MAP = re.compile(r"properties|patternProperties|\$defs|definitions|dependentSchemas")
COUNT = re.compile("(min|max)(Length|Items|Properties|Contains)")
NUMBER = re.compile("(exclusiveM|m)(inimum|aximum)|multipleOf")
TEXT = re.compile(r"title|description|format|pattern|\$comment|\$ref|\$anchor")
FLAG = re.compile("uniqueItems|deprecated|readOnly|writeOnly")
SIMPLE = {"object", "array", "string", "integer", "number", "boolean", "null"}
GEMINI = {
    *("$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items"),
    *("prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf"),
    *("properties", "additionalProperties", "required", "propertyOrdering"),
}


def invalid(schema: Any) -> str | None:
    """Return what is wrong with a schema in draft 2020-12, or None."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"{schema!r} is no schema"
    for key, value in schema.items():
        if not _fits(key, value):
            return f"{value!r} is not valid under {key}"
    return next((problem for each in inner(schema) if (problem := invalid(each))), None)


def _fits(key: str, value: Any) -> bool:
    return next((fits(value) for keys, fits in RULES if keys.fullmatch(key)), True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_kinds(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    are_known = all(isinstance(each, str) and each in SIMPLE for each in kinds)
    return bool(kinds) and are_known and len(set(kinds)) == len(kinds)


def _are_names(value: Any) -> bool:
    are_texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return are_texts and len(set(value)) == len(value)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


RULES: Sequence[tuple[re.Pattern[str], Callable[[Any], bool]]] = (
    (SCHEMA, lambda value: isinstance(value, dict | bool)),
    (LIST, lambda value: isinstance(value, list) and len(value) > 0),
    (MAP, lambda value: isinstance(value, dict)),
    (COUNT, lambda value: _is_number(value) and value >= 0 and value == int(value)),
    (re.compile("multipleOf"), lambda value: _is_number(value) and value > 0),
    (NUMBER, _is_number),
    (FLAG, lambda value: isinstance(value, bool)),
    (re.compile("pattern"), lambda value: isinstance(value, str) and _compiles(value)),
    (TEXT, lambda value: isinstance(value, str)),
    (re.compile("type"), _are_kinds),
    (re.compile("enum"), lambda value: isinstance(value, list) and len(value) > 0),
    (re.compile("required"), _are_names),
    (re.compile("examples"), lambda value: isinstance(value, list)),
    (re.compile(r"\$schema"), lambda value: value == DRAFT),
    (re.compile("dependencies|additionalItems"), lambda value: False),
)
"""By keyword, what may stand there."""


def inner(schema: Any) -> Iterator[Any]:
    """Yield the schemas right in a schema."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if SCHEMA.fullmatch(key):
            yield value
        elif LIST.fullmatch(key) and isinstance(value, list):
            yield from value
        elif MAP.fullmatch(key) and isinstance(value, dict):
            yield from value.values()


def all_in(schema: Any) -> Iterator[Json]:
    """Yield a schema and all schemas in it."""
    if isinstance(schema, dict):
        yield schema
        for each in inner(schema):
            yield from all_in(each)


def target(root: Json, ref: str) -> Any:
    """Return what a reference leads to, or None."""
    found: Any = root
    for step in filter(None, ref.removeprefix("#").split("/")):
        if isinstance(found, list):
            found = found[int(step)] if step.isdecimal() and int(step) < len(found) else None
        else:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
    return found if ref.startswith("#") else None


def dangling(schema: Json) -> str | None:
    """Return a reference that leads nowhere."""
    refs = (each["$ref"] for each in all_in(schema) if isinstance(each.get("$ref"), str))
    return next((ref for ref in refs if target(schema, ref) is None), None)


def is_cyclic(root: Json, schema: Any, passed: tuple[str, ...] = ()) -> bool:
    """Whether a reference in a schema leads back to what holds it."""
    refs = {each["$ref"] for each in all_in(schema) if "$ref" in each}
    return any(ref in passed or is_cyclic(root, target(root, ref), (*passed, ref)) for ref in refs)


def depth(schema: Any) -> int:
    """Return how deep a schema is."""
    return 1 + max(map(depth, inner(schema)), default=0) if isinstance(schema, dict) else 0


def problem_of_openai(schema: Any) -> str | None:
    """Return what OpenAI finds wrong with a tool's schema, in its words."""
    if problem := invalid(schema):
        return problem
    if schema.get("type") != "object":
        kind = schema.get("type")
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    top = {"oneOf", "anyOf", "allOf", "enum", "not"} & schema.keys()
    if top:
        return (
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at "
            "the top level."
        )
    if "properties" not in schema:
        return "In context=(), object schema missing properties."
    for each in all_in(schema):
        kinds = each.get("type")
        if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in each:
            return "In context=('properties', …), array schema missing items."
    if ref := dangling(schema):
        return f"reference to component '{ref}' which was not found in the schema."
    return None


def problem_of_gemini(schema: Any) -> str | None:
    """Return what Gemini finds wrong with a tool's schema."""
    if problem := invalid(schema):
        return problem
    if schema.get("type") != "object":
        return "schema type should be OBJECT"
    for each in all_in(schema):
        unknown = each.keys() - GEMINI
        if unknown:
            return f'Unknown name "{min(unknown)}": Cannot find field.'
        if "$ref" in each and any(not key.startswith("$") for key in each):
            return "Schema.ref was set alongside unsupported fields."
        if each.get("type") == "string" and "format" in each:
            return "only 'enum' and 'date-time' are supported for STRING type"
    if dangling(schema) or is_cyclic(schema, schema):
        return "Request contains an invalid argument."
    if depth(schema) > 10:
        return "A FunctionDeclaration in the request exceeds the maximum allowed nesting depth."
    return None
