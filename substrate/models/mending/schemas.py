"""A tool's JSON Schema as a model takes it.

`in_this_draft` makes a schema one of draft 2020-12, whatever wrote it; the rest is what single
providers ask for. What is left out of a schema, since it is not taken, is said in its description.

Invariants: pure; a schema to which nothing is wrong comes back as it is, and none is changed.
"""

import json
from functools import lru_cache

from substrate.models.mending.dialect import in_this_draft
from substrate.models.mending.notes import Note, faults, ignore
from substrate.models.mending.rules import Rule
from substrate.models.mending.subset import in_subset
from substrate.models.mending.takes import Takes
from substrate.models.mending.walk import Schema, in_words, merged, resolved, walked
from substrate.models.sendable import sendable


def schema_for(schema: Schema, to: Takes, note: Note = ignore, *, is_tool: bool = True) -> Schema:
    """Return a schema as a model takes it; a tool's has an object at its root."""
    if note is not ignore:
        return _made(sendable(schema, faults(note)), to, note, is_tool=is_tool)
    try:
        made = _remembered(json.dumps(schema), to, is_tool=is_tool)
    except (TypeError, ValueError, RecursionError):  # it is no JSON, which is said elsewhere
        made = _made(sendable(schema), to, ignore, is_tool=is_tool)
    return schema if made == schema else made


@lru_cache(maxsize=512)
def _remembered(text: str, to: Takes, *, is_tool: bool) -> Schema:
    return _made(sendable(json.loads(text)), to, ignore, is_tool=is_tool)


def _made(schema: Schema, to: Takes, note: Note, *, is_tool: bool) -> Schema:
    made = in_this_draft(schema, note)
    if is_tool:
        made = _with_object_at_root(made, note)
    if is_tool and to.says_all:
        made = _saying_all(made, note)
    if to.is_subset:
        made = in_subset(made, note)
    return schema if made == schema else made


_OF_CHOICES = ("anyOf", "oneOf")
_AT_ROOT = (*_OF_CHOICES, "allOf", "not", "if", "then", "else", "enum", "const")


def _with_object_at_root(schema: Schema, note: Note) -> Schema:
    """Return a schema whose root is one object, with whatever its alternatives know."""
    made = dict(schema)
    seen: set[str] = set()
    while isinstance(ref := made.get("$ref"), str) and ref not in seen:
        seen.add(ref)
        rest = {key: value for key, value in made.items() if key != "$ref"}
        made = merged({**resolved(schema, ref)}, rest)
    made.pop("$ref", None)
    told = {key: made[key] for key in _AT_ROOT if key in made}
    branches = [(key, each) for key in (*_OF_CHOICES, "allOf") for each in told.get(key, ())]
    for key in told:
        del made[key]
    required = list(made.get("required", ()))
    for key, branch in branches:
        whole = resolved(schema, branch["$ref"]) if isinstance(branch.get("$ref"), str) else branch
        properties = whole.get("properties", {})
        made["properties"] = {**properties, **made.get("properties", {})}
        if key == "allOf":
            required += whole.get("required", ())
    if required:
        made["required"] = list(dict.fromkeys(required))
    if made.get("type") != "object":
        kinds = made.get("type")
        if kinds is not None and "object" not in kinds:
            told["type"] = kinds
        made["type"] = "object"
        for key in ("items", "prefixItems"):
            made.pop(key, None)
    if told:
        made = in_words(made, told)
        if branches and made.get("additionalProperties") is False:
            del made["additionalProperties"]
    if made != schema:
        note(Rule.ROOT)
        return made
    return schema


def _saying_all(schema: Schema, note: Note) -> Schema:
    """Return a schema in which arrays say of what they are, and the root what it has."""

    def say(each: Schema) -> Schema:
        kind = each.get("type")
        is_array = kind == "array" or (isinstance(kind, list) and "array" in kind)
        return {**each, "items": {}} if is_array and "items" not in each else each

    made = walked(schema, say)
    if "properties" not in made:
        made = {**made, "properties": {}}
    if made != schema:
        note(Rule.UNSAID)
        return made
    return schema
