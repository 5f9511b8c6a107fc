"""A schema in the part of JSON Schema that Gemini documents for its tools. Pure.

Source: `Schema` and `parametersJsonSchema` in the reference of the Gemini API: which keywords there
are; that nothing but keywords that begin with $ may stand beside a ``$ref``; that cycles are
unrolled a few times, and only where nothing is required. No number is given for the deepest schema:
ten levels are the fewest that any provider documents.

Invariant: what is in the subset comes back as it is.
"""

from collections.abc import Iterator

from substrate.models.mending.notes import Note
from substrate.models.mending.rules import Rule
from substrate.models.mending.walk import (
    LISTED,
    NAMED,
    SINGLE,
    Schema,
    in_words,
    merged,
    resolved,
    walked,
)
from substrate.models.parts import Json

DEEPEST = 10
MOST_SCHEMAS = 5000
"""How many schemas may be made of one by writing out its references."""

_TAKEN = frozenset(
    {
        *("$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum"),
        *("items", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf"),
        *("properties", "additionalProperties", "required", "propertyOrdering"),
    }
)
_SAYING_NOTHING = frozenset(
    {"examples", "example", "discriminator", "$comment", "deprecated", "readOnly", "writeOnly"}
)


def in_subset(schema: Schema, note: Note) -> Schema:
    """Return a schema that Gemini documents that it takes."""
    made = schema
    if _has_hard_references(made):
        note(Rule.REFERENCE)
        made = _Writer(made).whole()
    told = walked(made, _in_keywords)
    if told != made:
        note(Rule.KEYWORD)
        made = told
    cut: Schema = _cut(made, 1)
    if cut != made:
        note(Rule.DEEP)
    return cut


def _has_hard_references(schema: Schema) -> bool:
    """Whether something stands beside a reference, one leads to what holds it, or is elsewhere."""
    if "definitions" in schema:
        return True
    for each in _schemas(schema):
        ref = each.get("$ref")
        if ref is None:
            continue
        if not ref.startswith("#/$defs/") or any(not key.startswith("$") for key in each):
            return True
    clear: set[str] = set()
    return any(_leads_back(schema, ref, frozenset(), clear) for ref in _refs(schema))


def _schemas(schema: Schema) -> Iterator[Schema]:
    """Yield a schema, and each schema in it."""
    yield schema
    for key, value in schema.items():
        if key in NAMED:
            inner = list(value.values())
        elif key in LISTED:
            inner = value
        else:
            inner = [value] if key in SINGLE else []
        for each in inner:
            if isinstance(each, dict):
                yield from _schemas(each)


def _refs(schema: Schema) -> list[str]:
    return list(dict.fromkeys(each["$ref"] for each in _schemas(schema) if "$ref" in each))


def _leads_back(root: Schema, ref: str, passed: frozenset[str], clear: set[str]) -> bool:
    """Whether a reference leads to one that was passed; those that do not are put down once."""
    if ref in passed:
        return True
    if ref in clear:
        return False
    inner = _refs(resolved(root, ref))
    if any(_leads_back(root, each, passed | {ref}, clear) for each in inner):
        return True
    clear.add(ref)
    return False


class _Writer:
    """Writes a schema out: each reference as what it leads to, the second time as anything."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = MOST_SCHEMAS

    def whole(self) -> Schema:
        """Return the schema without a reference."""
        rest = {k: v for k, v in self._root.items() if k not in ("$defs", "definitions")}
        return self._written(rest, ())

    def _written(self, schema: Schema, passed: tuple[str, ...]) -> Schema:
        self._left -= 1
        if self._left < 0:
            return {}
        made = dict(schema)
        ref = made.pop("$ref", None)
        if ref in passed:
            return made
        if ref is not None:
            target = {k: v for k, v in resolved(self._root, ref).items() if k != "$defs"}
            made, passed = merged(target, made), (*passed, ref)
            if "$ref" in made:
                return self._written(made, passed)
        for key, value in list(made.items()):
            if key in NAMED:
                made[key] = {name: self._inner(each, passed) for name, each in value.items()}
            elif key in LISTED:
                made[key] = [self._inner(each, passed) for each in value]
            elif key in SINGLE:
                made[key] = self._inner(value, passed)
        return made

    def _inner(self, value: Json, passed: tuple[str, ...]) -> Json:
        return self._written(value, passed) if isinstance(value, dict) else value


def _in_keywords(schema: Schema) -> Schema:
    """Return a schema without keywords that are not taken: they are said in words."""
    made = dict(schema)
    if "const" in made:
        made.setdefault("enum", [made["const"]])
        del made["const"]
    for branch in made.pop("allOf", ()):
        made = merged(branch, made)
    told = {
        key: made.pop(key)
        for key in list(made)
        if key not in _TAKEN or (key == "format" and made.get("type") == "string")
    }
    told = {key: value for key, value in told.items() if key not in _SAYING_NOTHING}
    return in_words(made, told) if told else made


def _cut(value: Json, depth: int) -> Json:
    """Return a schema that is no deeper than is taken: what lies below may be anything."""
    if not isinstance(value, dict):
        return value
    if depth == DEEPEST and any(True for each in _schemas(value) if each is not value):
        return {}
    made = dict(value)
    for key, inner in value.items():
        if key in NAMED:
            made[key] = {name: _cut(each, depth + 1) for name, each in inner.items()}
        elif key in LISTED:
            made[key] = [_cut(each, depth + 1) for each in inner]
        elif key in SINGLE:
            made[key] = _cut(inner, depth + 1)
    return made
