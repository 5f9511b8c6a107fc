"""Gemini's messages: a request as its API takes it, and a reply from the chunks of its stream.

Settings that are not fields of the request itself, such as ``temperature`` or ``thinkingConfig``,
are its ``generationConfig``.

Gemini 3 refuses a call of its history that bears no thought signature; one that another model made
is sent with the mark that Google documents for it, and so is not checked.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from substrate.models import prices
from substrate.models.mending import alternating, whole
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
from substrate.models.providers.answer_schema import in_words
from substrate.models.providers.failures import unknown_stop
from substrate.values.errors import ModelMistake

PROVIDER = "google"

UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature of a call that this model did not make."""

_UNCHECKED = re.compile(r"gemini-[12]\b")  # those before Gemini 3 ask for no signature
_OF_REQUEST = frozenset(
    {
        *("cachedContent", "generationConfig", "labels", "safetySettings", "serviceTier"),
        *("store", "toolConfig"),
    }
)
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


# What we say


def body(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools: list[Json] = []
    if request.tools:
        declared = [
            {
                "name": tool.name,
                "description": tool.description,
                "parametersJsonSchema": tool.parameters,
            }
            for tool in request.tools
        ]
        tools.append({"functionDeclarations": declared})
    tools += parameters.pop("tools", [])
    said = {key: value for key, value in parameters.items() if key in _OF_REQUEST}
    generation = {key: value for key, value in parameters.items() if key not in _OF_REQUEST}
    if request.max_output_tokens is not None:
        generation.setdefault("maxOutputTokens", request.max_output_tokens)
    if is_formatted := request.answer_schema is not None and not tools:
        generation["responseMimeType"] = "application/json"
        generation["responseJsonSchema"] = request.answer_schema
    said["generationConfig"] = {**said.get("generationConfig", {}), **generation}
    if system := request.system if is_formatted else in_words(request):
        said["systemInstruction"] = {"parts": [{"text": system}]}
    if tools:
        said["tools"] = tools
    if tools and not request.may_call_tools:
        calling = {"functionCallingConfig": {"mode": "NONE"}}
        said["toolConfig"] = {**said.get("toolConfig", {}), **calling}
    contents = alternating((_content(message, model) for message in request.messages), "parts")
    return {**said, "contents": contents}


def _content(message: Message, model: str) -> dict[str, Json]:
    match message:
        case UserMessage(parts):
            return {"role": "user", "parts": [_user_part(part) for part in parts]}
        case ToolMessage(results):
            return {"role": "user", "parts": [_result_part(result) for result in results]}
        case Reply(parts):
            own = message.made_by(PROVIDER, model)
            mark = {} if _UNCHECKED.match(model) else {"thoughtSignature": UNSIGNED}
            sent = (_own_part(part) if own else _foreign_part(part, mark) for part in parts)
            return {"role": "model", "parts": [part for part in sent if part]}


def _user_part(part: UserPart) -> dict[str, Json]:
    match part:
        case Text(text):
            return {"text": text}
        case Image(data, media_type) | Document(data, media_type):
            inline = {"mimeType": media_type, "data": b64encode(data).decode()}
            return {"inlineData": inline}


def _result_part(result: ToolResult) -> dict[str, Json]:
    """Return a result; the id goes along only where Gemini gave one, since ours mean nothing."""
    told = {"error": result.content} if result.is_error else {"output": result.content}
    named = {"name": portable(result.name), "response": told, **_id(result.call_id)}
    return {"functionResponse": named}


def _id(call_id: str) -> dict[str, str]:
    return {} if re.fullmatch(r"call_\d+_\d+", call_id) else {"id": call_id}


def _own_part(part: ReplyPart) -> dict[str, Json] | None:
    """Return a part as it came; without a record of that, as any model's."""
    native = part.native if isinstance(part.native, dict) else {}
    match part:
        case Text(text) if native:
            return {**native, "text": text}
        case Thinking(text):
            words = {"text": text} if native.get("thought") else {}
            is_said = text.strip() or native.keys() - {"thought"}  # an empty part is refused
            return {**native, **words} if is_said else None
        case ToolCall():  # of parallel calls only the first is signed
            return {**native, "functionCall": _function_call(part)}
    return {"text": part.text} if part.text else None


def _foreign_part(part: ReplyPart, mark: dict[str, str]) -> dict[str, Json] | None:
    match part:
        case Text(text):
            return {"text": text} if text else None
        case Thinking():
            return None
        case ToolCall():
            return {"functionCall": _function_call(part), **mark}


def _function_call(call: ToolCall) -> dict[str, Json]:
    return {"name": portable(call.name), "args": call.arguments, **_id(call.id)}


# What it says


@dataclass(slots=True)
class Draft:
    """One answer as far as its stream has come."""

    id: str | None = None
    parts: list[dict[str, Json]] = field(default_factory=list)
    counts: dict[str, Json] = field(default_factory=dict)
    finish: str | None = None
    message: str = ""
    blocked: str | None = None
    continuation: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the server has said why it stopped, or that it will not begin."""
        return self.finish is not None or self.blocked is not None

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.parts or self.counts or self.is_complete)

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
        for candidate in (chunk.get("candidates") or ())[:1]:
            self.finish = candidate.get("finishReason") or self.finish
            self.message = candidate.get("finishMessage") or self.message
            self.continuation = candidate.get("continuationToken") or self.continuation
            for part in (candidate.get("content") or {}).get("parts") or ():
                words += self._add(part)
        return words

    def _add(self, part: dict[str, Json]) -> str:
        """Add a part, joining words to the words before them; a signed part stays by itself."""
        last = self.parts[-1] if self.parts else {}
        both = (last, part)
        are_words = all("text" in each and each.keys() <= {"text", "thought"} for each in both)
        if are_words and last.get("thought") == part.get("thought"):
            self.parts[-1] = {**last, "text": last["text"] + part["text"]}
        elif "functionCall" in part and _is_unfinished(last.get("functionCall")):
            self.parts[-1] = {**last, "functionCall": _joined(last, part)}
        else:
            self.parts.append(part)
        return "" if part.get("thought") else str(part.get("text", ""))


def _is_unfinished(call: Json) -> bool:
    """Whether more pieces of a call are to come, as a setting of the request can ask for."""
    return isinstance(call, dict) and bool(call.get("willContinue"))


def _joined(last: dict[str, Json], part: dict[str, Json]) -> dict[str, Json]:
    """Return a call with one more of its pieces; the last piece does not say `willContinue`."""
    so_far, piece = last["functionCall"], part["functionCall"]
    pieces = [*(so_far.get("partialArgs") or ()), *(piece.get("partialArgs") or ())]
    goes_on = {"willContinue": bool(piece.get("willContinue"))}
    return {**so_far, **goes_on, "partialArgs": pieces}


def says(chunk: dict[str, Json]) -> bool:
    """Whether a chunk says something: a part that is not empty, or why there are no more."""
    if not chunk.keys() & {"candidates"}:
        return bool(chunk.keys() & {"promptFeedback", "error"})
    candidates = [each for each in chunk["candidates"] or () if isinstance(each, dict)]
    said = [
        value
        for candidate in candidates
        for part in (candidate.get("content") or {}).get("parts") or ()
        for key, value in part.items()
        if key != "thought"
    ]
    return any(said) or any(each.get("finishReason") for each in candidates)


def reply(model: str, request: Request, drafts: Sequence[Draft]) -> Reply:
    """Return the drafts of one answer as a reply.

    A call that Gemini could not read becomes one with malformed arguments, which the model is told
    of. Raises `ModelMistake` where nothing can be made of what it said, and `TransportFailed` where
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
        parts, stop = [*(part for part in parts if not _is_call(part)), call], StopReason.TOOL_CALLS
    if stop is StopReason.REFUSAL:
        detail = str(last.blocked or last.finish)
        if not any(map(_is_text, parts)):
            parts.append(Text(last.message or detail))
    used = usage(model, request, drafts)
    return Reply(uncalled(parts, stop), stop, PROVIDER, model, used, last.id, detail=detail)


def _parts(request: Request, drafts: Iterable[Draft]) -> list[ReplyPart]:
    raw = [part for draft in drafts for part in draft.parts]
    return [_part(request, position, part) for position, part in enumerate(raw)]


def _part(request: Request, position: int, part: dict[str, Json]) -> ReplyPart:
    """Return a part as ours; `native` holds what ours does not."""
    if "functionCall" in part:
        call = part["functionCall"]
        rest = {key: value for key, value in part.items() if key != "functionCall"} or None
        id = call.get("id") or request.call_id(position)
        if "partialArgs" in call or "willContinue" in call:
            # Its arguments came in pieces, at paths: called without them, it would do its defaults.
            pieces = f"arguments in pieces: {json.dumps(call, ensure_ascii=False)}"
            return ToolCall(id, call["name"], malformed=pieces, native=rest)
        arguments = call.get("args")
        written = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        return ToolCall.read(id, call["name"], written, native=rest)
    if "text" in part and not part.get("thought"):
        rest = {key: value for key, value in part.items() if key != "text"} or None
        return Text(whole(part["text"]), native=rest)
    rest = {key: value for key, value in part.items() if key != "text" or not part.get("thought")}
    return Thinking(part.get("text", "") if part.get("thought") else "", native=rest)


def _stop(model: str, draft: Draft, parts: Sequence[ReplyPart]) -> StopReason:
    if draft.blocked or draft.finish in _REFUSALS:
        return StopReason.REFUSAL
    if draft.finish == "MAX_TOKENS":
        return StopReason.LENGTH
    if draft.finish not in _NATURAL | _MISTAKES:
        raise unknown_stop(f"{PROVIDER}:{model}", str(draft.finish))
    return StopReason.TOOL_CALLS if any(map(_is_call, parts)) else StopReason.END


def _malformed(request: Request, draft: Draft, position: int) -> ToolCall | None:
    """Return the call that Gemini could not read, if it says which tool was meant."""
    named = _CALLED.search(draft.message)
    if draft.finish == "MALFORMED_FUNCTION_CALL" and named and request.may_call_tools:
        return ToolCall(
            request.call_id(position),
            named[1],
            malformed=draft.message,
            native={"thoughtSignature": UNSIGNED},
        )
    return None


def _is_call(part: ReplyPart) -> bool:
    return isinstance(part, ToolCall)


def _is_text(part: ReplyPart) -> bool:
    return isinstance(part, Text) and bool(part.text)


def usage(model: str, request: Request, drafts: Sequence[Draft]) -> Usage:
    """Return what the drafts of an answer used, as it was counted, or else about as much."""
    return reduce(add, (_usage(model, request, draft) for draft in drafts))


def _usage(model: str, request: Request, draft: Draft) -> Usage:
    thought = prices.number(draft.counts, "thoughtsTokenCount")
    read = ("promptTokenCount", "toolUsePromptTokenCount")
    told = Usage(
        input_tokens=sum(prices.number(draft.counts, name) for name in read),
        output_tokens=prices.number(draft.counts, "candidatesTokenCount") + thought,
        cached_tokens=prices.number(draft.counts, "cachedContentTokenCount"),
        reasoning_tokens=thought,
    )
    return prices.priced(prices.counted(told, request, draft.parts, PROVIDER), PROVIDER, model)
