"""OpenAI's Responses API, over its own SDK.

Nothing is stored at the provider (``store`` is false): each request says everything, and reasoning
travels with it, encrypted. Requests that begin alike name their cache alike. A model that does not
reason refuses to be asked for it: then it is asked again without, and so from then on.

Invariants: an answer counts only when the event that ends it has come. A reasoning item goes back
as it came, byte for byte, in its place among the others, to the model that wrote it and no other;
it is taken from the event that completes the item, since the same reasoning is encrypted anew in
every event. Calls and results are linked by ``call_id``.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    OpenAIError,
    Timeout,
)

from substrate.models import prices
from substrate.models.mending import whole
from substrate.models.messages import (
    Document,
    Image,
    Json,
    Message,
    OnText,
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
from substrate.models.providers.address import Address
from substrate.models.providers.answer_schema import named
from substrate.models.providers.failures import Sdk, broken, parsing, rejected, unknown_stop
from substrate.models.providers.stream import Patience, charged, events, finish
from substrate.values.codec import encode
from substrate.values.errors import BadRequest, ModelError

PROVIDER = "openai"

ENCRYPTED = "reasoning.encrypted_content"
"""What is asked for beside the answer, so that reasoning can be sent back."""

_PLAIN = re.compile(r"(ft:)?(gpt-(3|4)|chatgpt-4o)")  # those that do not reason
_INCLUDE = re.compile(r"encrypted.{0,9}content|[\"']include\b", re.IGNORECASE)

_SDK = Sdk(
    status=APIStatusError,
    connection=APIConnectionError,
    api=APIError,
    sdk=OpenAIError,
    transport=httpx2.HTTPError,
)


def connect(address: Address) -> "OpenAI":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    try:
        return OpenAI(AsyncOpenAI(api_key=address.key, base_url=address.base_url, max_retries=0))
    except (OpenAIError, httpx2.InvalidURL) as error:
        raise BadRequest(f"{PROVIDER}: {error}; check OPENAI_BASE_URL and the key") from error


class OpenAI:
    """The adapter: one client, its connections, and which models cannot hand reasoning out."""

    __slots__ = ("_client", "_without_reasoning")

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._without_reasoning: set[str] = set()

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once; once more where a model turns out not to reason."""
        body = _body(model, request)
        if model in self._without_reasoning:
            body = _without_reasoning(body)
        try:
            return await self._answer(model, request, body, on_delta)
        except BadRequest as error:
            if ENCRYPTED not in body.get("include", ()) or not _INCLUDE.search(error.body or ""):
                raise
        self._without_reasoning.add(model)
        return await self._answer(model, request, _without_reasoning(body), on_delta)

    async def _answer(
        self, model: str, request: Request, body: dict[str, Json], on_delta: OnText
    ) -> Reply:
        called = f"{PROVIDER}:{model}"
        timeout_s = request.read_timeout_s
        opening = self._client.post(
            "/responses",
            cast_to=object,
            body=body,
            options={
                "timeout": Timeout(timeout_s, connect=min(timeout_s, 10)),
                "follow_redirects": False,
            },
            stream=True,
            stream_cls=AsyncStream[object],
        )
        draft, patience = _Draft(), Patience.of(request)

        def charge() -> Usage | None:
            return _usage(model, request, draft) if draft.has_begun else None

        with charged(charge):
            async with aclosing(events(called, _SDK, opening, patience, _says)) as coming:
                async for event in coming:
                    with parsing(called):
                        words = _take(draft, event)
                    if words:
                        on_delta(words)
                    if event.get("type") == "error":
                        raise rejected(called, event)
                    if event.get("type") in _ENDS:
                        await finish(coming)
                        with parsing(called):
                            return _reply(model, request, draft)
            raise broken(called, "ended its stream before the answer was complete")


# What we say


def _body(model: str, request: Request) -> dict[str, Json]:
    """Return the request as the API takes it."""
    parameters = request.parameters
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,  # strict schemas forbid optional arguments
        }
        for tool in request.tools
    ]
    tools += parameters.pop("tools", [])
    ours = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message, model)],
        "store": False,
        "stream": True,
    }
    if request.max_output_tokens is not None:
        ours["max_output_tokens"] = request.max_output_tokens
    choice = "none" if tools and not request.may_call_tools else ""
    text = parameters.pop("text", {})
    if request.answer_schema is not None:
        text = {**text, "format": {"type": "json_schema", **named(request.answer_schema)}}
    said = {
        "text": text,
        "instructions": request.system,
        "tools": tools,
        "tool_choice": choice,
        "include": _included(model, parameters.pop("include", None)),
    }
    parameters.setdefault("prompt_cache_key", _prefix(request))
    return {**parameters, **ours, **{key: value for key, value in said.items() if value}}


