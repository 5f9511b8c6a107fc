"""Anthropic's Messages API, as a judge of requests."""

import re
from base64 import b64decode

from substrate.models.pictures import size_of
from tests.strict.refused import Json, is_of_other, kind_of, refuse
from tests.strict.schemas import dangling, invalid

_ID = re.compile("[a-zA-Z0-9_-]+")
_NAME = re.compile("[a-zA-Z0-9_-]{1,128}")
_KEY = re.compile("[a-zA-Z0-9_.-]{1,64}")
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MOST = 5 * 1024 * 1024


def judge(body: Json, model: str) -> None:
    """Raise `Refused` for what the API answers 400."""
    for block in body.get("system") or ():
        refuse(not block["text"].strip(), "system: text content blocks must be non-empty")
    _judge_tools(body)
    messages = body["messages"]
    refuse(not messages, "messages: at least one message is required")
    refuse(messages[0]["role"] != "user", 'messages: first message must use the "user" role')
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1
        for at, block in enumerate(message["content"]):
            _judge_block(block, f"messages.{index}.content.{at}", model)
        refuse(
            not message["content"] and not (is_last and message["role"] == "assistant"),
            f"messages.{index}: all messages must have non-empty content except for the optional "
            "final assistant message",
        )
        if message["role"] == "assistant":
            _judge_reply(message["content"], index, is_last=is_last)
    _judge_pairs(messages)
    _judge_thinking(body)
    _judge_pictures(messages)
    uses = [b for m in messages for b in m["content"] if b["type"] in ("tool_use", "tool_result")]
    refuse(
        uses and not body.get("tools"),
        "Requests which have `tool_use` or `tool_result` blocks in messages must define tools",
    )


def _judge_tools(body: Json) -> None:
    names: list[str] = []
    for index, tool in enumerate(body.get("tools") or ()):
        if "input_schema" not in tool:
            continue  # one of the provider's own
        where = f"tools.{index}.custom"
        pattern = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
        refuse(not _NAME.fullmatch(tool["name"]), f"{where}.name: {pattern}")
        names.append(tool["name"])
        schema = tool["input_schema"]
        refuse(
            schema.get("type") != "object", f"{where}.input_schema.type: Input should be 'object'"
        )
        refuse(
            {"oneOf", "allOf", "anyOf"} & schema.keys(),
            f"{where}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the "
            "top level",
        )
        refuse(
            invalid(schema) or dangling(schema),
            f"{where}.input_schema: JSON schema is invalid. It must match JSON Schema draft "
            "2020-12 (https://json-schema.org/draft/2020-12).",
        )
        refuse(
            not all(map(_KEY.fullmatch, schema.get("properties", {}))),
            f"{where}.input_schema.properties: Property keys should match pattern "
            "'^[a-zA-Z0-9_.-]{1,64}$'",
        )
    refuse(len(names) != len(set(names)), "tools: Tool names must be unique.")


def _judge_block(block: Json, where: str, model: str) -> None:
    refuse("type" not in block, f"{where}.type: Field required")
    match block["type"]:
        case "text":
            blank = "messages: text content blocks must contain non-whitespace text"
            refuse(not block["text"].strip(), blank)
        case "tool_use":
            pattern = "String should match pattern '^[a-zA-Z0-9_-]+$'"
            refuse(not _ID.fullmatch(block["id"]), f"{where}.tool_use.id: {pattern}")
            refuse(not _NAME.fullmatch(block["name"]), f"{where}.tool_use.name: {pattern}")
            refuse(
                not isinstance(block["input"], dict),
                f"{where}.tool_use.input: Input should be a valid dictionary",
            )
        case "thinking":
            refuse(not block.get("signature"), f"{where}.thinking.signature: Field required")
            invalid_one = f"{where}: Invalid `signature` in `thinking` block"
            refuse(is_of_other(block["signature"], model), invalid_one)
        case "image":
            _judge_picture(block["source"], f"{where}.image.source.base64")
        case "document":
            source = block["source"]
            kinds = {"base64": "application/pdf", "text": "text/plain"}
            wanted = kinds[source["type"]]
            refuse(
                source["media_type"] != wanted,
                f"{where}.document.source.{source['type']}.media_type: Input should be '{wanted}'",
            )
            refuse(not source["data"], f"{where}.document.source: data cannot be empty")
        case "tool_result" | "redacted_thinking" | "server_tool_use" | "mcp_tool_use":
            return
        case kind:
            known = kind.endswith("_tool_result") or kind == "container_upload"
            refuse(not known, f"{where}: Input tag '{kind}' found using 'type' does not match")


