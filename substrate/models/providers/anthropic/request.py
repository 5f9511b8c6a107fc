"""A request as Anthropic's API takes it.

Blocks that the API wants back unchanged (thinking with its signature, redacted thinking, the
provider's own tools) keep everything but their words in `native`, in their place among the parts.
All results of one reply go back in one user message. A request is mended before it comes here.

Invariant: cache marks never change what is said. They stand at the end of the fixed prefix, where
this request ends, and where the one before it ended: the API looks for what it knows only twenty
blocks back.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import plain
from substrate.models.providers.anthropic.reply import Draft
from substrate.models.providers.turns import joined
from substrate.models.request import Request
from substrate.models.sendable import sendable

LONGEST_OUTPUT = 64_000
"""How many tokens an answer may have where no limit is given: the API wants a number.

All models since Claude 4.5 write as many. One that does not says how many it does, and is asked
again (`longest_in`).
"""

_LONGEST: Sequence[tuple[re.Pattern[str], int]] = (
    (re.compile(r"claude-(3-(opus|sonnet|haiku)|2|instant)"), 4096),
    (re.compile(r"claude-3-5-"), 8192),
    (re.compile(r"claude-(opus-4(-0|-1|-2\d+|$)|4-opus)"), 32_000),
)
_TOO_LONG = re.compile(r"max_tokens: \d+ > (\d+), which is the maximum")

_CACHED = {"cache_control": {"type": "ephemeral"}}


def body_of(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in request.tools
    ]
    tools += parameters.pop("tools", [])
    system = [{"type": "text", "text": request.system}] if request.system else []
    messages = joined(map(_message, request.messages), "content")
    _mark(system or tools)
    for message in [each for each in messages if each["role"] == "user"][-2:]:
        _mark(message["content"])
    choice = {} if request.may_call_tools or not tools else {"type": "none"}
    output = parameters.pop("output_config", {})
    if request.answer_schema is not None:
        output = {
            **output,
            "format": {"type": "json_schema", "schema": plain(request.answer_schema)},
        }
    optional = {"system": system, "tools": tools, "tool_choice": choice, "output_config": output}
    return {
        **parameters,
        **{key: value for key, value in optional.items() if value},
        "model": model,
        "max_tokens": request.max_output_tokens or longest_output(model),
        "messages": messages,
        "stream": True,
    }


def longest_output(model: str) -> int:
    """Return how many tokens a model can write."""
    known = (limit for pattern, limit in _LONGEST if pattern.match(model))
    return next(known, LONGEST_OUTPUT)


def longest_in(body: str | None) -> int | None:
    """Return how many tokens a model can write, from its refusal to write more; None in others."""
    found = _TOO_LONG.search(body or "")
    return int(found[1]) if found else None


def _mark(blocks: list[dict[str, Json]]) -> None:
    """Mark the end of what may be cached; thinking cannot carry a mark."""
    if blocks and "thinking" not in blocks[-1].get("type", ""):
        blocks[-1] = {**blocks[-1], **_CACHED}


def _message(message: m.Message) -> dict[str, Json]:
    match message:
        case m.UserMessage(parts):
            return {"role": "user", "content": [_user_block(part) for part in parts]}
        case m.ToolMessage(results):
            return {"role": "user", "content": [_result_block(result) for result in results]}
        case m.Reply(parts):
            return {"role": "assistant", "content": [_reply_block(part) for part in parts]}


def _user_block(part: m.UserPart) -> dict[str, Json]:
    match part:
        case m.Text(text):
            return {"type": "text", "text": text}
        case m.Image(data, media_type):
            return {"type": "image", "source": _base64(data, media_type)}
        case m.Document(data, media_type, title):
            source = _base64(data, media_type)
            if media_type == "text/plain":
                text = data.decode(errors="replace")
                source = {"type": "text", "media_type": media_type, "data": text}
            titled = {"title": title} if title else {}
            return {"type": "document", "source": source, **titled}


def _base64(data: bytes, media_type: str) -> dict[str, Json]:
    return {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}


def _result_block(result: m.ToolResult) -> dict[str, Json]:
    return {
        "type": "tool_result",
        "tool_use_id": result.call_id,
        "content": result.content,
        "is_error": result.is_error,
    }


def _reply_block(part: m.ReplyPart) -> dict[str, Json]:
    native = part.native or {}
    match part:
        case m.Text(text):
            return {"type": "text", **native, "text": text}
        case m.Thinking(text):
            return {**native, **({"thinking": text} if native.get("type") == "thinking" else {})}
        case m.ToolCall(id, name, arguments):
            return {"type": "tool_use", **native, "id": id, "name": name, "input": arguments}


def paused(drafts: Iterable[Draft]) -> list[dict[str, Json]]:
    """Return what a turn said before it paused, as it goes back in order to go on.

    It is the last message, in which the API takes no words of white space, and none at the end.
    """
    blocks = [block for draft in drafts for block in draft.content]
    blocks = [each for each in blocks if each["type"] != "text" or each["text"].strip()]
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
    return sendable(blocks)
