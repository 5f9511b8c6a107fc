"""A reply from the events of OpenAI's Responses API.

Invariant: an item is taken from the event that completes it, since the same reasoning is encrypted
anew in every event.
"""

from dataclasses import dataclass, field

from substrate.models import messages as m
from substrate.models import prices
from substrate.models.parts import Json
from substrate.models.providers.failures import rejected, transport_failed, unknown_stop
from substrate.models.providers.unfinished import uncalled
from substrate.models.request import Request
from substrate.values.errors import ModelError
from substrate.values.whole_text import whole

PROVIDER = "openai"

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_IDLE = frozenset({"response.in_progress", "response.queued", "keepalive", "ping"})


@dataclass(slots=True)
class Draft:
    """One answer as far as its stream has come."""

    #: By its id, each item as it was when it was complete.
    done: dict[str, dict[str, Json]] = field(default_factory=dict)
    #: The response of the event that ends the stream; empty before.
    response: dict[str, Json] = field(default_factory=dict)
    #: All deltas, to be counted where no item was completed.
    written: list[str] = field(default_factory=list)
    #: Whether the provider has begun to work, which it charges for.
    has_begun: bool = False


def says(event: dict[str, Json]) -> bool:
    """Whether an event says something: not that it is still at work, nor a delta of nothing."""
    kind = str(event.get("type", ""))
    return bool(event.get("delta")) if kind.endswith(".delta") else kind not in _IDLE


def take(draft: Draft, event: dict[str, Json]) -> str:
    """Add an event to the draft; return the words for the user in it."""
    kind = str(event.get("type", ""))
    draft.has_begun = draft.has_begun or kind.startswith("response.")
    delta = event.get("delta")
    if isinstance(delta, str):
        draft.written.append(delta)
    if kind == "response.output_item.done":
        draft.done[event["item"].get("id", "")] = event["item"]
    if kind in ENDS:
        draft.response = event["response"]
    is_for_user = kind in ("response.output_text.delta", "response.refusal.delta")
    return str(delta or "") if is_for_user else ""


def reply(model: str, request: Request, draft: Draft) -> m.Reply:
    """Return an ended response as a reply, with each item as it was when it was complete."""
    response, called = draft.response, f"{PROVIDER}:{model}"
    unfinished = _unfinished(response)
    is_failed = response.get("status") in ("failed", "cancelled")
    if response.get("error") or (is_failed and unfinished != "content_filter"):
        raise _failed(called, response)
    # Some servers end with a response that has no output: then the completed items are all.
    last = response.get("output") or list(draft.done.values())
    # The last event encrypts reasoning anew: what goes back is the item as it was completed.
    items = [draft.done.get(item.get("id"), item) for item in last]
    stop = _stop(called, response, items)
    parts = [_part(item) for item in items]
    detail = (unfinished or "refusal") if stop is m.StopReason.REFUSAL else None
    if detail and not any(isinstance(part, m.Text) and part.text for part in parts):
        parts.append(m.Text(detail))
    used = usage(model, request, draft)
    kept = uncalled(parts, stop)
    return m.Reply(kept, stop, PROVIDER, model, used, response.get("id"), detail=detail)


def _unfinished(response: dict[str, Json]) -> str | None:
    reason = (response.get("incomplete_details") or {}).get("reason")
    return None if reason is None else str(reason)


def _failed(called: str, response: dict[str, Json]) -> ModelError:
    """Return the error for a response that failed; some servers do not say of what."""
    if error := response.get("error"):
        return rejected(called, error)
    why = _unfinished(response) or "no reason"
    return transport_failed(called, f"ended as {response.get('status')!r} and gave {why}")


_UNFINISHED = ("incomplete", "in_progress")
"""What a call says of itself that is not whole: its arguments may be missing."""


def _stop(called: str, response: dict[str, Json], items: list[dict[str, Json]]) -> m.StopReason:
    unfinished = _unfinished(response)
    kinds = [each["type"] for item in items for each in item.get("content") or ()]
    if unfinished == "content_filter" or "refusal" in kinds:
        return m.StopReason.REFUSAL
    if unfinished in ("max_output_tokens", "max_tokens", "length"):
        return m.StopReason.LENGTH
    if unfinished is not None:
        raise unknown_stop(called, unfinished)
    # Some servers cut an answer off without a reason: a call says itself that it is not whole.
    status = response.get("status")
    calls = [item for item in items if item["type"] == "function_call"]
    if status == "incomplete" or any(each.get("status") in _UNFINISHED for each in calls):
        return m.StopReason.LENGTH
    if status not in (None, "completed"):
        raise unknown_stop(called, status)
    return m.StopReason.TOOL_CALLS if calls else m.StopReason.END


def _part(item: dict[str, Json]) -> m.ReplyPart:
    """Return an output item as a part; `native` holds what the part itself does not."""
    match item["type"]:
        case "message":
            content = item.get("content") or ()
            words = "".join(each.get("text", each.get("refusal", "")) for each in content)
            return m.Text(whole(words), native={k: v for k, v in item.items() if k != "content"})
        case "reasoning":
            summary = item.get("summary") or ()
            return m.Thinking("\n\n".join(each["text"] for each in summary), native=item)
        case "function_call":
            own = ("type", "call_id", "name", "arguments")
            native = {k: v for k, v in item.items() if k not in own}
            return m.ToolCall.read(
                item["call_id"], item["name"], item.get("arguments") or "", native
            )
    return m.Thinking("", native=item)


def usage(model: str, request: Request, draft: Draft) -> m.Usage:
    """Return what was counted, or else about as much."""
    counts = draft.response.get("usage")
    reported = m.Usage(
        input_tokens=prices.number(counts, "input_tokens"),
        output_tokens=prices.number(counts, "output_tokens"),
        cached_tokens=prices.number(counts, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=prices.number(counts, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=prices.number(counts, "output_tokens_details", "reasoning_tokens"),
    )
    written = draft.response.get("output") or list(draft.done.values()) or draft.written
    usage = prices.counted(reported, request, written, PROVIDER)
    return prices.priced(usage, PROVIDER, model, draft.response.get("service_tier"))
