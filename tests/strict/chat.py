"""The OpenAI chat protocol, as a judge of requests: Groq's server, and the strictest of the others.

The others are one server here that refuses whatever one of them does: OpenAI's own, vLLM with the
templates of models whose roles alternate, Moonshot's, and for its own models Mistral's.
"""

import json
import re
from itertools import pairwise

from tests.strict.refused import Json, Refused, is_of_other, of_data_url, refuse, too_long
from tests.strict.schemas import problem_of_openai

_NAME = re.compile("[a-zA-Z0-9_-]+")
_NINE = re.compile("[a-zA-Z0-9]{9}")
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ALTERNATE = (
    "After the optional system message, conversation roles must alternate user and assistant roles "
    "except for tool calls and results."
)


def judge_groq(body: Json, model: str) -> None:
    """Raise `Refused` for what Groq answers 400."""
    messages = body["messages"]
    refuse(
        not [each for each in messages if each["role"] != "system"],
        "'messages' : minimum number of items is 1",
    )
    _judge_tools(body)
    count = 0
    for index, message in enumerate(messages):
        _judge_texts(message, index)
        if message["role"] == "assistant":
            _judge_groqs_reply(message, index, model)
        elif message["role"] == "user":
            refuse(
                message["content"] in ("", []), f"'messages.{index}' : content must not be empty"
            )
            count += _judge_parts(message["content"], index, model, takes_files=False)
    refuse(count > 5, f"Too many images provided. This model supports up to 5 images, not {count}")
    _judge_pairs(messages)


def _judge_groqs_reply(message: Json, index: int, model: str) -> None:
    known = {"role", "content", "tool_calls", "reasoning", "name"}
    where = f"'messages.{index}' : for 'role:assistant' the following must be satisfied"
    unknown = min(message.keys() - known, default=None)
    refuse(unknown, f"{where}[('messages.{index}' : property '{unknown}' is unsupported)]")
    odd = is_of_other(message.get("reasoning"), model)
    refuse(odd, f"{where}[('messages.{index}' : property 'reasoning' is unsupported)]")
    is_empty = not message.get("content") and not message.get("tool_calls")
    refuse(is_empty, f"{where}[('messages.{index}.content' : value must not be empty)]")


def judge_chat(body: Json, model: str) -> None:
    """Raise `Refused` for what one of the servers answers 400."""
    messages = [each for each in body["messages"] if each["role"] != "system"]
    refuse(not messages, "[] is too short - 'messages'")
    _judge_tools(body, longest=1024)
    refuse(_has_nul(body), "must be a valid UTF-8 string: string contains \\x00")
    for index, message in enumerate(messages):
        _judge_texts(message, index)
        if message["role"] == "user":
            content = message["content"]
            is_blank = not (content.strip() if isinstance(content, str) else content)
            refuse(is_blank, f"messages[{index}].content must not be empty")
            _judge_parts(content, index, model, takes_files=True)
        if message["role"] == "assistant":
            is_empty = not (message.get("content") or "").strip() and not message.get("tool_calls")
            refuse(is_empty, f"Invalid value for 'content': expected a string, got null. ({index})")
            odd = [each for each in message.values() if is_of_other(each, model)]
            refuse(odd, f"messages.{index}.assistant: property is unsupported")
    _judge_pairs(messages)
    _judge_roles(messages, model)


