"""An answer of very many small pieces takes time by its length, not by the square of it."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from substrate.models.messages import Reply, Text, Thinking, ToolCall
from substrate.models.providers.anthropic import reply as anthropic
from substrate.models.providers.chat import reply as chat
from substrate.models.providers.chat.request import Server
from substrate.models.providers.google import reply as google
from substrate.models.providers.openai import reply as openai
from tests.llm_providers import HELLO
from tests.llm_servers import Json

PIECES = 20_000
PIECE = "word " * 100
WHOLE = PIECE * PIECES
SERVER = Server("openai-chat", limit="max_tokens", takes_formats=True)


def of_anthropic(block: Json, delta: Json) -> Reply:
    """Return the reply of a stream with one block that comes in many pieces."""
    draft = anthropic.Draft()
    anthropic.take(draft, {"type": "content_block_start", "index": 0, "content_block": block})
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    for _ in range(PIECES):
        anthropic.take(draft, event)
    anthropic.take(draft, {"type": "content_block_stop", "index": 0})
    anthropic.take(draft, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    return anthropic.reply("m", HELLO, [draft])


def of_chat(delta: Json) -> Reply:
    """Return the reply of a stream of many such pieces."""
    draft = chat._Draft()
    for _ in range(PIECES):
        chat._take(draft, {"choices": [{"index": 0, "delta": delta}]}, "m")
    chat._take(draft, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "m")
    return chat._reply(SERVER, "m", HELLO, draft)


def of_google(part: Json) -> Reply:
    """Return the reply of a stream of many such pieces."""
    draft = google.Draft()
    for _ in range(PIECES):
        draft.take({"candidates": [{"content": {"parts": [part]}}]})
    draft.take({"candidates": [{"finishReason": "STOP"}]})
    return google.reply("m", HELLO, [draft])


def of_openai() -> Reply:
    """Return the reply of a stream of many deltas, and the item that they make."""
    draft = openai.Draft()
    for _ in range(PIECES):
        openai.take(draft, {"type": "response.output_text.delta", "delta": PIECE})
    item = {"type": "message", "id": "i", "content": [{"type": "output_text", "text": WHOLE}]}
    ended = {"type": "response.completed", "response": {"output": [item], "status": "completed"}}
    openai.take(draft, ended)
    return openai.reply("m", HELLO, draft)


WRITTEN = {"arguments": PIECE}
TEXT, THINKING = {"type": "text", "text": ""}, {"type": "thinking", "thinking": "", "signature": ""}
TOOL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
STREAMS: dict[str, Callable[[], Reply]] = {
    "anthropic, text": lambda: of_anthropic(TEXT, {"type": "text_delta", "text": PIECE}),
    "anthropic, thinking": lambda: of_anthropic(
        THINKING, {"type": "thinking_delta", "thinking": PIECE}
    ),
    "anthropic, a call": lambda: of_anthropic(
        TOOL, {"type": "input_json_delta", "partial_json": PIECE}
    ),
    "chat, text": lambda: of_chat({"content": PIECE}),
    "chat, reasoning": lambda: of_chat({"reasoning": PIECE}),
    "chat, blocks of it": lambda: of_chat({"reasoning_details": [{"index": 0, "text": PIECE}]}),
    "chat, a call": lambda: of_chat({"tool_calls": [{"index": 0, "id": "a", "function": WRITTEN}]}),
    "google, text": lambda: of_google({"text": PIECE}),
    "google, thoughts": lambda: of_google({"text": PIECE, "thought": True}),
    "openai, text": of_openai,
}


@pytest.mark.parametrize("case", STREAMS)
def test_many_pieces(case):
    """Ten million characters in pieces of 500 are put together in less than half a second."""
    begun = time.process_time()
    reply = STREAMS[case]()
    took_s = time.process_time() - begun

    (part,) = reply.parts
    assert _text_of(part) == WHOLE
    assert took_s < 0.5


def _text_of(part: Any) -> str:
    match part:
        case ToolCall(malformed=written):
            return str(written)
        case Thinking("", native={"reasoning_details": [{"text": text}]}):
            return str(text)
        case Text(text) | Thinking(text):
            return text
    raise AssertionError(part)


def test_arguments_in_many_pieces():
    """A call whose arguments come in pieces, as Gemini can be asked to, is put together alike."""
    draft = google.Draft()
    count = 50_000
    piece = {"name": "f", "partialArgs": [{"jsonPath": "$.a", "numberValue": 1}]}
    part = {"functionCall": {**piece, "willContinue": True}}
    begun = time.process_time()
    for _ in range(count):
        draft.take({"candidates": [{"content": {"parts": [_copy(part)]}}]})
    took_s = time.process_time() - begun

    (joined,) = draft.parts
    assert len(joined["functionCall"]["partialArgs"]) == count
    assert took_s < 0.5


def _copy(part: Json) -> Json:
    call = part["functionCall"]
    return {"functionCall": {**call, "partialArgs": list(call["partialArgs"])}}
