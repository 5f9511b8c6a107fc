"""A request as Gemini's API takes it.

Settings that are not fields of the request itself, such as ``temperature`` or ``thinkingConfig``,
are its ``generationConfig``. A request is mended before it comes here.
"""

import re
from base64 import b64encode

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import in_words
from substrate.models.providers.turns import joined
from substrate.models.request import Request

_OF_REQUEST = frozenset(
    {
        *("cachedContent", "generationConfig", "labels", "safetySettings", "serviceTier"),
        *("store", "toolConfig"),
    }
)


def body_of(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools: list[Json] = []
    if request.tools:
        declared = [
            {
                "name": tool.name,
                "description": tool.description,
                "parametersJsonSchema": tool.parameters,
            }
            for tool in request.tools
        ]
        tools.append({"functionDeclarations": declared})
    tools += parameters.pop("tools", [])
    body = {key: value for key, value in parameters.items() if key in _OF_REQUEST}
    generation = {key: value for key, value in parameters.items() if key not in _OF_REQUEST}
    if request.max_output_tokens is not None:
        generation.setdefault("maxOutputTokens", request.max_output_tokens)
    if is_formatted := request.answer_schema is not None and not tools:
        generation["responseMimeType"] = "application/json"
        generation["responseJsonSchema"] = request.answer_schema
    body["generationConfig"] = {**body.get("generationConfig", {}), **generation}
    if system := request.system if is_formatted else in_words(request):
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if tools:
        body["tools"] = tools
    if tools and not request.may_call_tools:
        calling = {"functionCallingConfig": {"mode": "NONE"}}
        body["toolConfig"] = {**body.get("toolConfig", {}), **calling}
    return {**body, "contents": joined(map(_content, request.messages), "parts")}


def _content(message: m.Message) -> dict[str, Json]:
    match message:
        case m.UserMessage(parts):
            return {"role": "user", "parts": [_user_part(part) for part in parts]}
        case m.ToolMessage(results):
            return {"role": "user", "parts": [_result_part(result) for result in results]}
        case m.Reply(parts):
            return {"role": "model", "parts": [_reply_part(part) for part in parts]}


def _user_part(part: m.UserPart) -> dict[str, Json]:
    match part:
        case m.Text(text):
            return {"text": text}
        case m.Image(data, media_type) | m.Document(data, media_type):
            inline = {"mimeType": media_type, "data": b64encode(data).decode()}
            return {"inlineData": inline}


def _result_part(result: m.ToolResult) -> dict[str, Json]:
    """Return a result; the id goes along only where Gemini gave one, since ours mean nothing."""
    content = {"error": result.content} if result.is_error else {"output": result.content}
    named = {"name": result.name, "response": content, **_id(result.call_id)}
    return {"functionResponse": named}


def _id(call_id: str) -> dict[str, str]:
    return {} if re.fullmatch(r"call_\d+_\d+", call_id) else {"id": call_id}


def _reply_part(part: m.ReplyPart) -> dict[str, Json]:
    native = part.native if isinstance(part.native, dict) else {}
    match part:
        case m.Text(text):
            return {**native, "text": text}
        case m.Thinking(text):
            return {**native, **({"text": text} if native.get("thought") else {})}
        case m.ToolCall(id, name, arguments):
            return {**native, "functionCall": {"name": name, "args": arguments, **_id(id)}}
