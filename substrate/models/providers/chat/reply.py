"""The OpenAI chat protocol: what its many servers have in common.

`groq` speaks it over Groq's SDK, and `openai_chat` over OpenAI's to any server with a base URL.

Invariants: an answer counts only when a choice has named its
`finish_reason`; what a server counts after that is waited for a moment only. A call without an id
is given one. Where a server counts no tokens, they are estimated. A delta takes the same time
however much has come before it.
"""

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from io import StringIO

from substrate.models import messages as m
from substrate.models import prices
from substrate.models.parts import Json
from substrate.models.providers.chat.request import Server
from substrate.models.providers.failures import (
    Translator,
    overflowed,
    parsing,
    rejected,
    transport_failed,
    unknown_stop,
)
from substrate.models.providers.stream import COUNTS_S, Opening, Patience, charged, drain, events
from substrate.models.providers.unfinished import uncalled
from substrate.models.request import OnText, Request
from substrate.values.errors import ModelError
from substrate.values.whole_text import whole

REASONING = ("reasoning", "reasoning_content")
"""The two names that servers have for a model's reasoning."""

_NATURAL = frozenset(
    {
        *("stop", "tool_calls", "function_call"),  # OpenAI's, and most others'
        *("eos", "eos_token", "stop_sequence", "end_turn", "complete", "tool_use", "tool_call"),
    }
)
_CUT = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_FILTERED = frozenset({"content_filter", "safety", "sensitive", "refusal"})


