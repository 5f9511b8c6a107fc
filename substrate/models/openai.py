"""OpenAI's Responses API, over its own SDK.

Nothing is stored at the provider (``store`` is false): each request says everything, and reasoning
travels with it, encrypted. Requests that begin alike name their cache alike.

Invariants: an answer counts only when the event that ends it has come. A reasoning item goes back
as it came, byte for byte, in its place among the others, to the model that wrote it and no other;
it is taken from the event that completes the item, since the same reasoning is encrypted anew in
every event. Calls and results are linked by ``call_id``.
"""

import json
from base64 import b64encode
from contextlib import aclosing
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
from substrate.models.address import Address
from substrate.models.answer_schema import named
from substrate.models.failures import Sdk, broken, rejected, sensible
from substrate.models.messages import (
    Delta,
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
from substrate.models.stream import events, finish
from substrate.values.codec import encode
from substrate.values.errors import BadRequest

PROVIDER = "openai"

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
    """The adapter: one client and its connections."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def answer(self, model: str, request: Request, on_delta: Delta) -> Reply:
        """Ask once."""
        called = f"{PROVIDER}:{model}"
        timeout_s = request.read_timeout_s
        opening = self._client.post(
            "/responses",
            cast_to=object,
            body=_body(model, request),
            options={"timeout": Timeout(timeout_s, connect=min(timeout_s, 10))},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        done: dict[str, dict[str, Json]] = {}
        async with aclosing(events(called, _SDK, opening)) as coming:
            async for event in coming:
                match event.get("type"):
                    case "response.output_text.delta" | "response.refusal.delta":
                        on_delta(str(event.get("delta", "")))
                    case "response.output_item.done":
                        with sensible(called):
                            done[event["item"].get("id", "")] = event["item"]
                    case "response.completed" | "response.incomplete" | "response.failed":
                        await finish(coming)
                        with sensible(called):
                            return _reply(model, event["response"], done)
                    case "error":
                        raise rejected(called, event)
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
        "max_output_tokens": request.max_output_tokens,
        "store": False,
        "stream": True,
    }
    included = [*parameters.pop("include", []), "reasoning.encrypted_content"]
    choice = "none" if tools and not request.may_call_tools else ""
    text = parameters.pop("text", {})
    if request.answer_schema is not None:
        text = {**text, "format": {"type": "json_schema", **named(request.answer_schema)}}
    said = {
        "text": text,
        "instructions": request.system,
        "tools": tools,
        "tool_choice": choice,
        "include": included,
    }
    parameters.setdefault("prompt_cache_key", _prefix(request))
    return {**parameters, **ours, **{key: value for key, value in said.items() if value}}


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
            own = message.made_by(PROVIDER, model)
            items = [item for part in parts if (item := _reply_item(part, own=own))]
            while items and items[-1].get("type") == "reasoning":
                items.pop()  # the API refuses reasoning that nothing follows
            return items


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
        case ToolCall(id, name, arguments, malformed):
            written = json.dumps(arguments) if malformed is None else malformed
            call = {"type": "function_call", "call_id": portable(id), "name": portable(name)}
            return {**native, **call, "arguments": written}


# What it says


def _reply(model: str, response: dict[str, Json], done: dict[str, dict[str, Json]]) -> Reply:
    """Return an ended response as a reply, with each item as it was when it was complete."""
    if response.get("error") or response.get("status") == "failed":
        raise rejected(f"{PROVIDER}:{model}", response.get("error") or response)
    last = response.get("output") or list(done.values())
    items = [done.get(item.get("id"), item) for item in last]
    return Reply(
        tuple(_part(item) for item in items),
        _stop(response, items),
        PROVIDER,
        model,
        _usage(model, response),
        response.get("id"),
    )


def _stop(response: dict[str, Json], items: list[dict[str, Json]]) -> StopReason:
    unfinished = (response.get("incomplete_details") or {}).get("reason")
    said = [each["type"] for item in items for each in item.get("content") or ()]
    if unfinished == "content_filter" or "refusal" in said:
        return StopReason.REFUSAL
    if unfinished or response.get("status") == "incomplete":
        return StopReason.LENGTH
    calls = any(item["type"] == "function_call" for item in items)
    return StopReason.TOOL_CALLS if calls else StopReason.END


def _part(item: dict[str, Json]) -> ReplyPart:
    """Return an output item as a part; `native` holds what the part itself does not."""
    match item["type"]:
        case "message":
            words = (each.get("text", each.get("refusal", "")) for each in item["content"])
            return Text("".join(words), native={k: v for k, v in item.items() if k != "content"})
        case "reasoning":
            return Thinking("\n\n".join(each["text"] for each in item["summary"]), native=item)
        case "function_call":
            own = ("type", "call_id", "name", "arguments")
            native = {k: v for k, v in item.items() if k not in own}
            return ToolCall.read(item["call_id"], item["name"], item["arguments"], native)
    return Thinking("", native=item)


def _usage(model: str, response: dict[str, Json]) -> Usage:
    counts = response.get("usage") or {}
    given = counts.get("input_tokens_details") or {}
    written = counts.get("output_tokens_details") or {}
    usage = Usage(
        input_tokens=counts.get("input_tokens", 0),
        output_tokens=counts.get("output_tokens", 0),
        cached_tokens=given.get("cached_tokens") or 0,
        cache_write_tokens=given.get("cache_write_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )
    return prices.priced(usage, PROVIDER, model, response.get("service_tier"))