def _included(model: str, theirs: Sequence[str] | None) -> list[str]:
    """Return what is asked for beside the answer; a setting of nothing at all is what it says."""
    if (theirs is not None and not theirs) or _PLAIN.match(model):
        return list(theirs or ())
    return [*(each for each in theirs or () if each != ENCRYPTED), ENCRYPTED]


def _without_reasoning(body: Mapping[str, Json]) -> dict[str, Json]:
    included = [each for each in body.get("include", ()) if each != ENCRYPTED]
    rest = {key: value for key, value in body.items() if key != "include"}
    return {**rest, "include": included} if included else rest


def _prefix(request: Request) -> str:
    """Return a name for what all requests of an agent begin with: they go where it is cached."""
    tools = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
    return sha256(encode([request.system, tools]).encode()).hexdigest()[:32]


def _items(message: Message, model: str) -> list[dict[str, Json]]:
    match message:
        case UserMessage(parts):
            return [{"role": "user", "content": [_user_part(part) for part in parts]}]
        case ToolMessage(results):
            return [_result_item(result) for result in results]
        case Reply(parts):
            # The rest of a reply is refused without its reasoning, unless it is sent as anybody's.
            own = message.made_by(PROVIDER, model) and not any(map(_is_sealed, parts))
            items = [item for part in parts if (item := _reply_item(part, own=own))]
            while items and items[-1].get("type") == "reasoning":
                items.pop()  # the API refuses reasoning that nothing follows
            return items


def _is_sealed(part: ReplyPart) -> bool:
    """Whether a part is reasoning without its content, which is kept where we keep nothing."""
    native = part.native if isinstance(part, Thinking) and isinstance(part.native, dict) else {}
    return native.get("type") == "reasoning" and not native.get("encrypted_content")


def _user_part(part: UserPart) -> dict[str, Json]:
    match part:
        case Text(text):
            return {"type": "input_text", "text": text}
        case Image(data, media_type):
            url = _data_url(data, media_type)
            return {"type": "input_image", "detail": "auto", "image_url": url}
        case Document(data, media_type, title):
            return {
                "type": "input_file",
                "filename": title or f"document.{media_type.rpartition('/')[2]}",
                "file_data": _data_url(data, media_type),
            }


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _result_item(result: ToolResult) -> dict[str, Json]:
    call_id = portable(result.call_id)
    return {"type": "function_call_output", "call_id": call_id, "output": result.content}


def _reply_item(part: ReplyPart, *, own: bool) -> dict[str, Json] | None:
    """Return a part of an earlier reply, or None for what this model must not be told."""
    native = part.native if own and part.native else {}
    match part:
        case Text(text) if native:
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {**native, "content": content}
        case Text(text):
            return {"role": "assistant", "content": text} if text else None
        case Thinking():
            return native or None
        case ToolCall(id, name, arguments):
            written = json.dumps(arguments, ensure_ascii=False)  # as a model writes
            call = {"type": "function_call", "call_id": portable(id), "name": portable(name)}
            ended = {"status": "completed"} if "status" in native else {}
            return {**native, **call, **ended, "arguments": written}


# What it says


_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_IDLE = frozenset({"response.in_progress", "response.queued", "keepalive", "ping"})


@dataclass(slots=True)
class _Draft:
    """One answer as far as its stream has come: each item as it was when it was complete."""

    done: dict[str, dict[str, Json]] = field(default_factory=dict)
    response: dict[str, Json] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    has_begun: bool = False


def _says(event: dict[str, Json]) -> bool:
    """Whether an event says something: not that it is still at work, nor a delta of nothing."""
    kind = str(event.get("type", ""))
    return bool(event.get("delta")) if kind.endswith(".delta") else kind not in _IDLE