def _has_nul(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nul, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _judge_roles(messages: list[Json], model: str) -> None:
    roles = [each["role"] for each in messages if each["role"] != "tool"]
    refuse(roles[:1] != ["user"], _ALTERNATE)
    last = messages[-1]["role"]
    refuse(
        last not in ("user", "tool"),
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
        f"{last}",
    )
    for one, other in pairwise(messages):
        pair = (one["role"], other["role"])
        refuse(pair in (("user", "user"), ("assistant", "assistant")), _ALTERNATE)
        is_strict = "mistral" in model
        refuse(is_strict and pair == ("tool", "user"), "Unexpected role 'user' after role 'tool'")
    for id in [call["id"] for each in messages for call in each.get("tool_calls") or ()]:
        is_odd = "mistral" in model and not _NINE.fullmatch(id)
        refuse(is_odd, f"Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.")


def _judge_tools(body: Json, longest: int | None = None) -> None:
    tools = body.get("tools") or ()
    if len(tools) > 128:
        raise too_long("tools", "an array", 128, len(tools))
    for index, tool in enumerate(tools):
        function = tool["function"]
        _judge_name(function["name"], f"tools[{index}].function.name")
        if longest is not None and len(function["description"]) > longest:
            where = f"tools[{index}].function.description"
            raise too_long(where, "a string", longest, len(function["description"]))
        problem = problem_of_openai(function["parameters"])
        words = f"Invalid schema for function '{function['name']}': {problem}"
        refuse(problem, words, f"tools[{index}].function.parameters")


def _judge_name(name: str, where: str) -> None:
    refuse(
        not _NAME.fullmatch(name),
        f"Invalid '{where}': string does not match pattern. Expected a string that matches the "
        "pattern '^[a-zA-Z0-9_-]+$'.",
        where,
    )
    if len(name) > 64:
        raise too_long(where, "a string", 64, len(name))


def _judge_texts(message: Json, index: int) -> None:
    for call in message.get("tool_calls") or ():
        _judge_name(call["function"]["name"], f"messages[{index}].tool_calls[0].function.name")
        is_object = isinstance(json.loads(call["function"]["arguments"]), dict)
        refuse(not is_object, f"messages[{index}]: arguments must be a JSON object")
        where = f"messages[{index}].tool_calls[0].id"
        refuse(not call["id"], f"Invalid '{where}': empty string.", where)
        if len(call["id"]) > 64:
            raise too_long(where, "a string", 64, len(call["id"]))


def _judge_parts(content: object, index: int, model: str, *, takes_files: bool) -> int:
    """Judge what a user says; return how many pictures are in it."""
    if not isinstance(content, list):
        return 0
    count = 0
    for part in content:
        match part["type"]:
            case "text":
                refuse(takes_files and not part["text"].strip(), "text content must not be empty")
            case "image_url":
                refuse("gpt-oss" in model, f"messages[{index}].content must be a string")
                kind, data = of_data_url(part["image_url"]["url"])
                refuse(not data, "Invalid base64 image_url.")
                refuse(kind not in _PICTURES, f"unsupported image format: {kind}")
                is_large = not takes_files and len(part["image_url"]["url"]) > 4 * 1024 * 1024 + 64
                refuse(is_large, "Request Entity Too Large: images are limited to 4MB")
                count += 1
            case "file":
                refuse(not takes_files, f"'messages.{index}.content' : unsupported type 'file'")
                kind, data = of_data_url(part["file"]["file_data"])
                refuse(
                    kind != "application/pdf",
                    "Invalid file data: Expected a file with an application/pdf MIME type, but got "
                    f"unsupported MIME type '{kind}'.",
                )
                refuse(not data, "Invalid file data: the file is empty.")
    return count


def _judge_pairs(messages: list[Json]) -> None:
    ids: list[str] = []
    waiting: list[str] = []
    must = "An assistant message with 'tool_calls' must be followed by tool messages responding to "
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise Refused(
                    f"Invalid parameter: messages[{index}]: messages with role 'tool' must be a "
                    "response to a preceeding message with 'tool_calls'."
                )
            is_first = waiting[0] == message["tool_call_id"]
            refuse(not is_first, f"{must}each 'tool_call_id', in their order. ({index})")
            waiting.pop(0)
            continue
        refuse(waiting, f"{must}each 'tool_call_id'. Without one: {', '.join(waiting)}")
        for call in message.get("tool_calls") or ():
            waiting.append(call["id"])
            ids.append(call["id"])
        refuse(len(ids) != len(set(ids)), f"messages[{index}]: duplicate tool call id")
    refuse(waiting, f"{must}each 'tool_call_id'. Without one: {', '.join(waiting)}")