@dataclass(slots=True)
class _Call:
    """One call as far as its pieces have come."""

    #: Its place among the calls; not every server counts.
    index: int
    id: str = ""
    name: str = ""
    #: JSON text.
    arguments: StringIO = field(default_factory=StringIO)
    #: What else the server hung on it.
    native: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class _Detail:
    """One of OpenRouter's blocks of reasoning as far as its pieces have come."""

    fields: dict[str, Json]
    #: Those of its fields that come in pieces.
    texts: dict[str, StringIO] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the block as it goes back."""
        return {**self.fields, **{name: text.getvalue() for name, text in self.texts.items()}}


@dataclass(slots=True)
class _Draft:
    """One answer as far as its stream has come."""

    id: str | None = None
    words: StringIO = field(default_factory=StringIO)
    #: By the name under which the server sends it.
    thought: dict[str, StringIO] = field(default_factory=dict)
    #: OpenRouter's blocks of reasoning, which it wants back.
    details: list[_Detail] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    counts: dict[str, Json] = field(default_factory=dict)
    #: Why it stopped, in the server's word.
    finish: str | None = None
    has_begun: bool = False

    @property
    def text(self) -> str:
        """Its words so far."""
        return self.words.getvalue()

    @property
    def native(self) -> dict[str, Json]:
        """Its reasoning so far, as it goes back."""
        details = [each.to_json() for each in self.details]
        reasoning = {name: text.getvalue() for name, text in self.thought.items()}
        return {**reasoning, **({"reasoning_details": details} if details else {})}

    @property
    def written(self) -> Json:
        """What the model wrote, to be counted where the server does not."""
        calls = [[each.name, each.arguments.getvalue()] for each in self.calls]
        pieces = [self.text, *self.native.values(), *calls]
        return [each for each in pieces if each]


async def answer(
    server: Server,
    model: str,
    request: Request,
    *,
    translator: Translator,
    opening: Opening,
    on_delta: OnText,
) -> m.Reply:
    """Read an answer from the call that `opening` is."""
    called, draft = server.name(model), _Draft()
    patience = Patience.of(request)

    def charge(error: ModelError) -> m.Usage | None:
        has_begun = draft.has_begun or error.was_taken
        return _usage(server, model, request, draft) if has_begun else None

    with charged(charge):
        async with aclosing(events(called, translator, opening, patience, says)) as coming:
            async for event in coming:
                with parsing(called):
                    words = _take(draft, event, called)
                if words:
                    on_delta(words)
                if draft.finish is not None:
                    break  # some servers send an end without closing their stream
            if draft.finish is None:
                raise transport_failed(called, "ended its stream before the answer was complete")
            # The counts come after the end, in a chunk of their own.
            async for event in drain(coming, COUNTS_S):
                draft.counts = _counts(event) or draft.counts
        with parsing(called):
            return _reply(server, model, request, draft)


def says(event: dict[str, Json]) -> bool:
    """Whether an event says something: a delta that is not empty, or why there are no more."""
    if event.get("error") or event.get("x_groq"):
        return True
    choices = [each for each in event.get("choices") or () if isinstance(each, dict)]
    return any(
        each.get("finish_reason") or each.get("error") or _is_said(each.get("delta"))
        for each in choices
    )


def _is_said(value: Json) -> bool:
    """Whether there is a word in a delta, at any depth; its role and numbers are none."""
    if isinstance(value, dict):
        return any(_is_said(each) for key, each in value.items() if key not in ("role", "type"))
    if isinstance(value, list):
        return any(map(_is_said, value))
    return isinstance(value, str) and value != ""


def _take(draft: _Draft, event: dict[str, Json], called: str) -> str:
    """Add an event to the draft; return the words for the user in it."""
    draft.has_begun = draft.has_begun or bool(event.get("choices"))
    draft.id = event.get("id") or draft.id
    draft.counts = _counts(event) or draft.counts
    if early := (event.get("x_groq") or {}).get("error"):
        raise transport_failed(called, f"stopped its stream early: {early}")
    words = ""
    for choice in event.get("choices") or ():
        if choice.get("index"):
            continue  # a second answer, which a setting asked for: its calls are not this one's
        if choice.get("error"):
            raise rejected(called, choice["error"])
        words += _grow(draft, choice.get("delta") or {})
        draft.finish = choice.get("finish_reason") or draft.finish
    return words


def _grow(draft: _Draft, delta: dict[str, Json]) -> str:
    for name in REASONING:
        if delta.get(name):
            draft.thought.setdefault(name, StringIO()).write(delta[name])
    for detail in delta.get("reasoning_details") or ():
        _merge(draft.details, detail)
    for position, piece in enumerate(delta.get("tool_calls") or ()):
        _grow_call(draft.calls, piece.get("index", position), piece)
    words = delta.get("content") or ""
    words += delta.get("refusal") or ""
    draft.words.write(words)
    return words


def _grow_call(calls: list[_Call], index: int, piece: dict[str, Json]) -> None:
    """Add a piece of a call; what is neither name nor arguments is kept as it came.

    Some servers give every call the index 0: another id at the same index is another call.
    """
    id = piece.get("id")
    id = str(id) if isinstance(id, int) else id  # some servers number them
    known = next((each for each in reversed(calls) if each.index == index), None)
    if known is None or (known.id and id not in (None, "", known.id)):
        known = _Call(index)
        calls.append(known)
    function = piece.get("function") or {}
    known.id = id or known.id
    known.name = function.get("name") or known.name
    written = function.get("arguments") or ""
    known.arguments.write(written if isinstance(written, str) else json.dumps(written))
    kept = ("index", "id", "type", "function")
    known.native.update({k: v for k, v in piece.items() if k not in kept and v is not None})


def _merge(details: list[_Detail], piece: dict[str, Json]) -> None:
    """Add a piece of a reasoning block, which its index names, to the blocks so far."""
    if not (details and details[-1].fields.get("index") == piece.get("index") is not None):
        details.append(_Detail({}))
    fields, texts = details[-1].fields, details[-1].texts
    for key, value in piece.items():
        if key in ("text", "summary", "data") and isinstance(value, str):
            fields.setdefault(key, "")
            texts.setdefault(key, StringIO()).write(value)
        elif key not in texts or value is not None:
            texts.pop(key, None)
            fields[key] = value


def _counts(event: dict[str, Json]) -> dict[str, Json]:
    """Return what a server counted: in one of two places, in the last chunk or in each."""
    return prices.counts_in(event.get("usage") or (event.get("x_groq") or {}).get("usage"))


def _reply(server: Server, model: str, request: Request, draft: _Draft) -> m.Reply:
    parts: list[m.ReplyPart] = []
    if native := draft.native:
        summary = next((native[name] for name in draft.thought), "")
        parts.append(m.Thinking(summary, native=native))
    if words := draft.text:
        parts.append(m.Text(whole(words)))
    parts += [
        m.ToolCall.read(
            each.id or request.call_id(i),
            each.name,
            each.arguments.getvalue(),
            each.native or None,
        )
        for i, each in enumerate(sorted(draft.calls, key=lambda each: each.index))
    ]
    stop = _stop(server.name(model), draft)
    detail = draft.finish if stop is m.StopReason.REFUSAL else None
    if detail and not words:
        parts.append(m.Text(detail))
    usage = _usage(server, model, request, draft)
    kept = uncalled(parts, stop)
    return m.Reply(kept, stop, server.provider, model, usage, draft.id, detail=detail)


def _stop(called: str, draft: _Draft) -> m.StopReason:
    """Return why an answer stopped. Servers have words of their own for it, and many a gateway."""
    word = (draft.finish or "").lower()
    kind = word.partition(":")[0]  # Gemini's gateway says "content_filter: SAFETY"
    if kind in _CUT:
        return m.StopReason.LENGTH
    if kind in _FILTERED:
        return m.StopReason.REFUSAL
    if word == "model_context_window_exceeded":
        raise overflowed(called)
    if word not in _NATURAL:
        raise unknown_stop(called, draft.finish or "")
    return m.StopReason.TOOL_CALLS if draft.calls else m.StopReason.END


def _usage(server: Server, model: str, request: Request, draft: _Draft) -> m.Usage:
    """Return what the server counted, or else about as much."""
    counts = draft.counts
    reported = m.Usage(
        input_tokens=prices.number(counts, "prompt_tokens"),
        output_tokens=prices.number(counts, "completion_tokens"),
        cached_tokens=prices.number(counts, "prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=prices.number(counts, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=prices.number(counts, "completion_tokens_details", "reasoning_tokens"),
    )
    return prices.priced(
        prices.counted(reported, request, draft.written, server.prices),
        server.prices,
        model,
        address=server.address,
        billed=counts.get("cost"),  # a gateway such as OpenRouter says itself what it took
    )