def _take(draft: _Draft, event: dict[str, Json]) -> str:
    """Add an event to the draft; return the words for the user in it."""
    kind = str(event.get("type", ""))
    draft.has_begun = draft.has_begun or kind.startswith("response.")
    delta = event.get("delta")
    if isinstance(delta, str):
        draft.written.append(delta)
    if kind == "response.output_item.done":
        draft.done[event["item"].get("id", "")] = event["item"]
    if kind in _ENDS:
        draft.response = event["response"]
    is_for_user = kind in ("response.output_text.delta", "response.refusal.delta")
    return str(delta or "") if is_for_user else ""


def _reply(model: str, request: Request, draft: _Draft) -> Reply:
    """Return an ended response as a reply, with each item as it was when it was complete."""
    response, called = draft.response, f"{PROVIDER}:{model}"
    unfinished = _unfinished(response)
    is_failed = response.get("status") in ("failed", "cancelled")
    if response.get("error") or (is_failed and unfinished != "content_filter"):
        raise _failed(called, response)
    last = response.get("output") or list(draft.done.values())
    items = [draft.done.get(item.get("id"), item) for item in last]
    stop = _stop(called, response, items)
    parts = [_part(item) for item in items]
    detail = (unfinished or "refusal") if stop is StopReason.REFUSAL else None
    if detail and not any(isinstance(part, Text) and part.text for part in parts):
        parts.append(Text(detail))
    usage = _usage(model, request, draft)
    said = uncalled(parts, stop)
    return Reply(said, stop, PROVIDER, model, usage, response.get("id"), detail=detail)


def _unfinished(response: dict[str, Json]) -> str | None:
    reason = (response.get("incomplete_details") or {}).get("reason")
    return None if reason is None else str(reason)


def _failed(called: str, response: dict[str, Json]) -> ModelError:
    """Return the error for a response that failed; some servers do not say of what."""
    if error := response.get("error"):
        return rejected(called, error)
    why = _unfinished(response) or "no reason"
    return broken(called, f"ended as {response.get('status')!r} and gave {why}")


_UNFINISHED = ("incomplete", "in_progress")
"""What a call says of itself that is not whole: its arguments may be missing."""


def _stop(called: str, response: dict[str, Json], items: list[dict[str, Json]]) -> StopReason:
    unfinished = _unfinished(response)
    said = [each["type"] for item in items for each in item.get("content") or ()]
    if unfinished == "content_filter" or "refusal" in said:
        return StopReason.REFUSAL
    if unfinished in ("max_output_tokens", "max_tokens", "length"):
        return StopReason.LENGTH
    if unfinished is not None:
        raise unknown_stop(called, unfinished)
    status = response.get("status")
    calls = [item for item in items if item["type"] == "function_call"]
    if status == "incomplete" or any(each.get("status") in _UNFINISHED for each in calls):
        return StopReason.LENGTH
    if status not in (None, "completed"):
        raise unknown_stop(called, status)
    return StopReason.TOOL_CALLS if calls else StopReason.END


def _part(item: dict[str, Json]) -> ReplyPart:
    """Return an output item as a part; `native` holds what the part itself does not."""
    match item["type"]:
        case "message":
            content = item.get("content") or ()
            words = "".join(each.get("text", each.get("refusal", "")) for each in content)
            return Text(whole(words), native={k: v for k, v in item.items() if k != "content"})
        case "reasoning":
            summary = item.get("summary") or ()
            return Thinking("\n\n".join(each["text"] for each in summary), native=item)
        case "function_call":
            own = ("type", "call_id", "name", "arguments")
            native = {k: v for k, v in item.items() if k not in own}
            return ToolCall.read(item["call_id"], item["name"], item.get("arguments") or "", native)
    return Thinking("", native=item)


def _usage(model: str, request: Request, draft: _Draft) -> Usage:
    """Return what was counted, or else about as much."""
    counts = draft.response.get("usage")
    told = Usage(
        input_tokens=prices.number(counts, "input_tokens"),
        output_tokens=prices.number(counts, "output_tokens"),
        cached_tokens=prices.number(counts, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=prices.number(counts, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=prices.number(counts, "output_tokens_details", "reasoning_tokens"),
    )
    said = draft.response.get("output") or list(draft.done.values()) or draft.written
    usage = prices.counted(told, request, said, PROVIDER)
    return prices.priced(usage, PROVIDER, model, draft.response.get("service_tier"))
