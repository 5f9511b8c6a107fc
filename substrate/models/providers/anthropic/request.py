"""A request as Anthropic's API takes it.

Blocks that the API wants back unchanged (thinking with its signature, redacted thinking, the
provider's own tools) keep everything but their words in `native`, in their place among the parts.
Another model's are left out, and so are those that were cut off: thinking that is not signed yet, a
search without what it found. All results of one reply go back in one user message.

Invariant: cache marks never change what is said. They stand at the end of the fixed prefix, where
this request ends, and where the one before it ended: the API looks for what it knows only twenty
blocks back.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

from substrate.models import messages as m
from substrate.models.order import alternating
from substrate.models.parts import Json
from substrate.models.providers.answer_schema import plain
from substrate.models.providers.anthropic.reply import PROVIDER, Draft
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
    messages = alternating((_message(message, model) for message in request.messages), "content")
    _mark(system or tools)
    for message in [each for each in messages if each["role"] == "user"][-2:]:
        _mark(message["content"])
    if parameters.get("thinking", {}).get("type") == "enabled" and not _began_by_thinking(messages):
        parameters["thinking"] = {"type": "disabled"}
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


def _began_by_thinking(messages: list[dict[str, Json]]) -> bool:
    """Whether the turn that goes on began by thinking: the API lets no other go on with it.

    One that another model began, before it was passed over, did not.
    """
    replies = [
        each["content"] for each in messages if each["role"] == "assistant" and each["content"]
    ]
    goes_on = messages and any(block["type"] == "tool_result" for block in messages[-1]["content"])
    return not (goes_on and replies) or "thinking" in replies[-1][0]["type"]


def _mark(blocks: list[dict[str, Json]]) -> None:
    """Mark the end of what may be cached; thinking cannot carry a mark."""
    if blocks and "thinking" not in blocks[-1].get("type", ""):
        blocks[-1] = {**blocks[-1], **_CACHED}


def _message(message: m.Message, model: str) -> dict[str, Json]:
    match message:
        case m.UserMessage(parts):
            return {"role": "user", "content": [_user_block(part) for part in parts]}
        case m.ToolMessage(results):
            return {"role": "user", "content": [_result_block(result) for result in results]}
        case m.Reply(parts):
            own = message.made_by(PROVIDER, model)
            blocks = (_reply_block(part, own=own) for part in parts)
            content = _complete([block for block in blocks if block])
            while content and "thinking" in content[-1]["type"]:
                content.pop()  # the API refuses a message that ends so
            return {"role": "assistant", "content": content}


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
        "tool_use_id": m.portable(result.call_id),
        "content": result.content,
        "is_error": result.is_error,
    }


def _reply_block(part: m.ReplyPart, *, own: bool) -> dict[str, Json] | None:
    """Return a part of an earlier reply, or None for what this model must not get."""
    native = part.native if own and part.native else {}
    match part:
        case m.Text(text):
            # The API refuses words that are only white space, which it writes itself at times.
            return {"type": "text", **native, "text": text} if text.strip() else None
        case m.Thinking(text):
            words = {"thinking": text} if native.get("type") == "thinking" else {}
            return {**native, **words} if native else None
        case m.ToolCall(id, name, arguments):
            named = {"id": m.portable(id), "name": m.portable(name)}
            return {"type": "tool_use", **native, **named, "input": arguments}


def _complete(blocks: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Return the blocks without thinking that is not signed, and searches that found nothing yet.

    They were cut off, and the API takes neither back.
    """
    found = {each["tool_use_id"] for each in blocks if "tool_use_id" in each}
    asked = {each.get("id") for each in blocks if _is_of_provider(each)}
    return [
        each
        for each in blocks
        if (each["type"] != "thinking" or each.get("signature"))
        and (not _is_of_provider(each) or each.get("id") in found)
        and ("tool_use_id" not in each or each["tool_use_id"] in asked)
    ]


def _is_of_provider(block: dict[str, Json]) -> bool:
    return block["type"] in ("server_tool_use", "mcp_tool_use")


def paused(drafts: Iterable[Draft]) -> list[dict[str, Json]]:
    """Return what a turn said before it paused, as it goes back in order to go on.

    It is the last message, in which the API takes no words of white space, and none at the end.
    """
    blocks = [block for draft in drafts for block in draft.content]
    blocks = [each for each in blocks if each["type"] != "text" or each["text"].strip()]
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
    return sendable(blocks)
