"""A request as the OpenAI chat protocol takes it, and what its servers do each in its own way.

A reply goes back as one message. Its reasoning goes back under the name under which it came, and
with it whatever else a server hung on a tool call, to the model that wrote it and no other.
"""

import json
from base64 import b64encode
from dataclasses import dataclass

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import in_words, named
from substrate.models.request import Request
from substrate.values.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Server:
    """What one server of the protocol does in its own way."""

    provider: str
    #: Its name for the longest output.
    limit: str
    #: Whether it reads documents that are not text.
    takes_files: bool
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
        for each in _messages(server, model, message):
            if each["role"] == "user" and messages and messages[-1]["role"] == "user":
                each["content"] = _both(messages.pop()["content"], each["content"])
            messages.append(each)
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


def _messages(server: Server, model: str, message: m.Message) -> list[dict[str, Json]]:
    match message:
        case m.UserMessage(parts):
            words = [part.text for part in parts if isinstance(part, m.Text)]
            if len(words) == len(parts):  # a plain string, which every server takes
                return [{"role": "user", "content": "\n\n".join(words)}]
            return [{"role": "user", "content": [_user_part(server, part) for part in parts]}]
        case m.ToolMessage(results):
            return [
                {"role": "tool", "tool_call_id": each.call_id, "content": each.content}
                for each in results
            ]
        case m.Reply():
            assistant = _assistant(message, own=message.made_by(server.provider, model))
            return [assistant] if {"content", "tool_calls"} & assistant.keys() else []


def _both(first: Json, second: Json) -> Json:
    """Return what two user messages say as the content of one: the reply between them is left out.

    Many servers refuse roles that do not alternate.
    """
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    both = ([{"type": "text", "text": c}] if isinstance(c, str) else c for c in (first, second))
    return [part for content in both for part in content]


def _user_part(server: Server, part: m.UserPart) -> dict[str, Json]:
    match part:
        case m.Text(text):
            return {"type": "text", "text": text}
        case m.Image(data, media_type):
            return {"type": "image_url", "image_url": {"url": _data_url(data, media_type)}}
        case m.Document(data, media_type, title):
            if media_type.startswith("text/"):
                named = f"{title}:\n\n" if title else ""
                return {"type": "text", "text": named + data.decode(errors="replace")}
            if not server.takes_files:
                raise BadRequest(
                    f"{server.provider} reads no {media_type}; give the document as text, "
                    "or ask another provider"
                )
            name = title or f"document.{media_type.rpartition('/')[2]}"
            content = {"filename": name, "file_data": _data_url(data, media_type)}
            return {"type": "file", "file": content}


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _assistant(reply: m.Reply, *, own: bool) -> dict[str, Json]:
    """Return an earlier reply as one message; with neither words nor calls it is none."""
    assistant: dict[str, Json] = {"role": "assistant"}
    if reply.text:
        assistant["content"] = reply.text
    for part in reply.parts if own else ():
        if isinstance(part, m.Thinking):
            assistant.update(part.native or {})
    calls = [_call(call, own=own) for call in reply.tool_calls]
    return {**assistant, "content": reply.text or None, "tool_calls": calls} if calls else assistant


def _call(call: m.ToolCall, *, own: bool) -> dict[str, Json]:
    written = json.dumps(call.arguments, ensure_ascii=False)  # as a model writes
    function = {"name": m.portable(call.name), "arguments": written}
    kept = call.native if own and call.native else {}
    return {**kept, "id": call.id, "type": "function", "function": function}
