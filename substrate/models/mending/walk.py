"""Walking over a JSON Schema: which keywords hold schemas, where a reference leads. Pure."""

import json
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from substrate.models.parts import Json

Schema = dict[str, Json]

NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold schemas by name."""

LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords that hold a list of schemas."""

SINGLE = (
    *("items", "not", "if", "then", "else", "contains", "propertyNames", "contentSchema"),
    *("additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
)
"""Keywords that hold a schema."""

LONGEST_WORDS = 1000
"""Of what is said in words of a schema, in characters."""


def walked(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Return a schema with each schema in it, and then itself, changed."""
    made = dict(schema)
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            made[key] = {name: _inner(each, change) for name, each in value.items()}
        elif key in LISTED and isinstance(value, list):
            made[key] = [_inner(each, change) for each in value]
        elif key in SINGLE:
            made[key] = _inner(value, change)
    return change(made)


def _inner(value: Json, change: Callable[[Schema], Schema]) -> Json:
    return walked(value, change) if isinstance(value, dict) else value


def levels(schema: Json) -> int:
    """Return how deep a schema is nested: 1 where there is none in it."""
    if not isinstance(schema, dict):
        return 0
    inner: list[Json] = [schema[key] for key in SINGLE if key in schema]
    for key in NAMED:
        inner += schema.get(key, {}).values()
    for key in LISTED:
        inner += schema.get(key, ())
    return 1 + max(map(levels, inner), default=0)


def resolved(root: Mapping[str, Json], ref: str) -> Schema:
    """Return the schema in a document to which a reference leads; an empty one where none is."""
    return _target(root, ref) or {}


def leads_somewhere(root: Mapping[str, Json], ref: Json) -> bool:
    """Whether a reference leads to a schema in its own document."""
    return isinstance(ref, str) and _target(root, ref) is not None


def _target(root: Mapping[str, Json], ref: str) -> Schema | None:
    found: Json = root
    if not ref.startswith("#"):
        return None
    for step in filter(None, unquote(ref[1:]).split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            return None
    return found if isinstance(found, dict) else None


def merged(one: Schema, other: Schema) -> Schema:
    """Return what both say, the second of what both know."""
    made = {**one, **other}
    if "properties" in one and "properties" in other:
        made["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        made["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return made


def in_words(schema: Schema, told: Mapping[str, Json]) -> Schema:
    """Return a schema whose description says what these keywords do."""
    said = ", ".join(f"{k}: {json.dumps(each, ensure_ascii=False)}" for k, each in told.items())
    if len(said) > LONGEST_WORDS:
        said = f"{said[:LONGEST_WORDS]}…"
    description = f"{schema.get('description', '')} ({said})".strip()
    return {**schema, "description": description}
