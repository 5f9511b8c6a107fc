"""An answer that has to fit a JSON Schema: the schema as each provider takes it, the answer read.

==============  ==================================  ============================================
provider        its own mechanism                   used
==============  ==================================  ============================================
anthropic       ``output_config.format``            always
openai          ``text.format``                     always; strict where the schema allows it
google          ``responseJsonSchema``              without tools: Gemini 2 refuses the two together
openai-chat     ``response_format``                 without tools: most servers would call none
groq            none that streams                   never
==============  ==================================  ============================================

Where a provider's own is not used, `in_words` asks for the same in the system prompt. Neither makes
an answer right: whoever asked for it checks it.

Invariants: pure; a schema that is given is never changed.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from substrate.models.mending.walk import levels
from substrate.models.messages import Json
from substrate.models.request import Request

# What Anthropic's constrained decoding does not know goes into the description, in words.
_ONLY_IN_WORDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "maxItems", "uniqueItems"),
    *("minProperties", "maxProperties", "default"),
)
DEEPEST_STRICT = 10
"""How many levels of nesting OpenAI documents for a strict schema."""

_NESTED = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)


def named(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return a schema as OpenAI's kind of API takes it: named, closed, and strict if it can be."""
    made = closed(schema)
    strict = is_strict(made) and levels(made) <= DEEPEST_STRICT
    return {"name": "answer", "schema": made, "strict": strict}


def closed(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return a schema whose objects have no other properties than those that it names."""
    made = {key: _walked(key, value) for key, value in schema.items()}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def plain(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return a closed schema; what constrained decoding does not know is put into words."""
    made = dict(schema)
    unknown = {key: made.pop(key) for key in _ONLY_IN_WORDS if key in made}
    if made.get("minItems", 0) > 1:
        unknown["minItems"] = made.pop("minItems")
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    if unknown:
        words = ", ".join(f"{key}: {json.dumps(value)}" for key, value in unknown.items())
        made["description"] = f"{made.get('description', '')} ({words})".strip()
    made = {key: _walked(key, value, plain) for key, value in made.items()}
    return closed(made) if "properties" in made else made


def is_strict(schema: Json) -> bool:
    """Whether OpenAI takes a closed schema as strict: an answer may leave out nothing of it."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("additionalProperties", False) is not False or "oneOf" in schema:
        return False
    if set(schema.get("properties", {})) != set(schema.get("required", ())):
        return False
    named = [schema[key] for key in _NESTED if key in schema]
    rest = [value for key, value in schema.items() if key not in (*_NESTED, "required", "enum")]
    return all(is_strict(each) for group in named for each in group.values()) and is_strict(rest)


def in_words(request: Request) -> str:
    """Return the system prompt with the schema, for a provider that takes it in no other way."""
    if request.answer_schema is None:
        return request.system
    schema = json.dumps(request.answer_schema, ensure_ascii=False, sort_keys=True)
    asked = (
        "When you give your answer, write only a JSON value that fits this JSON Schema, with "
        f"nothing around it:\n{schema}"
    )
    return f"{request.system}\n\n{asked}" if request.system else asked


def read_answer(text: str) -> Json:
    """Return the JSON value that an answer is, within a code fence or not.

    Raises `ValueError` where it is none.
    """
    fenced = _FENCE.match(text)
    # A line that was broken within a text is no other text.
    return json.loads(fenced[1] if fenced else text, strict=False)


def taken_out(text: str) -> str:
    """Return the answer in JSON that says beside it how sure the model is: words, or more JSON.

    Raises what `read_answer` does, and `LookupError` or `TypeError` for JSON of another kind.
    """
    answer = read_answer(text)["answer"]
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _walked(key: str, value: Json, change: Any = closed) -> Json:
    """Return the value of a schema's keyword with the schemas in it changed."""
    if key in _NESTED and isinstance(value, dict):
        return {name: change(each) for name, each in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [change(each) if isinstance(each, dict) else each for each in value]
    return change(value) if key == "items" and isinstance(value, dict) else value
