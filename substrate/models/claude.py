"""Claude's messages: a request as Anthropic's API takes it, and a reply from its stream's events.

A reply is put together here block by block, since the SDK's own helper repairs a tool's
half-written JSON and we must know that it was half-written.

Blocks that the API wants back unchanged (thinking with its signature, redacted thinking, the
provider's own tools) keep everything but their words in `native`, in their place among the parts;
another model's are left out. All results of one reply go back in one user message. Cache marks
stand at the end of the fixed prefix, where this request ends, and where the one before it ended,
since the API looks for what it knows only twenty blocks back. They never change what is said.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from substrate.models import prices
from substrate.models.answer_schema import plain
from substrate.models.messages import (
    Document,
    Image,
    Json,
    Message,
    Reply,
    ReplyPart,
    Request,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
    UserPart,
    portable,
)

PROVIDER = "anthropic"

_CACHED = {"cache_control": {"type": "ephemeral"}}
_STOPS: Mapping[str, StopReason] = {
    "end_turn": StopReason.END,
    "stop_sequence": StopReason.END,
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.LENGTH,
    "refusal": StopReason.REFUSAL,
}


# What we say


def body(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in request.tools
    ]
    tools += parameters.pop("tools", [])
    system = [{"type": "text", "text": request.system}] if request.system else []
    messages = [_message(message, model) for message in request.messages]
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
    said = {"system": system, "tools": tools, "tool_choice": choice, "output_config": output}
    return {
        **parameters,
        **{key: value for key, value in said.items() if value},
        "model": model,
        "max_tokens": request.max_output_tokens,
        # A reply of which nothing is left says nothing, and the API refuses empty messages.
        "messages": [message for message in messages if message["content"]],
        "stream": True,
    }


def _began_by_thinking(messages: list[dict[str, Json]]) -> bool:
    """Whether the turn that goes on began by thinking: the API lets no other go on with it.

    One that another model began, before it was passed over, did not.
    """
    said = [each["content"] for each in messages if each["role"] == "assistant" and each["content"]]
    goes_on = messages and any(block["type"] == "tool_result" for block in messages[-1]["content"])
    return not (goes_on and said) or "thinking" in said[-1][0]["type"]


def _mark(blocks: list[dict[str, Json]]) -> None:
    """Mark the end of what may be cached; thinking cannot carry a mark."""
    if blocks and "thinking" not in blocks[-1].get("type", ""):
        blocks[-1] = {**blocks[-1], **_CACHED}


def _message(message: Message, model: str) -> dict[str, Json]:
    match message:
        case UserMessage(parts):
            return {"role": "user", "content": [_user_block(part) for part in parts]}
        case ToolMessage(results):
            return {"role": "user", "content": [_result_block(result) for result in results]}
        case Reply(parts):
            own = message.made_by(PROVIDER, model)
            blocks = (_reply_block(part, own=own) for part in parts)
            return {"role": "assistant", "content": [block for block in blocks if block]}


def _user_block(part: UserPart) -> dict[str, Json]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(data, media_type):
            return {"type": "image", "source": _base64(data, media_type)}
        case Document(data, media_type, title):
            source = _base64(data, media_type)
            if media_type == "text/plain":
                text = data.decode(errors="replace")
                source = {"type": "text", "media_type": media_type, "data": text}
            titled = {"title": title} if title else {}
            return {"type": "document", "source": source, **titled}


def _base64(data: bytes, media_type: str) -> dict[str, Json]:
    return {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}


def _result_block(result: ToolResult) -> dict[str, Json]:
    return {
        "type": "tool_result",
        "tool_use_id": portable(result.call_id),
        "content": result.content,
        "is_error": result.is_error,
    }


def _reply_block(part: ReplyPart, *, own: bool) -> dict[str, Json] | None:
    """Return a part of an earlier reply, or None for what this model must not be told."""
    native = part.native if own and part.native else {}
    match part:
        case Text(text):
            # The API refuses words that are only white space, which it writes itself at times.
            return {"type": "text", **native, "text": text} if text.strip() else None
        case Thinking(text):
            words = {"thinking": text} if native.get("type") == "thinking" else {}
            return {**native, **words} if native else None
        case ToolCall(id, name, arguments):
            named = {"id": portable(id), "name": portable(name)}
            return {"type": "tool_use", **native, **named, "input": arguments}


# What it says


@dataclass(slots=True)
class Draft:
    """One message as far as its stream has come."""

    id: str | None = None
    blocks: dict[int, dict[str, Json]] = field(default_factory=dict)
    inputs: dict[int, str] = field(default_factory=dict)
    usage: dict[str, Json] = field(default_factory=dict)
    stop: str | None = None
    stop_details: dict[str, Json] | None = None
    is_complete: bool = False

    @property
    def content(self) -> list[dict[str, Json]]:
        """Its blocks in order."""
        return [self.blocks[index] for index in sorted(self.blocks)]


def take(draft: Draft, event: dict[str, Json]) -> str:
    """Add an event to the draft; return the words for the user in it."""
    match event["type"]:
        case "message_start":
            draft.id = event["message"]["id"]
            draft.usage.update(event["message"]["usage"])
        case "content_block_start":
            draft.blocks[event["index"]] = dict(event["content_block"])
        case "content_block_delta":
            return _grow(draft, event["index"], event["delta"])
        case "message_delta":
            draft.stop = event["delta"]["stop_reason"]
            draft.stop_details = event["delta"].get("stop_details")
            # Cumulative; a count that is left out keeps the value of message_start.
            draft.usage.update({k: v for k, v in event["usage"].items() if v is not None})
        case "content_block_stop":
            _finish_input(draft, event["index"])
        case "message_stop":
            draft.is_complete = True
    return ""


def _grow(draft: Draft, index: int, delta: dict[str, Json]) -> str:
    block = draft.blocks[index]
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
            return str(delta["text"])
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case "input_json_delta":
            draft.inputs[index] = draft.inputs.get(index, "") + delta["partial_json"]
    return ""


def _finish_input(draft: Draft, index: int) -> None:
    """Give a tool's block the input that came in pieces, since a paused block goes back whole."""
    if written := draft.inputs.get(index):
        draft.blocks[index]["input"] = ToolCall.read("", "", written).arguments


