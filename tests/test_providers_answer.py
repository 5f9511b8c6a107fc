"""An answer that has to fit a schema is asked for by each provider's own mechanism, or in words."""

import json
from dataclasses import replace

import pytest
from pydantic import BaseModel, Field

from substrate.models.frame import canonical, frame
from substrate.models.model import Model
from substrate.models.providers.answer_schema import (
    closed,
    in_words,
    is_strict,
    named,
    plain,
    read_answer,
)
from substrate.models.request import Request
from tests.llm_providers import HELLO, SEARCHING, SETUPS, complete, served
from tests.llm_servers import stream


class Book(BaseModel):
    """A book."""

    title: str = Field(min_length=1)
    pages: int | None = Field(default=None, ge=1, description="How long it is.")


class Shelf(BaseModel):
    """Books."""

    books: list[Book] = Field(min_length=2)


SHELF = Shelf.model_json_schema()
STRICT = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {}}},
    "required": ["title", "tags"],
}


async def body(monkeypatch, provider: str, request: Request) -> dict:
    """Return what a provider is sent."""
    async with served(monkeypatch, provider, stream(*complete(provider))) as server:
        await Model(SETUPS[provider].model).answer(request)
    return server.bodies[0]


@pytest.mark.parametrize("asked", [HELLO, SEARCHING], ids=["without tools", "with tools"])
async def test_by_the_providers_own_means(monkeypatch, asked):
    """Each provider is asked in the way it documents, and in words where that cannot be had."""
    request = replace(asked, answer_schema=STRICT)
    sent = {provider: await body(monkeypatch, provider, request) for provider in SETUPS}
    words = {provider: "fits this JSON Schema" in json.dumps(sent[provider]) for provider in SETUPS}

    shape = {**STRICT, "additionalProperties": False}
    assert sent["anthropic"]["output_config"] == {
        "format": {"type": "json_schema", "schema": shape}
    }
    answer = {"name": "answer", "schema": shape, "strict": True}
    assert sent["openai"]["text"] == {"format": {"type": "json_schema", **answer}}
    assert "response_format" not in sent["groq"]
    if asked is HELLO:
        wanted = {"type": "json_schema", "json_schema": answer}
        assert sent["openai-chat"]["response_format"] == wanted
        generation = sent["google"]["generationConfig"]
        assert generation["responseMimeType"] == "application/json"
        assert generation["responseJsonSchema"] == STRICT
    has_tools = asked is SEARCHING
    assert words == {
        "anthropic": False,
        "openai": False,
        "groq": True,
        "google": has_tools,
        "openai-chat": has_tools,
    }


async def test_beside_the_settings(monkeypatch):
    """What a setting says of the output stands beside the schema."""
    settings = {"output_config": {"effort": "low"}}
    request = replace(HELLO, answer_schema=STRICT, settings=settings)

    sent = await body(monkeypatch, "anthropic", request)

    assert sent["output_config"]["effort"] == "low"
    assert sent["output_config"]["format"]["type"] == "json_schema"


def test_plain():
    """What constrained decoding does not know is told in words; the schema given is untouched."""
    before = json.dumps(SHELF)
    made = plain(SHELF)
    books, book = made["properties"]["books"], made["$defs"]["Book"]

    assert "minItems" not in books
    assert books["description"] == "(minItems: 2)"
    assert book["additionalProperties"] is False
    assert book["properties"]["title"]["description"] == "(minLength: 1)"
    pages = book["properties"]["pages"]
    assert pages["description"] == "How long it is. (default: null)"
    assert pages["anyOf"][0] == {"type": "integer", "description": "(minimum: 1)"}
    assert json.dumps(SHELF) == before


def test_strict():
    """A schema is strict where an answer may leave out nothing, all the way down."""
    assert named(STRICT)["strict"]
    assert not named(SHELF)["strict"], "pages may be left out"
    assert not is_strict(closed({"type": "object", "properties": {"a": STRICT | {"required": []}}}))
    assert not is_strict({"type": "object", "additionalProperties": {"type": "string"}})
    assert closed(SHELF)["$defs"]["Book"]["additionalProperties"] is False


def test_too_deep_to_be_strict():
    """A schema that is nested deeper than OpenAI takes a strict one is asked for plainly."""
    deep = {"type": "string"}
    found = []
    for _ in range(10):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
        found.append(named(deep)["strict"])

    assert found == [True] * 9 + [False]


def test_in_words():
    """The schema follows the system prompt, or stands alone."""
    request = replace(HELLO, answer_schema=STRICT)

    assert in_words(HELLO) == HELLO.system
    assert in_words(request).startswith("Be brief.\n\nWhen you give your answer")
    assert in_words(replace(request, system="")).startswith("When you give")


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' {"a": 1}\n', '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```\n']
)
def test_answers_are_read(text):
    """An answer is read whether or not the model puts a fence around it."""
    assert read_answer(text) == {"a": 1}


def test_no_answer():
    """What is no JSON is none."""
    with pytest.raises(ValueError, match="Expecting"):
        read_answer("Two owls.")


def test_part_of_the_request():
    """The schema is part of what was asked, in the frame and in the digest."""
    request = replace(HELLO, answer_schema=STRICT)

    assert frame("p:m", request)["answer_schema"] == STRICT
    assert canonical(request) != canonical(HELLO)
    assert "answer_schema" not in canonical(HELLO)
