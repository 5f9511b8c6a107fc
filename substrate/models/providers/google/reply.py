"""A reply from the chunks of Gemini's stream.

Invariants: a part that carries a thought signature keeps it in `native`, in its place. A chunk
takes the same time however much has come before it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from io import StringIO
from operator import add

from substrate.models import messages as m
from substrate.models import prices
from substrate.models.mending.takes import UNSIGNED
from substrate.models.parts import Json
from substrate.models.providers.failures import unknown_stop
from substrate.models.providers.unfinished import uncalled
from substrate.models.request import Request
from substrate.values.errors import ModelMistake
from substrate.values.whole_text import whole

PROVIDER = "google"

_NATURAL = frozenset({"STOP", "FUNCTION_CALL", "TOOL_CALLS"})  # some servers have their own word
_REFUSALS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"),
        *("ESCALATION", "PUP_LIMITED_DISABLED"),
    }
)
_MISTAKES = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
        *("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"),
    }
)
_CALLED = re.compile(r"(?:default_api[.:]|call:)(?:default_api:)?(\w[\w.-]*)")


@dataclass(slots=True)
class Draft:
    """One answer as far as its stream has come."""

    id: str | None = None
    #: As they came, words joined to the words before them; the last one's are in `words`.
    begun: list[dict[str, Json]] = field(default_factory=list)
    #: Those of the last part, where it has more than it began with.
    words: StringIO | None = None
    #: The API's counts, the latest of each.
    counts: dict[str, Json] = field(default_factory=dict)
    #: Why it stopped, in the API's word.
    finish: str | None = None
    #: What the API adds to that in prose: also the call that it could not read.
    message: str = ""
    #: Why the prompt was refused, so that nothing was written.
    blocked: str | None = None
    #: What goes back for the rest of an answer that the server has cut.
    continuation: str | None = None

    @property
    def parts(self) -> list[dict[str, Json]]:
        """Its parts so far."""
        if self.words is not None:
            self.begun[-1] = {**self.begun[-1], "text": self.words.getvalue()}
            self.words = None
        return self.begun

    @property
    def is_complete(self) -> bool:
        """Whether the server has said why it stopped, or that it will not begin."""
        return self.finish is not None or self.blocked is not None

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.begun or self.counts or self.is_complete)

    def take(self, chunk: dict[str, Json]) -> str:
        """Add a chunk; return the words for the user in it."""
        if not ({"candidates", "promptFeedback", "usageMetadata"} & chunk.keys()):
            raise ValueError(f"a chunk with only {sorted(chunk)}")
        self.id = chunk.get("responseId") or self.id
        self.counts.update(prices.counts_in(chunk.get("usageMetadata")))  # cumulative
        feedback = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason"):
            self.blocked = feedback["blockReason"]
            self.message = feedback.get("blockReasonMessage") or ""
        words = ""
        for candidate in (chunk.get("candidates") or ())[:1]:  # a setting may ask for several
            self.finish = candidate.get("finishReason") or self.finish
            self.message = candidate.get("finishMessage") or self.message
            self.continuation = candidate.get("continuationToken") or self.continuation
            for part in (candidate.get("content") or {}).get("parts") or ():
                words += self._add(part)
        return words

    def _add(self, part: dict[str, Json]) -> str:
        """Add a part, joining words to the words before them; a signed part stays by itself."""
        last = self.begun[-1] if self.begun else {}
        both = (last, part)
        are_words = all("text" in each and each.keys() <= {"text", "thought"} for each in both)
        if are_words and last.get("thought") == part.get("thought"):
            if self.words is None:
                self.words = StringIO()
                self.words.write(last["text"])
            self.words.write(part["text"])
        elif "functionCall" in part and _is_unfinished(last.get("functionCall")):
            self.begun[-1] = {**last, "functionCall": _joined(last, part)}
        else:
            self.parts.append(part)
        return "" if part.get("thought") else str(part.get("text", ""))


def _is_unfinished(call: Json) -> bool:
    """Whether more pieces of a call are to come, as a setting of the request can ask for."""
    return isinstance(call, dict) and bool(call.get("willContinue"))


def _joined(last: dict[str, Json], part: dict[str, Json]) -> dict[str, Json]:
    """Return a call with one more of its pieces; the last piece does not say `willContinue`."""
    so_far, piece = last["functionCall"], part["functionCall"]
    pieces = so_far.get("partialArgs") or []  # it is this draft's own, and grows in its place
    pieces.extend(piece.get("partialArgs") or ())
    goes_on = {"willContinue": bool(piece.get("willContinue"))}
    return {**so_far, **goes_on, "partialArgs": pieces}


def says(chunk: dict[str, Json]) -> bool:
    """Whether a chunk says something: a part that is not empty, or why there are no more."""
    if not chunk.keys() & {"candidates"}:
        return bool(chunk.keys() & {"promptFeedback", "error"})
    candidates = [each for each in chunk["candidates"] or () if isinstance(each, dict)]
    values = [
        value
        for candidate in candidates
        for part in (candidate.get("content") or {}).get("parts") or ()
        for key, value in part.items()
        if key != "thought"
    ]
    return any(values) or any(each.get("finishReason") for each in candidates)


def reply(model: str, request: Request, drafts: Sequence[Draft]) -> m.Reply:
    """Return the drafts of one answer as a reply.

    A call that Gemini could not read becomes one with malformed arguments, which the loop answers.
    Raises `ModelMistake` where it holds no call, and `TransportFailed` where
    it stopped for a reason that nobody knows to end an answer.
    """
    last, parts = drafts[-1], _parts(request, drafts)
    stop, detail = _stop(model, last, parts), None
    if last.finish in _MISTAKES:
        call = _malformed(request, last, len(parts))
        if call is None:
            raise ModelMistake(
                f"{PROVIDER}:{model} stopped with {last.finish}: {last.message or 'no message'}; "
                "tell the model what was wrong, or ask again"
            )
        parts, stop = (
            [*(part for part in parts if not _is_call(part)), call],
            m.StopReason.TOOL_CALLS,
        )
    if stop is m.StopReason.REFUSAL:
        detail = str(last.blocked or last.finish)
        if not any(map(_is_text, parts)):
            parts.append(m.Text(last.message or detail))
    used = usage(model, request, drafts)
    return m.Reply(uncalled(parts, stop), stop, PROVIDER, model, used, last.id, detail=detail)


def _parts(request: Request, drafts: Iterable[Draft]) -> list[m.ReplyPart]:
    raw = [part for draft in drafts for part in draft.parts]
    return [_part(request, position, part) for position, part in enumerate(raw)]


def _part(request: Request, position: int, part: dict[str, Json]) -> m.ReplyPart:
    """Return a part as ours; `native` holds what ours does not."""
    if "functionCall" in part:
        call = part["functionCall"]
        rest = {key: value for key, value in part.items() if key != "functionCall"} or None
        id = call.get("id") or request.call_id(position)
        if "partialArgs" in call or "willContinue" in call:
            # Its arguments came in pieces, at paths: called without them, it would do its defaults.
            pieces = f"arguments in pieces: {json.dumps(call, ensure_ascii=False)}"
            return m.ToolCall(id, call["name"], malformed=pieces, native=rest)
        arguments = call.get("args")
        written = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        return m.ToolCall.read(id, call["name"], written, native=rest)
    if "text" in part and not part.get("thought"):
        rest = {key: value for key, value in part.items() if key != "text"} or None
        return m.Text(whole(part["text"]), native=rest)
    rest = {key: value for key, value in part.items() if key != "text" or not part.get("thought")}
    return m.Thinking(part.get("text", "") if part.get("thought") else "", native=rest)


def _stop(model: str, draft: Draft, parts: Sequence[m.ReplyPart]) -> m.StopReason:
    if draft.blocked or draft.finish in _REFUSALS:
        return m.StopReason.REFUSAL
    if draft.finish == "MAX_TOKENS":
        return m.StopReason.LENGTH
    if draft.finish not in _NATURAL | _MISTAKES:
        raise unknown_stop(f"{PROVIDER}:{model}", str(draft.finish))
    return m.StopReason.TOOL_CALLS if any(map(_is_call, parts)) else m.StopReason.END


def _malformed(request: Request, draft: Draft, position: int) -> m.ToolCall | None:
    """Return the call that Gemini could not read, if it says which tool was meant."""
    named = _CALLED.search(draft.message)
    if draft.finish == "MALFORMED_FUNCTION_CALL" and named and request.may_call_tools:
        return m.ToolCall(
            request.call_id(position),
            named[1],
            malformed=draft.message,
            native={"thoughtSignature": UNSIGNED},
        )
    return None


def _is_call(part: m.ReplyPart) -> bool:
    return isinstance(part, m.ToolCall)


def _is_text(part: m.ReplyPart) -> bool:
    return isinstance(part, m.Text) and bool(part.text)


def usage(model: str, request: Request, drafts: Sequence[Draft]) -> m.Usage:
    """Return what the drafts of an answer used, as it was counted, or else about as much."""
    return reduce(add, (_usage(model, request, draft) for draft in drafts))


def _usage(model: str, request: Request, draft: Draft) -> m.Usage:
    thought = prices.number(draft.counts, "thoughtsTokenCount")
    read = ("promptTokenCount", "toolUsePromptTokenCount")
    reported = m.Usage(
        input_tokens=sum(prices.number(draft.counts, name) for name in read),
        output_tokens=prices.number(draft.counts, "candidatesTokenCount") + thought,
        cached_tokens=prices.number(draft.counts, "cachedContentTokenCount"),
        reasoning_tokens=thought,
    )
    return prices.priced(prices.counted(reported, request, draft.parts, PROVIDER), PROVIDER, model)
