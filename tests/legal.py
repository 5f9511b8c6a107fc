"""What each provider refuses in a request's messages, as it is documented: found, not mended.

Each function takes a request's body as it is sent and raises `AssertionError` for what the
provider would answer 400.
"""

import json
import re
from itertools import pairwise
from typing import Any

Json = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check(provider: str, body: Json) -> None:
    """Raise for a request that its provider would refuse."""
    json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    {"anthropic": _anthropic, "google": _google, "openai": _openai}.get(provider, _chat)(body)


def _anthropic(body: Json) -> None:
    """Roles alternate from user to user; results come first, of each call one; no empty words."""
    messages = body["messages"]
    _alternates([each["role"] for each in messages], "user", "assistant")
    ids: list[str] = []
    open_ids: list[str] = []
    for message in messages:
        content = message["content"]
        assert content, "a message of nothing"
        results = [each["tool_use_id"] for each in content if each["type"] == "tool_result"]
        assert sorted(results) == sorted(open_ids), "tool_use and tool_result do not match"
        first = [each["type"] for each in content[: len(results)]]
        assert set(first) <= {"tool_result"}, "tool_result blocks must come first"
        for block in content:
            if block["type"] == "text":
                assert block["text"].strip(), "text content blocks must contain non-whitespace text"
            if block["type"] == "tool_use":
                assert _NAME.fullmatch(block["id"])
                assert _NAME.fullmatch(block["name"])
                assert isinstance(block["input"], dict)
            if block["type"] == "thinking":
                assert block["signature"], "a thinking block without a signature"
        open_ids = [each["id"] for each in content if each["type"] == "tool_use"]
        ids += open_ids
        if message["role"] == "assistant":
            assert "thinking" not in content[-1]["type"], "the final block cannot be thinking"
            searches = {each["id"] for each in content if each["type"] == "server_tool_use"}
            found = {each["tool_use_id"] for each in content if each["type"].startswith("web_")}
            assert searches == found, "web_search without its web_search_tool_result"
    assert len(ids) == len(set(ids)), "tool_use ids must be unique"
    assert not open_ids, "tool_use without tool_result"


def _openai(body: Json) -> None:
    """Each call has one output after it; reasoning is followed by what it belongs to."""
    items = body["input"]
    assert items, "an input of nothing"
    called: set[str] = set()
    answered: set[str] = set()
    for item, following in zip(items, [*items[1:], {}], strict=True):
        match item.get("type"):
            case "function_call":
                assert _NAME.fullmatch(item["call_id"])
                assert _NAME.fullmatch(item["name"])
                assert item["call_id"] not in called, "duplicate call_id"
                assert isinstance(json.loads(item["arguments"]), dict)
                called.add(item["call_id"])
            case "function_call_output":
                assert item["call_id"] in called - answered, "no tool call found for the output"
                answered.add(item["call_id"])
            case "reasoning":
                assert item["encrypted_content"], "items are not persisted when store is false"
                kind = following.get("type")
                is_its_own = kind in ("reasoning", "function_call", "message")
                assert is_its_own or following.get("role") == "assistant", "reasoning alone"
            case _:
                assert item["content"], "a message of nothing"
    assert called == answered, "no tool output found for a call"


def _chat(body: Json) -> None:
    """Roles alternate; each call's result comes right after it, before anything else."""
    messages = [each for each in body["messages"] if each["role"] != "system"]
    spoken = [each["role"] for each in messages if each["role"] != "tool"]
    assert all(a != b for a, b in pairwise(spoken) if a == "user")
    assert spoken[0] == "user"
    assert messages[-1]["role"] in ("user", "tool")
    ids: list[str] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0), "results out of their order"
            continue
        assert not waiting, "tool_calls must be followed by tool messages"
        if message["role"] == "user":
            words = message["content"]
            assert words.strip() if isinstance(words, str) else words, "a message of nothing"
            continue
        assert message.get("content") or message.get("tool_calls"), "an assistant without a word"
        for call in message.get("tool_calls") or ():
            assert _NAME.fullmatch(call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert call["id"]
            waiting.append(call["id"])
            ids.append(call["id"])
    assert not waiting, "tool_calls must be followed by tool messages"
    assert len(ids) == len(set(ids)), "one id for two calls"


def _google(body: Json) -> None:
    """Roles alternate; a turn of calls is followed by as many responses, of the same names."""
    contents = body["contents"]
    _alternates([each["role"] for each in contents], "user", "model")
    called: list[str] = []
    for content in contents:
        assert content["parts"], "a content of nothing"
        given = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        assert given == called, "as many function responses as function calls, right after them"
        called = [p["functionCall"]["name"] for p in content["parts"] if "functionCall" in p]
        for part in content["parts"]:
            assert part.get("text", "x").strip() or "thoughtSignature" in part
            if "functionCall" in part:
                assert _NAME.fullmatch(part["functionCall"]["name"])
                assert isinstance(part["functionCall"]["args"], dict)
    assert not called


def _alternates(roles: list[str], first: str, second: str) -> None:
    assert roles, "messages: at least one message is required"
    assert roles == [first, second] * (len(roles) // 2) + [first], "roles must alternate"
