"""A provider's vectors come over its own SDK, with the kit's failures, and tell no key."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from substrate import Misuse
from substrate.agent import Embedding, HashedNgrams, MiniLM
from substrate.agent.embedders import embedder_named
from substrate.models.providers.address import Address
from substrate.models.providers.registry import adapter_of
from substrate.values.errors import ModelError

KEY = "sk-test-0123456789abcdef"
TEXTS = ["one", "two", "three"]


class Server:
    """Answers as the providers do: each text's vector begins with its length."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.failures: list[tuple[int, dict[str, str], Any]] = []

    def answer(self, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        """Return the status, headers and body of a request."""
        self.asked.append((path, body))
        if self.failures:
            return self.failures.pop(0)
        if path.endswith("/embeddings"):
            rows = [
                {"index": i, "embedding": [float(len(text)), 1.0], "object": "embedding"}
                for i, text in enumerate(body["input"])
            ]
            return 200, {}, {"object": "list", "data": rows[::-1]}
        texts = [each["content"]["parts"][0]["text"] for each in body["requests"]]
        return 200, {}, {"embeddings": [{"values": [float(len(text)), 1.0]} for text in texts]}


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """Provide a server on this machine that both SDKs ask."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, answer = told.answer(self.path, body)
            sent = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in ({"content-type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        yield told
        http.shutdown()
        thread.join()


MODELS = ["openai:text-embedding-3-small", "google:gemini-embedding-001"]


@pytest.mark.parametrize("model", MODELS)
async def test_vectors_in_order(server, model):
    """Each text gets its own vector, in the order in which they were asked for, of this length."""
    found = await Embedding(model, 2).embed(TEXTS)
    assert [list(each) for each in found] == [[3.0, 1.0], [3.0, 1.0], [5.0, 1.0]]
    ((_, body),) = server.asked
    assert "2" in json.dumps(body)


@pytest.mark.parametrize("model", MODELS)
async def test_what_passes_is_tried_again(server, model):
    """A busy server and a rate are asked again; what does not pass is told at once, with no key."""
    busy = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    server.failures = [(503, {"retry-after": "0.01"}, busy)]
    assert len(await Embedding(model, 2).embed(["a"])) == 1
    assert len(server.asked) == 2
    wrong = {"error": {"code": 401, "message": f"bad key {KEY}", "status": "UNAUTHENTICATED"}}
    server.failures = [(401, {}, wrong)]
    with pytest.raises(ModelError) as caught:
        await Embedding(model, 2).embed(["a"])
    assert KEY not in f"{caught.value} {caught.value.body}"
    assert len(server.asked) == 3


@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_that_is_none(server, model):
    """An answer without vectors is a failure of the server, which may pass."""
    server.failures = [(200, {}, {"data": [{"no": 1}], "embeddings": [{"values": "x"}]})]
    provider, _, name = model.partition(":")
    adapter: Any = await adapter_of(provider, Address())
    with pytest.raises(ModelError) as caught:
        await adapter.embed(name, ["a"], 2)
    assert caught.value.retryable


@pytest.mark.parametrize("bad", ["openai", "openai:", "anthropic:x", "", "text-embedding-3-small"])
def test_what_names_no_embedding(bad):
    """A name without a provider that makes vectors is refused where it is given."""
    with pytest.raises(Misuse, match="names no embedding"):
        Embedding(bad, 512)


def test_names():
    """An embedder is found by its own name."""
    for embedder in (HashedNgrams(64), MiniLM(), Embedding(MODELS[0], 512)):
        assert embedder_named(embedder.name).name == embedder.name
    for bad in ("", "hashed", "openai:x", "openai:x:0", "hashed-ngrams:0"):
        with pytest.raises(Misuse):
            embedder_named(bad)