def _judge_picture(source: Json, where: str) -> None:
    kinds = ", ".join(f"'{each}'" for each in _PICTURES)
    refuse(
        source["media_type"] not in _PICTURES, f"{where}.media_type: Input should be one of {kinds}"
    )
    refuse(not source["data"], f"{where}: image cannot be empty")
    length = len(source["data"])
    refuse(length > _MOST, f"{where}: image exceeds 5 MB maximum: {length} bytes > {_MOST} bytes")
    data = b64decode(source["data"])
    kind = kind_of(data)
    refuse(
        kind not in (None, source["media_type"]),
        f"{where}: The image was specified using the {source['media_type']} media type, but the "
        f"image appears to be a {kind} image",
    )
    refuse(
        max(size_of(data) or (0, 0)) > 8000,
        f"{where}.data: At least one of the image dimensions exceed max allowed size: 8000 pixels",
    )


def _judge_pictures(messages: list[Json]) -> None:
    count = sum(block["type"] == "image" for each in messages for block in each["content"])
    refuse(count > 100, f"messages: too many images: {count} > 100")


def _judge_reply(content: list[Json], index: int, *, is_last: bool) -> None:
    asked = {
        b["id"]: b["name"] for b in content if b["type"] in ("server_tool_use", "mcp_tool_use")
    }
    found = {b["tool_use_id"] for b in content if b["type"].endswith("_tool_result")}
    # A turn that paused in the middle of a search goes back as the last message.
    is_paused = is_last and bool(asked)
    refuse(
        is_last and not is_paused,
        "This model does not support assistant message prefill. The conversation must end with a "
        "user message.",
    )
    for id in asked.keys() - found if not is_paused else ():
        refuse(
            id,
            f"messages.{index}: `{asked[id]}` tool use with id `{id}` was found without a "
            f"corresponding `{asked[id]}_tool_result` block",
        )
    refuse(found - asked.keys(), f"messages.{index}: unexpected `tool_use_id` in a tool result")
    refuse(
        content and "thinking" in content[-1]["type"],
        f"messages.{index}: The final block in an assistant message cannot be `thinking`.",
    )


def _judge_pairs(messages: list[Json]) -> None:
    ids: list[str] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        content = message["content"]
        results = [each["tool_use_id"] for each in content if each["type"] == "tool_result"]
        odd = sorted(set(results) - set(waiting))
        refuse(
            odd,
            f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: "
            f"{', '.join(odd)}. Each `tool_result` block must have a corresponding `tool_use` "
            "block in the previous message.",
        )
        first = [each["type"] for each in content[: len(set(results))]]
        missing = [each for each in waiting if each not in results]
        refuse(
            missing or set(first) - {"tool_result"},
            f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(missing or waiting)}. Each `tool_use` block must have "
            "a corresponding `tool_result` block in the next message.",
        )
        refuse(len(results) != len(set(results)), f"messages.{index}: each tool_use must have one")
        waiting = [each["id"] for each in content if each["type"] == "tool_use"]
        ids += waiting
        refuse(
            len(ids) != len(set(ids)), f"messages.{index}.content: `tool_use` ids must be unique"
        )
    refuse(waiting, "messages: `tool_use` ids were found without `tool_result` blocks")


def _judge_thinking(body: Json) -> None:
    if body.get("thinking", {}).get("type") != "enabled":
        return
    goes_on = any(each["type"] == "tool_result" for each in body["messages"][-1]["content"])
    replies = [each["content"] for each in body["messages"] if each["role"] == "assistant"]
    kind = replies[-1][0]["type"] if goes_on and replies else "thinking"
    refuse(
        "thinking" not in kind,
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
        f"`{kind}`. When `thinking` is enabled, a final `assistant` message must start with a "
        "thinking block",
    )
