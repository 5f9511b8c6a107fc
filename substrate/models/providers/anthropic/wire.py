"""Claude's messages: a request as Anthropic's API takes it, and a reply from its stream's events.

A reply is put together here block by block, since the SDK's own helper repairs a tool's
half-written JSON and we must know that it was half-written.

Blocks that the API wants back unchanged (thinking with its signature, redacted thinking, the
provider's own tools) keep everything but their words in `native`, in their place among the parts;
another model's are left out, and so are those that were cut off: thinking that is not signed yet, a
search without what it found. All results of one reply go back in one user message. Cache marks
stand at the end of the fixed prefix, where this request ends, and where the one before it ended,
since the API looks for what it knows only twenty blocks back. They never change what is said.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from substrate.models import prices
from substrate.models.mending import alternating, sendable, whole
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
    uncalled,
)
from substrate.models.providers.answer_schema import plain
from substrate.models.providers.failures import unknown_stop

PROVIDER = "anthropic"

LONGEST_OUTPUT = 64_000
"""How many tokens an answer may have where nobody said: the API wants a number.

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
_STOPS: Mapping[str, StopReason | None] = {  # None: whichever of the natural ones it is
    "end_turn": None,
    "stop_sequence": None,
    "tool_use": None,
    "pause_turn": None,  # where it calls a tool of ours too, which is answered first
    "max_tokens": StopReason.LENGTH,
    "refusal": StopReason.REFUSAL,
    "content_filter": StopReason.REFUSAL,  # gateways before other models pass it on
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
    said = {"system": system, "tools": tools, "tool_choice": choice, "output_config": output}
    return {
        **parameters,
        **{key: value for key, value in said.items() if value},
        "model": model,
        "max_tokens": request.max_output_tokens or longest_output(model),
        "messages": messages,
        "stream": True,
    }


def longest_output(model: str) -> int:
    """Return how many tokens a model can write."""
    known = (limit for pattern, limit in _LONGEST if pattern.match(model))
    return next(known, LONGEST_OUTPUT)


def longest_in(said: str | None) -> int | None:
    """Return how many tokens a model can write, from its refusal to write more; None in others."""
    told = _TOO_LONG.search(said or "")
    return int(told[1]) if told else None


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
            content = _complete([block for block in blocks if block])
            while content and "thinking" in content[-1]["type"]:
                content.pop()  # the API refuses a message that ends so
            return {"role": "assistant", "content": content}


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


def calls_ours(draft: "Draft") -> bool:
    """Whether a message calls a tool of ours: the API takes it back only with the result."""
    return any(block["type"] == "tool_use" for block in draft.content)


def paused(drafts: Iterable["Draft"]) -> list[dict[str, Json]]:
    """Return what a turn said before it paused, as it goes back in order to go on.

    It is the last message, in which the API takes no words of white space, and none at the end.
    """
    blocks = [block for draft in drafts for block in draft.content]
    blocks = [each for each in blocks if each["type"] != "text" or each["text"].strip()]
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
    return sendable(blocks)


# What it says


@dataclass(slots=True)
class Draft:
    """One message as far as its stream has come."""

    id: str | None = None
    blocks: dict[int, dict[str, Json]] = field(default_factory=dict)
    inputs: dict[int, str] = field(default_factory=dict)
    usage: dict[str, Json] = field(default_factory=dict)
    is_counted: bool = False
    stop: str | None = None
    stop_details: dict[str, Json] | None = None
    is_complete: bool = False

    @property
    def content(self) -> list[dict[str, Json]]:
        """Its blocks in order."""
        return [self.blocks[index] for index in sorted(self.blocks)]

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.usage or self.blocks or self.id)


def says(event: dict[str, Json]) -> bool:
    """Whether an event says something: not a ping, nor a delta of nothing."""
    if event.get("type") != "content_block_delta":
        return event.get("type") in _SAYING
    delta = event.get("delta")
    said = delta.items() if isinstance(delta, dict) else ()
    return any(value for key, value in said if key != "type")


_SAYING = frozenset(
    {
        *("message_start", "content_block_start", "content_block_stop"),
        *("message_delta", "message_stop", "error"),
    }
)


def take(draft: Draft, event: dict[str, Json]) -> str:
    """Add an event to the draft; return the words for the user in it."""
    match event["type"]:
        case "message_start":
            draft.id = event["message"].get("id")
            draft.usage.update(prices.counts_in(event["message"].get("usage")))
        case "content_block_start":
            draft.blocks[event["index"]] = dict(event["content_block"])
        case "content_block_delta":
            return _grow(draft, event["index"], event["delta"])
        case "message_delta":
            draft.stop = event["delta"].get("stop_reason") or draft.stop
            draft.stop_details = event["delta"].get("stop_details")
            # Cumulative; a count that is left out keeps the value of message_start.
            told = prices.counts_in(event.get("usage"))
            draft.usage.update(told)
            draft.is_counted = draft.is_counted or "output_tokens" in told
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


def reply(model: str, request: Request, drafts: Sequence[Draft]) -> Reply:
    """Return the drafts of one answer as a reply.

    Raises `TransportFailed` where it stopped for a reason that nobody knows to end an answer.
    """
    last, said = drafts[-1], drafts[-1].stop or ""
    if said not in _STOPS:
        raise unknown_stop(f"{PROVIDER}:{model}", said)
    parts = [
        _part(draft.blocks[index], draft.inputs.get(index))
        for draft in drafts
        for index in sorted(draft.blocks)
    ]
    calls = any(isinstance(part, ToolCall) for part in parts)
    natural = StopReason.TOOL_CALLS if calls else StopReason.END
    stop, detail = _STOPS[said] or natural, None
    if stop is StopReason.REFUSAL:
        details = last.stop_details or {}
        detail = str(details.get("category") or said)
        if not any(isinstance(part, Text) and part.text for part in parts):
            parts.append(Text(details.get("explanation") or detail))
    return Reply(
        uncalled(parts, stop),
        stop,
        PROVIDER,
        model,
        usage(model, request, drafts),
        last.id,
        detail=detail,
    )


def _part(block: dict[str, Json], input_json: str | None) -> ReplyPart:
    """Return a block as a part; `native` holds what the part itself does not."""
    match block["type"]:
        case "text":
            rest = {k: v for k, v in block.items() if k not in ("type", "text")}
            return Text(whole(block["text"]), native=rest or None)
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


def usage(model: str, request: Request, drafts: Sequence[Draft]) -> Usage:
    """Return what the drafts of an answer used, as it was counted, or else about as much."""
    return reduce(add, (_usage(model, request, draft) for draft in drafts))


def _usage(model: str, request: Request, draft: Draft) -> Usage:
    counts = draft.usage
    read = prices.number(counts, "cache_read_input_tokens")
    hourly = prices.number(counts, "cache_creation", "ephemeral_1h_input_tokens")
    brief = prices.number(counts, "cache_creation", "ephemeral_5m_input_tokens")
    written = prices.number(counts, "cache_creation_input_tokens") or hourly + brief
    is_told = counts.get("input_tokens") is not None
    # What message_start counts as output is no more than the first word.
    output = prices.number(counts, "output_tokens") if draft.is_counted else 0
    told = Usage(
        input_tokens=prices.number(counts, "input_tokens") + read + written if is_told else 0,
        output_tokens=output,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=prices.number(counts, "output_tokens_details", "thinking_tokens"),
    )
    whole_usage = prices.counted(told, request, [*draft.content, *draft.inputs.values()], PROVIDER)
    tier = counts.get("service_tier")
    return prices.priced(whole_usage, PROVIDER, model, tier, hourly_tokens=min(hourly, written))
