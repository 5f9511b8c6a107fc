"""A request as the OpenAI chat protocol takes it, and what its servers do each in its own way.

A reply goes back as one message. Its reasoning goes back under the name under which it came, and
with it whatever else a server hung on a tool call. A request is mended before it comes here.
"""

import json
from base64 import b64encode
from dataclasses import dataclass

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import in_words, named
from substrate.models.request import Request


@dataclass(frozen=True, slots=True)
class Server:
    """What one server of the protocol does in its own way."""

    provider: str
    #: Its name for the longest output.
    limit: str
    #: Whether it streams answers that fit a schema.
    takes_formats: bool
    #: The provider in the price list.
    prices: str | None = None
    #: Where there is none: the base URL, by which the list may know it.
    address: str | None = None

    def name(self, model: str) -> str:
        """Return ``provider:name``."""
        return f"{self.provider}:{model}"


def body_of(server: Server, model: str, request: Request) -> dict[str, Json]:
    """Return the request as the protocol takes it."""
    parameters = request.parameters
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in request.tools
    ]
    tools += parameters.pop("tools", [])
    # Asked for both, most servers would write the answer and call no tool.
    is_formatted = server.takes_formats and request.answer_schema is not None and not tools
    system = request.system if is_formatted else in_words(request)
    messages = [{"role": "system", "content": system}] if system else []
    for message in request.messages:
        messages += _messages(message)
    ours: dict[str, Json] = {"tools": tools} if tools else {}
    if tools and not request.may_call_tools:
        ours["tool_choice"] = "none"
    if is_formatted and request.answer_schema is not None:
        answer = named(request.answer_schema)
        ours["response_format"] = {"type": "json_schema", "json_schema": answer}
    is_limited = {"max_tokens", "max_completion_tokens"} & parameters.keys()
    if request.max_output_tokens is not None and not is_limited:
        ours[server.limit] = request.max_output_tokens
    return {
        **parameters,
        **ours,
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _messages(message: m.Message) -> list[dict[str, Json]]:
    match message:
        case m.UserMessage(parts):
            words = [part.text for part in parts if isinstance(part, m.Text)]
            if len(words) == len(parts):  # a plain string, which every server takes
                return [{"role": "user", "content": "\n\n".join(words)}]
            return [{"role": "user", "content": [_user_part(part) for part in parts]}]
        case m.ToolMessage(results):
            return [
                {"role": "tool", "tool_call_id": each.call_id, "content": each.content}
                for each in results
            ]
        case m.Reply():
            return [_assistant(message)]


def _user_part(part: m.UserPart) -> dict[str, Json]:
    match part:
        case m.Text(text):
            return {"type": "text", "text": text}
        case m.Image(data, media_type):
            return {"type": "image_url", "image_url": {"url": _data_url(data, media_type)}}
        case m.Document(data, media_type, title):
            name = title or f"document.{media_type.rpartition('/')[2]}"
            content = {"filename": name, "file_data": _data_url(data, media_type)}
            return {"type": "file", "file": content}


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _assistant(reply: m.Reply) -> dict[str, Json]:
    """Return an earlier reply as one message."""
    assistant: dict[str, Json] = {"role": "assistant", "content": reply.text or None}
    for part in reply.parts:
        if isinstance(part, m.Thinking):
            assistant.update(part.native or {})
    calls = [_call(call) for call in reply.tool_calls]
    return {**assistant, "tool_calls": calls} if calls else assistant


def _call(call: m.ToolCall) -> dict[str, Json]:
    written = json.dumps(call.arguments, ensure_ascii=False)  # as a model writes
    function = {"name": call.name, "arguments": written}
    return {**(call.native or {}), "id": call.id, "type": "function", "function": function}
