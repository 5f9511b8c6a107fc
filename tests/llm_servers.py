"""Servers that speak the providers' formats, on this machine alone.

`llmock` is one that nobody here wrote, in a process of its own: it answers, calls tools and breaks
streams as real providers do, and judges the client. `wire` is a few lines of HTTP that send what
they are told, for what llmock does not know: signatures, encrypted reasoning, exact error bodies.
Either refuses nothing by itself; `wire` does what its judge says (`tests/strict`).
`anthropic_events`, `openai_events`, `chat_events` and `gemini_events` make those of an answer.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import httpx2

from tests.keeper import wait_until

START_LIMIT_S = 20.0
CONTEXT_WINDOW = 20_000
BEAT_S = 0.02
Json = dict[str, Any]
DONE = "data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Llmock:
    """A running llmock: scripted and questioned over its own HTTP API."""

    url: str

    def script(self, *behaviours: Json) -> None:
        """Say what happens to the next requests, in order."""
        body = {"behaviors": list(behaviours)}
        httpx2.post(f"{self.url}/_llmock/scenario", json=body).raise_for_status()

    def reset(self) -> None:
        """Forget all scripts and requests."""
        httpx2.post(f"{self.url}/_llmock/reset").raise_for_status()

    def statuses(self) -> list[int]:
        """Return how each request since the last reset was answered."""
        asked = httpx2.get(f"{self.url}/_llmock/requests").json()["requests"]
        return [each["status"] for each in asked]

    def findings(self) -> list[Json]:
        """Return what the client did wrong since the last reset."""
        found: list[Json] = httpx2.get(f"{self.url}/_llmock/verdict").json()["findings"]
        return found


@contextmanager
def llmock(*options: str) -> Iterator[Llmock]:
    """Run llmock on a free port of the loopback interface."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-c", "from llmock.cli import app; app()", "serve"),
            *("--host", "127.0.0.1", "--port", str(port), "--log-level", "critical"),
            *("--context-window", str(CONTEXT_WINDOW), *options),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        if not wait_until(lambda: _answers(port) or server.poll() is not None, START_LIMIT_S):
            raise TimeoutError(f"llmock did not answer on port {port} in {START_LIMIT_S} s")
        yield Llmock(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx2.TransportError:
        return False


class Ending(Enum):
    """What a connection does after an answer."""

    OPEN = "stays open for the next request"
    CUT = "is closed before the announced end"
    HELD = "stays open, and the announced end does not come"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: sent as it is. Its `beat` follows, over and over, until the client is gone."""

    body: bytes
    status: int = 200
    headers: Json = field(default_factory=dict)
    ending: Ending = Ending.OPEN
    beat: bytes = b""

    def encode(self) -> bytes:
        """Return the response as it goes over the wire; one with a beat has no length."""
        length = len(self.body) + (0 if self.ending is Ending.OPEN else 1)
        size = "connection: close" if self.beat else f"content-length: {length}"
        lines = [f"HTTP/1.1 {self.status} Said", size]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(slots=True)
class Wire:
    """Where a `wire` server is, what it will say, what it was asked, and when."""

    url: str
    answers: list[Answer]
    bodies: list[Json] = field(default_factory=list)
    headers: list[Json] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    connections: int = 0


Judge = Callable[[Json, str], Answer | None]
"""Gives a server's refusal of a request to a path, or None for one that it takes."""


@asynccontextmanager
async def wire(*answers: Answer, judge: Judge = lambda body, path: None) -> AsyncIterator[Wire]:
    """Serve the answers in order, one a request that is taken, and keep what was asked."""
    told = Wire("", list(answers))
    serving: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.connections += 1
        serving.add(asyncio.create_task(answer_all(reader, writer)))

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    path, headers, body = await _request(reader)
                    told.headers.append(headers)
                    told.bodies.append(body)
                    told.times.append(time.monotonic())
                    refusal = judge(body, path)
                    if refusal is None and not told.answers:
                        break  # more was asked than the test has foreseen
                    answer = refusal or told.answers.pop(0)
                    writer.write(answer.encode())
                    await writer.drain()
                    while answer.beat:  # until the client hangs up
                        writer.write(answer.beat)
                        await writer.drain()
                        await asyncio.sleep(BEAT_S)
                    if answer.ending is Ending.CUT:
                        break
        finally:
            writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield told
    await asyncio.gather(*serving)  # the client has closed its connections


async def _request(reader: asyncio.StreamReader) -> tuple[str, Json, Json]:
    asked, *head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return asked.split()[1], headers, body


def refusal(status: int, body: Json | str, **headers: str) -> Answer:
    """Return an error response; a header's underscores are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "text/html" if isinstance(body, str) else "application/json"
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(text.encode(), status, {"content-type": kind, **named})


def stream(
    *events: Json | str, ending: Ending = Ending.OPEN, beat: Json | str | None = None
) -> Answer:
    """Return a response that streams these events and ends; text goes out as it is.

    With a beat it does not end: that event follows, over and over.
    """
    body = "".join(map(_sent, events))
    again = b"" if beat is None else _sent(beat).encode()
    return Answer(body.encode(), 200, {"content-type": "text/event-stream"}, ending, again)


def _sent(event: Json | str) -> str:
    return event if isinstance(event, str) else _sse(event)


def _sse(event: Json) -> str:
    """Return an event as it is sent; a chat's or Gemini's has no name."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def anthropic_events(*blocks: Json, stop: str = "end_turn", **delta: Any) -> list[Json]:
    """Return the events of a message with these blocks, each as it should be when it is whole."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    events: list[Json] = [
        {
            "type": "message_start",
            "message": {**message, "model": "claude", "usage": {**usage, "output_tokens": 1}},
        }
    ]
    for index, block in enumerate(blocks):
        empty, deltas = _in_pieces(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events.extend(
            {"type": "content_block_delta", "index": index, "delta": each} for each in deltas
        )
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": stop, "stop_sequence": None, **delta}
    counts = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}
    events.append({"type": "message_delta", "delta": ended, "usage": counts})
    return [*events, {"type": "message_stop"}]


def _in_pieces(block: Json) -> tuple[Json, Sequence[Json]]:
    """Return a block as it starts, and the deltas that make it whole."""
    match block["type"]:
        case "text":
            half = len(block["text"]) // 2
            words = (block["text"][:half], block["text"][half:])
            return {**block, "text": ""}, [{"type": "text_delta", "text": each} for each in words]
        case "thinking":
            return {**block, "thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "tool_use" | "server_tool_use":
            text = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": text[i : i + 5]}
                for i in range(0, len(text), 5)
            ]
    return block, []


def openai_events(*items: Json, ending: str = "response.completed", **response: Any) -> list[Json]:
    """Return the events of a response with these items; in the last, reasoning is written anew."""
    numbered = [{"id": f"item_{i}", **item} for i, item in enumerate(items)]
    usage = {
        "input_tokens": 17,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 37,
    }
    events: list[Json] = [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
    ]
    for index, item in enumerate(numbered):
        for part in item.get("content") or ():
            words = part.get("text", part.get("refusal"))
            kind = part["type"]
            events.append({"type": f"response.{kind}.delta", "output_index": index, "delta": words})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    anew = [
        {**item, "encrypted_content": "of-the-last-event"} if item["type"] == "reasoning" else item
        for item in numbered
    ]
    whole = {"id": "resp_1", "status": "completed", "output": anew, "usage": usage, **response}
    return [*events, {"type": ending, "response": whole}]


def chat_events(
    text: str = "",
    *calls: tuple[str, str, str],
    finish: str = "stop",
    usage_in: str = "usage",
    reasoning: Json | None = None,
) -> list[Json | str]:
    """Return the chunks of a chat answer; a call is its id, name and arguments as JSON text."""

    def chunk(delta: Json, finish_reason: str | None = None, **rest: Any) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"id": "chatcmpl_1", "model": "m", "choices": [choice], **rest}

    counts = {
        "prompt_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "completion_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    events: list[Json | str] = [chunk({"role": "assistant", "content": None})]
    events += [chunk({name: value}) for name, value in (reasoning or {}).items()]
    events += [chunk({"content": text[i : i + 4]}) for i in range(0, len(text), 4)]
    for index, (id, name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        events.append(chunk({"tool_calls": [{"index": index, "id": id, "function": function}]}))
        for i in range(0, len(arguments), 5):
            piece = {"index": index, "function": {"arguments": arguments[i : i + 5]}}
            events.append(chunk({"tool_calls": [piece]}))
    if usage_in == "x_groq":
        return [*events, chunk({}, finish, x_groq={"id": "req_1", "usage": counts}), DONE]
    last = {"id": "chatcmpl_1", "model": "m", "choices": [], "usage": counts}
    return [*events, chunk({}, finish), *([last] if usage_in else []), DONE]


def gemini_events(*parts: Json, finish: str | None = "STOP", **candidate: Any) -> list[Json]:
    """Return the chunks of Gemini's answer with these parts, one a chunk."""
    counts = {
        "promptTokenCount": 17,
        "cachedContentTokenCount": 5,
        "candidatesTokenCount": 13,
        "thoughtsTokenCount": 7,
    }
    events: list[Json] = [
        {
            "responseId": "resp_1",
            "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}],
            "usageMetadata": {"promptTokenCount": 17},
        }
        for part in parts
    ]
    ended = {"index": 0, "finishReason": finish, **candidate}
    return [*events, {"responseId": "resp_1", "candidates": [ended], "usageMetadata": counts}]
