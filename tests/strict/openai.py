"""OpenAI's Responses API, as a judge of requests."""

import json
import re

from tests.strict.refused import Json, is_of_other, of_data_url, refuse, too_long
from tests.strict.schemas import problem_of_openai

_NAME = re.compile("[a-zA-Z0-9_-]+")
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def judge(body: Json, model: str) -> None:
    """Raise `Refused` for what the API answers 400."""
    _judge_tools(body)
    items = body["input"]
    refuse(not items, "Invalid 'input': empty array. Expected an array with minimum length 1.")
    called: set[str] = set()
    answered: set[str] = set()
    pictures = 0
    for index, (item, following) in enumerate(zip(items, [*items[1:], {}], strict=True)):
        where = f"input[{index}]"
        match item.get("type"):
            case "function_call":
                _judge_call(item, where)
                twice = f"Duplicate function call with call_id '{item['call_id']}'."
                refuse(item["call_id"] in called, twice, "input")
                called.add(item["call_id"])
            case "function_call_output":
                missing = (
                    f"No tool call found for function call output with call_id {item['call_id']}."
                )
                refuse(item["call_id"] not in called - answered, missing, "input")
                answered.add(item["call_id"])
            case "reasoning":
                _judge_reasoning(item, following, model)
            case "message" | None:
                pictures += _judge_message(item, where)
            case kind:
                known = kind.endswith("_call") or kind in ("compaction", "item_reference")
                refuse(not known, f"Invalid value: '{kind}'.", f"{where}.type")
    lost = sorted(called - answered)
    refuse(lost, f"No tool output found for function call {', '.join(lost)}.", "input")
    refuse(pictures > 500, f"Too many images in request: {pictures}. Max is 500.")


def _judge_tools(body: Json) -> None:
    tools = body.get("tools") or ()
    if len(tools) > 128:
        raise too_long("tools", "an array", 128, len(tools))
    for index, tool in enumerate(tools):
        if tool["type"] != "function":
            continue
        _judge_name(tool["name"], f"tools[{index}].name")
        if len(tool["description"]) > 1024:
            where = f"tools[{index}].description"
            raise too_long(where, "a string", 1024, len(tool["description"]))
        problem = problem_of_openai(tool["parameters"])
        words = f"Invalid schema for function '{tool['name']}': {problem}"
        refuse(problem, words, f"tools[{index}].parameters")


def _judge_name(name: str, where: str) -> None:
    refuse(
        not _NAME.fullmatch(name),
        f"Invalid '{where}': string does not match pattern. Expected a string that matches the "
        "pattern '^[a-zA-Z0-9_-]+$'.",
        where,
    )
    if len(name) > 64:
        raise too_long(where, "a string", 64, len(name))


def _judge_call(item: Json, where: str) -> None:
    id = item["call_id"]
    empty = "Expected a string with minimum length 1, but got an empty string instead."
    refuse(not id, f"Invalid '{where}.call_id': empty string. {empty}", f"{where}.call_id")
    if len(id) > 64:
        raise too_long(f"{where}.call_id", "a string", 64, len(id))
    _judge_name(item["name"], f"{where}.name")
    is_object = isinstance(json.loads(item["arguments"]), dict)
    refuse(not is_object, f"Invalid '{where}.arguments'", where)


def _judge_reasoning(item: Json, following: Json, model: str) -> None:
    id = item.get("id")
    refuse(
        not item.get("encrypted_content"),
        f"Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try "
        "again with `store` set to true, or remove this item from your input.",
    )
    refuse(
        is_of_other(item["encrypted_content"], model),
        f"The encrypted content for item {id} could not be verified.",
    )
    is_its_own = following.get("type") in ("reasoning", "function_call", "message")
    refuse(
        not is_its_own and following.get("role") != "assistant",
        f"Item '{id}' of type 'reasoning' was provided without its required following item.",
    )


def _judge_message(item: Json, where: str) -> int:
    """Judge a message; return how many pictures it has."""
    refuse("role" not in item, f"Missing required parameter: '{where}.role'.")
    content = item["content"]
    refuse(
        not content,
        f"Invalid '{where}.content': empty array. Expected an array with minimum length 1.",
    )
    pictures = 0
    for part in content if isinstance(content, list) else ():
        match part["type"]:
            case "input_image":
                kind, data = of_data_url(part["image_url"])
                refuse(not data, "Invalid base64 image_url: empty image.")
                refuse(
                    kind not in _PICTURES,
                    "The image data you provided does not represent a "
                    "valid image. Please check your input and try again with one of the "
                    "following image formats: ['image/jpeg', 'image/png', 'image/gif', "
                    "'image/webp'].",
                )
                pictures += 1
            case "input_file":
                kind, data = of_data_url(part["file_data"])
                refuse(
                    kind != "application/pdf",
                    "Invalid file data: Expected a file with an application/pdf MIME type, but got "
                    f"unsupported MIME type '{kind}'.",
                )
                refuse(not data, "Invalid file data: the file is empty.")
    return pictures
