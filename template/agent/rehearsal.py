"""A model for rehearsals: it needs no key and no network, and costs nothing.

It is a function of what was said so far, so it goes on in the right place after a crash. Throw it
away once a real model answers; the tests use it too.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from substrate.models.messages import Message, Reply, Text, ToolMessage, UserMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request

WANTED = re.compile(r"call (\w+) (\{.*?\})")
THINKING_S = 0.4  # long enough to watch, and to kill it in the middle


async def rehearse(request: Request) -> Reply:
    """Look into the notebook and note the question, where there are tools for it; then answer.

    It calls another tool of yours where the question says so, ``call publish {"text": "Owls."}``,
    and speaks of nothing that was not done.
    """
    await asyncio.sleep(THINKING_S)
    question, since = last_asked(request)
    messages = [each for each in since if isinstance(each, ToolMessage)]
    results = {each.name: each for message in messages for each in message.results}
    if can_call(request, "read_notes") and "read_notes" not in results:
        return say("I look into the notebook first.", call("read_notes"))
    if can_call(request, "write_note", "text") and "write_note" not in results:
        return say(call("write_note", text=f"Somebody asked: {question}"))
    for name, arguments in WANTED.findall(question):
        if name not in results and name in [tool.name for tool in request.tools]:
            return say(call(name, **json.loads(arguments)))
    words = [f"This is a rehearsal: no model was asked. You wanted to know: {question}"]
    done = {name for name, result in results.items() if not result.is_error}
    words += ["I looked into the notebook."] if "read_notes" in done else []
    words += ["I noted the question there."] if "write_note" in done else []
    others = [name for name in results if name in done - {"read_notes", "write_note"}]
    words += [f"{name} said: {results[name].content}" for name in others]
    if schema := request.answer_schema:
        return say(json.dumps(filled(schema, " ".join(words), schema.get("$defs", {}))))
    return say(" ".join(words))


def last_asked(request: Request) -> tuple[str, Sequence[Message]]:
    """Return what a person said last, in a conversation too, and all that came from there on."""
    (*_, (at, last)) = (
        (i, each) for i, each in enumerate(request.messages) if isinstance(each, UserMessage)
    )
    words = [part.text for part in last.parts if isinstance(part, Text)]
    # Several things may have been said at once; and with the first one a model is told the day.
    if len(words) > 1 and words[-1].startswith("Today is "):
        words.pop()
    return " ".join(words), request.messages[at:]


def can_call(request: Request, name: str, *arguments: str) -> bool:
    """Whether there is such a tool, and it needs these arguments alone."""
    needs = [tool.parameters.get("required", []) for tool in request.tools if tool.name == name]
    return request.may_call_tools and needs == [list(arguments)]


def filled(schema: Mapping[str, Any], text: str, types: Mapping[str, Any]) -> Any:
    """Return the least that fits a JSON Schema, for an answer of a type; its texts are the text."""
    if "$ref" in schema:
        return filled(types[schema["$ref"].rpartition("/")[2]], text, types)
    if chosen := schema.get("enum") or [
        schema[key] for key in ("const", "default") if key in schema
    ]:
        return chosen[0]
    if others := schema.get("anyOf", schema.get("oneOf", schema.get("allOf"))):
        return filled(others[0], text, types)
    match schema.get("type"):
        case "object":
            parts = schema.get("properties", {})
            return {name: filled(part, text, types) for name, part in parts.items()}
        case "array":
            return [filled(schema["items"], text, types)] * schema.get("minItems", 0)
        case "string":
            return text[: schema.get("maxLength", len(text))]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
        case _:
            return None