def reply(model: str, drafts: Sequence[Draft]) -> Reply:
    """Return the drafts of one answer as a reply."""
    last = drafts[-1]
    parts = [
        _part(draft.blocks[index], draft.inputs.get(index))
        for draft in drafts
        for index in sorted(draft.blocks)
    ]
    explained = (last.stop_details or {}).get("explanation")
    if explained and not any(isinstance(part, Text) for part in parts):
        parts.append(Text(explained))
    return Reply(
        tuple(parts),
        _STOPS.get(last.stop or "", StopReason.END),
        PROVIDER,
        model,
        reduce(add, (_usage(model, draft.usage) for draft in drafts)),
        last.id,
    )


def _part(block: dict[str, Json], input_json: str | None) -> ReplyPart:
    """Return a block as a part; `native` holds what the part itself does not."""
    match block["type"]:
        case "text":
            rest = {k: v for k, v in block.items() if k not in ("type", "text")}
            return Text(block["text"], native=rest or None)
        case "thinking":
            rest = {k: v for k, v in block.items() if k != "thinking"}
            return Thinking(block["thinking"], native=rest)
        case "tool_use":
            own = ("type", "id", "name", "input")
            native = {k: v for k, v in block.items() if k not in own} or None
            if input_json:
                return ToolCall.read(block["id"], block["name"], input_json, native)
            return ToolCall(block["id"], block["name"], block["input"], native=native)
    return Thinking("", native=block)


def _usage(model: str, counts: dict[str, Json]) -> Usage:
    read = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    details = counts.get("output_tokens_details") or {}
    usage = Usage(
        input_tokens=counts["input_tokens"] + read + written,
        output_tokens=counts["output_tokens"],
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=details.get("thinking_tokens") or 0,
    )
    return prices.priced(usage, PROVIDER, model, counts.get("service_tier"))
