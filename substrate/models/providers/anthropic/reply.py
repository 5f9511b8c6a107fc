"""A reply from the events of Anthropic's stream.

A reply is put together here block by block, since the SDK's own helper repairs a tool's
half-written JSON, and the loop has to know that it was half-written.

Invariants: what the API wants back unchanged is in a part's `native`, whole. A delta takes the same
time however much has come before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from io import StringIO
from operator import add

from substrate.models import messages as m
from substrate.models import prices
from substrate.models.parts import Json
from substrate.models.providers.failures import unknown_stop
from substrate.models.providers.unfinished import uncalled
from substrate.models.request import Request
from substrate.values.whole_text import whole

PROVIDER = "anthropic"

_STOPS: Mapping[str, m.StopReason | None] = {  # None: whichever of the natural ones it is
    "end_turn": None,
    "stop_sequence": None,
    "tool_use": None,
    "pause_turn": None,  # where it calls a tool of ours too, which is answered first
    "max_tokens": m.StopReason.LENGTH,
    "refusal": m.StopReason.REFUSAL,
    "content_filter": m.StopReason.REFUSAL,  # gateways before other models pass it on
}


@dataclass(slots=True)
class Draft:
    """One message as far as its stream has come."""

    id: str | None = None
    #: By their index, as they began.
    begun: dict[int, dict[str, Json]] = field(default_factory=dict)
    #: By the index of a block and the name of a text of it, that text as it has grown.
    grown: dict[int, dict[str, StringIO]] = field(default_factory=dict)
    #: By the index of a tool's block, its input as JSON text.
    written: dict[int, StringIO] = field(default_factory=dict)
    #: The API's counts, the latest of each.
    usage: dict[str, Json] = field(default_factory=dict)
    #: Whether the output was counted, which comes at the end.
    is_counted: bool = False
    #: Why it stopped, in the API's word.
    stop: str | None = None
    #: What a refusal says of its cause.
    stop_details: dict[str, Json] | None = None
    #: Whether `message_stop` has come.
    is_complete: bool = False

    @property
    def content(self) -> list[dict[str, Json]]:
        """Its blocks in order, as they have grown."""
        return [self.block(index) for index in sorted(self.begun)]

    @property
    def inputs(self) -> dict[int, str]:
        """By the index of a tool's block, its input as JSON text."""
        return {index: text.getvalue() for index, text in self.written.items()}

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.usage or self.begun or self.id)

    def block(self, index: int) -> dict[str, Json]:
        """Return a block as it has grown."""
        texts = self.grown.get(index, {})
        return {**self.begun[index], **{name: text.getvalue() for name, text in texts.items()}}

    def grow(self, index: int, name: str, piece: str) -> str:
        """Add a piece to a text of a block that has begun; return it."""
        texts = self.grown.setdefault(index, {})
        if name not in texts:
            texts[name] = StringIO()
            texts[name].write(self.begun[index][name])
        texts[name].write(piece)
        return piece


def calls_ours(draft: Draft) -> bool:
    """Whether a message calls a tool of ours: the API takes it back only with the result."""
    return any(block["type"] == "tool_use" for block in draft.content)


def says(event: dict[str, Json]) -> bool:
    """Whether an event says something: not a ping, nor a delta of nothing."""
    if event.get("type") != "content_block_delta":
        return event.get("type") in _SAYING
    delta = event.get("delta")
    fields = delta.items() if isinstance(delta, dict) else ()
    return any(value for key, value in fields if key != "type")


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
            block = dict(event["content_block"])
            if not isinstance(block["type"], str):
                raise TypeError(f"a block whose type is {type(block['type']).__name__}")
            draft.begun[event["index"]] = block
            draft.grown.pop(event["index"], None)
        case "content_block_delta":
            return _grow(draft, event["index"], event["delta"])
        case "message_delta":
            draft.stop = event["delta"].get("stop_reason") or draft.stop
            draft.stop_details = event["delta"].get("stop_details")
            # Cumulative; a count that is left out keeps the value of message_start.
            counts = prices.counts_in(event.get("usage"))
            draft.usage.update(counts)
            draft.is_counted = draft.is_counted or "output_tokens" in counts
        case "content_block_stop":
            _finish_input(draft, event["index"])
        case "message_stop":
            draft.is_complete = True
    return ""


