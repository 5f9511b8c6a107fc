"""A request as OpenAI's Responses API takes it.

Nothing is stored at the provider (``store`` is false): each request says everything, and reasoning
travels with it, encrypted. Requests that begin alike name their cache alike.

Invariant: a reasoning item goes back as it came, in its place among the others. Calls and results
are linked by ``call_id``. A request is mended before it comes here.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import named
from substrate.models.request import Request
from substrate.values.codec import encode

ENCRYPTED = "reasoning.encrypted_content"
"""What is asked for beside the answer, so that reasoning can be sent back."""

_PLAIN = re.compile(r"(ft:)?(gpt-(3|4)|chatgpt-4o)")  # those that do not reason


def body_of(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,  # strict schemas forbid optional arguments
        }
        for tool in request.tools
    ]
    tools += parameters.pop("tools", [])
    ours = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message)],
        "store": False,
        "stream": True,
    }
    if request.max_output_tokens is not None:
        ours["max_output_tokens"] = request.max_output_tokens
    choice = "none" if tools and not request.may_call_tools else ""
    text = parameters.pop("text", {})
    if request.answer_schema is not None:
        text = {**text, "format": {"type": "json_schema", **named(request.answer_schema)}}
    optional = {
        "text": text,
        "instructions": request.system,
        "tools": tools,
        "tool_choice": choice,
        "include": _included(model, parameters.pop("include", None)),
    }
    parameters.setdefault("prompt_cache_key", _prefix(request))
    return {**parameters, **ours, **{key: value for key, value in optional.items() if value}}


def _included(model: str, theirs: Sequence[str] | None) -> list[str]:
    """Return what is asked for beside the answer; a setting of nothing at all is what it says."""
    if (theirs is not None and not theirs) or _PLAIN.match(model):
        return list(theirs or ())
    return [*(each for each in theirs or () if each != ENCRYPTED), ENCRYPTED]


def without_reasoning(body: Mapping[str, Json]) -> dict[str, Json]:
    """Return a request that does not ask for reasoning."""
    included = [each for each in body.get("include", ()) if each != ENCRYPTED]
    rest = {key: value for key, value in body.items() if key != "include"}
    return {**rest, "include": included} if included else rest


def _prefix(request: Request) -> str:
    """Return a name for what all requests of an agent begin with: they go where it is cached."""
    tools = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
    return sha256(encode([request.system, tools]).encode()).hexdigest()[:32]


def _items(message: m.Message) -> list[dict[str, Json]]:
    match message:
        case m.UserMessage(parts):
            return [{"role": "user", "content": [_user_part(part) for part in parts]}]
        case m.ToolMessage(results):
            return [_result_item(result) for result in results]
        case m.Reply(parts):
            return [_reply_item(part) for part in parts]


def _user_part(part: m.UserPart) -> dict[str, Json]:
    match part:
        case m.Text(text):
            return {"type": "input_text", "text": text}
        case m.Image(data, media_type):
            url = _data_url(data, media_type)
            return {"type": "input_image", "detail": "auto", "image_url": url}
        case m.Document(data, media_type, title):
            return {
                "type": "input_file",
                "filename": title or f"document.{media_type.rpartition('/')[2]}",
                "file_data": _data_url(data, media_type),
            }


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _result_item(result: m.ToolResult) -> dict[str, Json]:
    output = {"call_id": result.call_id, "output": result.content}
    return {"type": "function_call_output", **output}


def _reply_item(part: m.ReplyPart) -> dict[str, Json]:
    native = part.native or {}
    match part:
        case m.Text(text) if native:
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {**native, "content": content}
        case m.Text(text):
            return {"role": "assistant", "content": text}
        case m.Thinking():
            return dict(native)
        case m.ToolCall(id, name, arguments):
            written = json.dumps(arguments, ensure_ascii=False)  # as a model writes
            ended = {"status": "completed"} if "status" in native else {}
            call = {"type": "function_call", "call_id": id, "name": name, "arguments": written}
            return {**native, **call, **ended}
