"""A JSON Schema as a check finds what is wrong with a value, and is refused where it says more."""

from typing import Any

import pytest

from substrate.agent.json_schema import check_schema, problems
from substrate.values.errors import Misuse

BOOK = {
    "$defs": {
        "chapter": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "minLength": 1},
                "below": {"type": "array", "items": {"$ref": "#/$defs/chapter"}},
            },
            "required": ["title"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/chapter",
}

# Keyword by keyword: the schema, values that fit, values that do not.
CASES: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "type": ({"type": "integer"}, [1, 1.0, -7], [1.5, True, "1", None, float("inf")]),
    "types": ({"type": ["string", "null"]}, ["", None], [0, [], False]),
    "number": ({"type": "number"}, [0, 1.5], ["1", True, float("nan")]),
    "boolean": ({"type": "boolean"}, [True, False], [0, 1, "true"]),
    "array": ({"type": "array"}, [[], [1]], [{}, "[]"]),
    "enum": ({"enum": [1, "a", None, [1]]}, [1, 1.0, "a", None, [1]], [True, "b", [True]]),
    "const": ({"const": {"a": 1}}, [{"a": 1}], [{"a": 2}, {}, {"a": True}, {"a": 1, "b": 1}]),
    "lengths": ({"minLength": 2, "maxLength": 3}, ["ab", "äöü", 7], ["a", "abcd"]),
    "pattern": ({"pattern": "^o.l$"}, ["owl", 5], ["owls", ""]),
    "bounds": ({"minimum": 1, "maximum": 2}, [1, 2, 1.5, "9"], [0.9, 3]),
    "open bounds": ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.1], [1, 2]),
    "multipleOf": ({"multipleOf": 0.1}, [0.3, 1, 0], [0.35]),
    "items": ({"items": {"type": "string"}}, [[], ["a"], "a"], [[1], ["a", None]]),
    "prefixItems": (
        {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
        [["a"], ["a", 1, 2], []],
        [[1], ["a", "b"]],
    ),
    "no more items": ({"prefixItems": [True], "items": False}, [[1], []], [[1, 2]]),
    "counts": ({"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    "uniqueItems": ({"uniqueItems": True}, [[1, "1", True]], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    "contains": ({"contains": {"const": 1}}, [[2, 1]], [[], [2]]),
    "contains, how often": (
        {"contains": {"const": 1}, "minContains": 0, "maxContains": 1},
        [[], [1]],
        [[1, 1]],
    ),
    "properties": (
        {"properties": {"a": {"type": "integer"}}},
        [{}, {"a": 1, "b": 2}],
        [{"a": "x"}],
    ),
    "required": ({"required": ["a", "b"]}, [{"a": 1, "b": None}, 5], [{"a": 1}, {}]),
    "additionalProperties": (
        {"properties": {"a": True}, "additionalProperties": {"type": "integer"}},
        [{"a": "x", "b": 1}],
        [{"b": "x"}],
    ),
    "patternProperties": (
        {"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
        [{"n_a": 1}],
        [{"n_a": "x"}, {"a": 1}],
    ),
    "propertyNames": ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    "numbers of properties": (
        {"minProperties": 1, "maxProperties": 1},
        [{"a": 1}],
        [{}, {"a": 1, "b": 2}],
    ),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 1}], [{"a": 1}]),
    "dependentSchemas": ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{"b": 1}], [{"a": 1}]),
    "allOf": ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, [1], [0, "a"]),
    "anyOf": ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None, 1.5]),
    "oneOf": ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 5]),
    "not": ({"not": {"type": "null"}}, [1], [None]),
    "if": (
        {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "integer"}},
        ["a", 1],
        ["", None],
    ),
    "a reference to itself": (
        BOOK,
        [{"title": "a", "below": [{"title": "b"}]}],
        [{"title": ""}, {"title": "a", "below": [{"title": "b", "pages": 1}]}, {}],
    ),
    "notes": ({"title": "Owl", "description": "a", "format": "email", "default": 1}, ["x", 1], []),
}


@pytest.mark.parametrize("schema, right, wrong", CASES.values(), ids=CASES)
def test_keywords(schema, right, wrong):
    """Each keyword that is taken is looked at: what it allows fits, and all else does not."""
    check_schema(schema)
    assert [problems(schema, value) for value in right] == [[]] * len(right)
    assert all(problems(schema, value) for value in wrong)


def test_places():
    """What is wrong is told with its place, all of it at once."""
    value = {"title": "a", "below": [{"title": ""}, {"pages": 1}]}

    assert problems(BOOK, value) == [
        "- below.0.title: it has 0 characters, and at least 1 are wanted",
        "- below.1: 'title' is missing",
        "- below.1.pages: nothing may stand here",
    ]
    assert problems({"type": "object"}, 1) == ["- the whole: it is to be object"]


def test_a_schema_without_an_end():
    """A reference to itself that looks at nothing ends with what is wrong."""
    assert problems({"$ref": "#"}, 1) == ["- the whole: it is more than 200 schemas deep"]


REFUSED: dict[str, Any] = {
    "no object": [],
    "true": True,
    "a typing error": {"propertys": {}},
    "one of another draft": {"unevaluatedProperties": False},
    "below": {"properties": {"a": {"typ": "string"}}},
    "in a list": {"anyOf": [{"minimun": 1}]},
    "a type that is none": {"type": "text"},
    "a bound that is none": {"minimum": "1"},
    "a length below 0": {"minLength": -1},
    "a multiple of 0": {"multipleOf": 0},
    "required by a word": {"required": "a"},
    "properties in a list": {"properties": ["a"]},
    "items in a list": {"items": [{"type": "string"}]},
    "anyOf of a word": {"anyOf": "string"},
    "a pattern that is none": {"pattern": "["},
    "a pattern of names that is none": {"patternProperties": {"[": True}},
    "a reference that leads nowhere": {"$ref": "#/$defs/a"},
    "a reference elsewhere": {"$ref": "other.json"},
    "a reference that is none": {"$ref": 5},
}


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_refused(schema):
    """What is not known here, or is none, is refused when the check is made, with its place."""
    with pytest.raises(Misuse, match="of the schema is"):
        check_schema(schema)