def _grow(draft: Draft, index: int, delta: dict[str, Json]) -> str:
    block = draft.begun[index]
    match delta["type"]:
        case "text_delta":
            return draft.grow(index, "text", delta["text"])
        case "thinking_delta":
            draft.grow(index, "thinking", delta["thinking"])
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = block.get("citations") or []
            block["citations"].append(delta["citation"])
        case "input_json_delta":
            draft.written.setdefault(index, StringIO()).write(delta["partial_json"])
    return ""


def _finish_input(draft: Draft, index: int) -> None:
    """Give a tool's block the input that came in pieces, since a paused block goes back whole."""
    if (written := draft.written.get(index)) and (text := written.getvalue()):
        draft.begun[index]["input"] = m.ToolCall.read("", "", text).arguments


def reply(model: str, request: Request, drafts: Sequence[Draft]) -> m.Reply:
    """Return the drafts of one answer as a reply.

    Raises `TransportFailed` where it stopped for a reason that nobody knows to end an answer.
    """
    last, word = drafts[-1], drafts[-1].stop or ""
    if word not in _STOPS:
        raise unknown_stop(f"{PROVIDER}:{model}", word)
    parts = [
        _part(draft.block(index), inputs.get(index))
        for draft, inputs in ((each, each.inputs) for each in drafts)
        for index in sorted(draft.begun)
    ]
    calls = any(isinstance(part, m.ToolCall) for part in parts)
    natural = m.StopReason.TOOL_CALLS if calls else m.StopReason.END
    stop, detail = _STOPS[word] or natural, None
    if stop is m.StopReason.REFUSAL:
        details = last.stop_details or {}
        detail = str(details.get("category") or word)
        if not any(isinstance(part, m.Text) and part.text for part in parts):
            parts.append(m.Text(details.get("explanation") or detail))
    return m.Reply(
        uncalled(parts, stop),
        stop,
        PROVIDER,
        model,
        usage(model, request, drafts),
        last.id,
        detail=detail,
    )


def _part(block: dict[str, Json], input_json: str | None) -> m.ReplyPart:
    """Return a block as a part; `native` holds what the part itself does not."""
    match block["type"]:
        case "text":
            rest = {k: v for k, v in block.items() if k not in ("type", "text")}
            return m.Text(whole(block["text"]), native=rest or None)
        case "thinking":
            rest = {k: v for k, v in block.items() if k != "thinking"}
            return m.Thinking(block["thinking"], native=rest)
        case "tool_use":
            own = ("type", "id", "name", "input")
            native = {k: v for k, v in block.items() if k not in own} or None
            if input_json:
                return m.ToolCall.read(block["id"], block["name"], input_json, native)
            return m.ToolCall(block["id"], block["name"], block["input"], native=native)
    return m.Thinking("", native=block)


def usage(model: str, request: Request, drafts: Sequence[Draft]) -> m.Usage:
    """Return what the drafts of an answer used, as it was counted, or else about as much."""
    return reduce(add, (_usage(model, request, draft) for draft in drafts))


def _usage(model: str, request: Request, draft: Draft) -> m.Usage:
    counts = draft.usage
    cached = prices.number(counts, "cache_read_input_tokens")
    hourly = prices.number(counts, "cache_creation", "ephemeral_1h_input_tokens")
    brief = prices.number(counts, "cache_creation", "ephemeral_5m_input_tokens")
    to_cache = prices.number(counts, "cache_creation_input_tokens") or hourly + brief
    has_input = counts.get("input_tokens") is not None
    # What message_start counts as output is no more than the first word.
    output = prices.number(counts, "output_tokens") if draft.is_counted else 0
    reported = m.Usage(
        input_tokens=prices.number(counts, "input_tokens") + cached + to_cache if has_input else 0,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=to_cache,
        reasoning_tokens=prices.number(counts, "output_tokens_details", "thinking_tokens"),
    )
    written = [*draft.content, *draft.inputs.values()]
    counted = prices.counted(reported, request, written, PROVIDER)
    tier = counts.get("service_tier")
    return prices.priced(counted, PROVIDER, model, tier, hourly_tokens=min(hourly, to_cache))
