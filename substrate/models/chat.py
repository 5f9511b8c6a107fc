"""The OpenAI chat protocol: what its many servers have in common.

`groq` speaks it over Groq's SDK, and `openai_chat` over OpenAI's to any server with a base URL.

`chat_request` has what is said. Invariants: an answer counts only when a choice has named its
`finish_reason`; what a server counts after that is waited for a moment only. A call without an id
is given one. Where a server counts no tokens, they are estimated.
"""

import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from substrate.models import prices
from substrate.models.chat_request import Server
from substrate.models.failures import Translator, broken, rejected, sensible
from substrate.models.messages import (
    Delta,
    Json,
    Reply,
    ReplyPart,
    Request,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from substrate.models.stream import COUNTS_S, Opening, drain, events

REASONING = ("reasoning", "reasoning_content")
"""The two names that servers have for a model's reasoning."""

_STOPS: Mapping[str, StopReason] = {
    "length": StopReason.LENGTH,
    "content_filter": StopReason.REFUSAL,
}


@dataclass(slots=True)
class _Call:
    """One call as far as its pieces have come."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    native: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """One answer as far as its stream has come."""

    id: str | None = None
    text: str = ""
    reasoning: dict[str, str] = field(default_factory=dict)
    details: list[dict[str, Json]] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    counts: dict[str, Json] = field(default_factory=dict)
    finish: str | None = None


async def answer(
    server: Server,
    model: str,
    request: Request,
    *,
    translator: Translator,
    opening: Opening,
    on_delta: Delta,
) -> Reply:
    """Read an answer from the call that `opening` is."""
    called, draft = server.name(model), _Draft()
    async with aclosing(events(called, translator, opening)) as coming:
        async for event in coming:
            with sensible(called):
                words = _take(draft, event, called)
            if words:
                on_delta(words)
            if draft.finish is not None:
                break
        if draft.finish is None:
            raise broken(called, "ended its stream before the answer was complete")
        async for event in drain(coming, COUNTS_S):
            draft.counts = _counts(event) or draft.counts
    with sensible(called):
        return _reply(server, model, request, draft)


def _take(draft: _Draft, event: dict[str, Json], called: str) -> str:
    """Add an event to the draft; return the words for the user in it."""
    draft.id = event.get("id") or draft.id
    draft.counts = _counts(event) or draft.counts
    if early := (event.get("x_groq") or {}).get("error"):
        raise broken(called, f"stopped its stream early: {early}")
    words = ""
    for choice in event.get("choices") or ():
        if choice.get("error"):
            raise rejected(called, choice["error"])
        words += _grow(draft, choice.get("delta") or {})
        draft.finish = choice.get("finish_reason") or draft.finish
    return words


def _grow(draft: _Draft, delta: dict[str, Json]) -> str:
    for name in REASONING:
        if delta.get(name):
            draft.reasoning[name] = draft.reasoning.get(name, "") + delta[name]
    for detail in delta.get("reasoning_details") or ():
        _merge(draft.details, detail)
    for position, piece in enumerate(delta.get("tool_calls") or ()):
        _grow_call(draft.calls, piece.get("index", position), piece)
    words = delta.get("content") or ""
    words += delta.get("refusal") or ""
    draft.text += words
    return words


def _grow_call(calls: list[_Call], index: int, piece: dict[str, Json]) -> None:
    """Add a piece of a call; what is neither name nor arguments is kept as it came.

    Some servers give every call the index 0: another id at the same index is another call.
    """
    known = next((each for each in reversed(calls) if each.index == index), None)
    if known is None or (known.id and piece.get("id") not in (None, "", known.id)):
        known = _Call(index)
        calls.append(known)
    function = piece.get("function") or {}
    known.id = piece.get("id") or known.id
    known.name = function.get("name") or known.name
    written = function.get("arguments") or ""
    known.arguments += written if isinstance(written, str) else json.dumps(written)
    kept = ("index", "id", "type", "function")
    known.native.update({k: v for k, v in piece.items() if k not in kept and v is not None})


def _merge(details: list[dict[str, Json]], piece: dict[str, Json]) -> None:
    """Add a piece of a reasoning block, which is told by its index, to the blocks so far."""
    if not (details and details[-1].get("index") == piece.get("index") is not None):
        details.append(dict(piece))
        return
    for key, value in piece.items():
        grows = key in ("text", "summary", "data") and isinstance(details[-1].get(key), str)
        details[-1][key] = details[-1][key] + value if grows and value else value


def _counts(event: dict[str, Json]) -> dict[str, Json]:
    counts: dict[str, Json] = event.get("usage") or (event.get("x_groq") or {}).get("usage") or {}
    return counts


def _reply(server: Server, model: str, request: Request, draft: _Draft) -> Reply:
    parts: list[ReplyPart] = []
    if draft.reasoning or draft.details:
        details = {"reasoning_details": draft.details} if draft.details else {}
        native = {**draft.reasoning, **details}
        parts.append(Thinking(next(iter(draft.reasoning.values()), ""), native=native))
    if draft.text:
        parts.append(Text(draft.text))
    parts += [
        ToolCall.read(each.id or request.call_id(i), each.name, each.arguments, each.native or None)
        for i, each in enumerate(sorted(draft.calls, key=lambda each: each.index))
    ]
    natural = StopReason.TOOL_CALLS if draft.calls else StopReason.END
    stop = _STOPS.get(draft.finish or "", natural)
    usage = usage_of(server, model, draft.counts) or prices.estimated(
        request, parts, server.prices, model, server.address
    )
    return Reply(tuple(parts), stop, server.provider, model, usage, draft.id)


def usage_of(server: Server, model: str, counts: dict[str, Json]) -> Usage | None:
    """Return what the server counted, or None where it counted nothing."""
    if not counts:
        return None
    given = counts.get("prompt_tokens_details") or {}
    written = counts.get("completion_tokens_details") or {}
    usage = Usage(
        input_tokens=counts.get("prompt_tokens") or 0,
        output_tokens=counts.get("completion_tokens") or 0,
        cached_tokens=given.get("cached_tokens") or 0,
        cache_write_tokens=given.get("cache_write_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )
    # A gateway such as OpenRouter says itself what it took.
    return prices.priced(
        usage, server.prices, model, address=server.address, billed=counts.get("cost")
    )
