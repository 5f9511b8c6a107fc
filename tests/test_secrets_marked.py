"""Marked secrets are put wherever a secret may be, and everything that was written is searched.

A fork keeps them in its `.env`: a key for each provider, its database with its password, a secret
of a tool. Its servers repeat the key that they are shown, in nine spellings, in errors and in an
answer; its tool tells its own. Then every command is typed.
"""

import json
import logging
import os
import signal
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from substrate.cli.invocation import Invocation
from substrate.cli.perform import perform
from tests.fork import Fork, end
from tests.keeper import wait_until
from tests.llm_providers import SETUPS, said
from tests.llm_servers import stream
from tests.written import dump, files_of, found_in

KEYS = {name: f"sk-MARKED-{name}-{'0a1b2c3d' * 3}/+=" for name in SETUPS}
TOOL, PASSWORD = "MARKED-tool-9f8e7d6c5b4a", "MARKED-password-1a2b3c"
SECRETS = [*KEYS.values(), TOOL, PASSWORD]


def spelled(key: str) -> list[str]:
    """Return the ways in which the servers here repeat a key."""
    basic = b64encode(f"u:{key}".encode()).decode()
    known = [key, f"Bearer {key}", quote(key, safe=""), basic, key.encode().hex()]
    return [
        *known,
        "".join(f"%{ord(each):02X}" for each in key),
        "".join(f"&#{ord(each)};" for each in key),
        "".join(f"\\u{ord(each):04x}" for each in key),
        b64encode(f"Basic {basic}".encode()).decode(),
    ]


NEEDLES = sorted({needle for secret in SECRETS for needle in spelled(secret)} | {"MARKED-"})

HOOKS = '''
import logging

from substrate import Secret
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.model import Model

@tool(effect="pure")
async def search(query: str, key: Secret[str] = Secret("TOOL_SECRET")) -> str:
    """Search, and tell everything."""
    logging.getLogger("fork").warning("asked with %s", key.reveal())
    if query == "fail":
        raise LookupError(f"401 for {key.reveal()}")
    letters = "".join(f"%{ord(each):02X}" for each in key.reveal())
    return f"{query}: found with {key.reveal()}, {letters}"

prompt = "Be brief."
model = Model("FIRST", fallback=OTHERS, patience=0)
tools = [search]
stop = any_of(answered(), max_turns(3))
'''


class _Repeater(BaseHTTPRequestHandler):
    """Answers each request with the key in it."""

    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Say no, in the manner that the test asks for, or answer with the key."""
        self.rfile.read(int(self.headers["content-length"]))
        shown = self.headers.get("x-goog-api-key") or self.headers.get("x-api-key")
        key = shown or self.headers["authorization"].removeprefix("Bearer ")
        self.server.shown.append(key)
        words, kind = " ".join(spelled(key)), self.server.kind
        body = json.dumps({"error": {"message": words, "type": words, "code": words}})
        status, told = {
            "401": (401, body),
            "500": (500, body),
            "page": (502, f"<html>{words}</html>"),
            "answer": (200, self._answer(key, words)),
        }[kind]
        self.send_response(status)
        is_stream = "text/event-stream" if status == 200 else "application/json"
        headers = {"content-type": is_stream, "x-echo": words, "location": f"/{quote(words)}"}
        headers |= {"x-request-id": key, "request-id": key, "retry-after": words}
        for name, value in {**headers, "content-length": str(len(told.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(told.encode())

    def _answer(self, key: str, words: str) -> str:
        provider = next((each for each, known in KEYS.items() if known == key), "groq")
        self.server.answers += 1
        calls = [("c1", "search", json.dumps({"query": key})), ("c2", "search", '{"query":"fail"}')]
        events = said(provider, f"You showed {words}.", *calls[: 2 * (self.server.answers == 1)])
        return stream(*events).body.decode()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def repeater() -> Iterator[Any]:
    """Run the server, which says what `kind` is set to."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Repeater)
    server.kind, server.answers, server.shown = "401", 0, []
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_env(fork: Fork, server: Any, url: str) -> None:
    """Write a fork's `.env`: where everything is, and the secrets."""
    at = f"http://127.0.0.1:{server.server_port}"
    lines = [f"DATABASE_URL={url}", f"TOOL_SECRET='{TOOL}'"]
    lines += [f"{each}_LOG=debug" for each in ("ANTHROPIC", "GROQ", "OPENAI")]  # the SDKs' own
    for name, setup in SETUPS.items():
        lines += [f"export {setup.key}={KEYS[name]}", f"{setup.url}={at}{setup.wire_path}"]
    fork.write(".env", "\n".join(lines))


def with_password(url: str) -> str:
    """Return the URL of a database with the marked password, if it is one that has any."""
    parts = urlsplit(url)
    if parts.scheme != "postgresql":
        return url
    user, _, host = parts.netloc.rpartition("@")
    login = f"{user.partition(':')[0] or 'postgres'}:{PASSWORD}"
    return parts._replace(netloc=f"{login}@{host}").geturl()


@pytest.mark.parametrize(
    "store, provider", [*(("sqlite", each) for each in SETUPS), ("postgres", "anthropic")]
)
def test_nothing_is_written(tmp_path, request, store, provider, type_all):
    """After every command, no file, row, page or log of a fork holds a piece of a secret."""
    store_url = request.getfixturevalue(f"{store}_url")
    others = [setup.model for name, setup in SETUPS.items() if name != provider]
    hooks = HOOKS.replace("FIRST", SETUPS[provider].model).replace("OTHERS", repr(others))
    folder = tmp_path / "fork"
    folder.mkdir()
    fork = Fork.make(folder, with_password(store_url), hooks)
    told: list[str] = []
    with repeater() as server:
        write_env(fork, server, fork.url)
        for kind, code, flags in (("401", 4, ["--debug"]), ("page", 4, []), ("answer", 0, [])):
            server.kind = kind
            done = fork.do("run", "Search for owls", "--id", kind, *flags)
            told += [done.out, done.err]
            assert done.code == code, done
        server.kind = "500"
        fork.start("waiting", "Search for bats")
        worker = fork.open("worker", "--debug")
        assert wait_until(lambda: fork_status(fork) == "paused", 30)
        worker.send_signal(signal.SIGTERM)
        told += [*vars_of(end(worker))]
        assert {*server.shown} == {*KEYS.values()}
    told += type_all(fork)

    written = [each for each in fork.folder.rglob("*") if each.is_file() and each.name != ".env"]
    in_files = list(found_in([*written, *files_of(store_url)], NEEDLES))
    everything = "\n".join([*told, dump(store_url)])
    assert [each for each in NEEDLES if each in everything] == []
    assert in_files == []


def vars_of(done: Any) -> list[str]:
    """Return what a command printed."""
    return [done.out, done.err]


def fork_status(fork: Fork) -> str:
    """Return how the run is that the worker has."""
    return str(fork.run("waiting")["status"])


@pytest.fixture
def type_all(monkeypatch: Any, capsys: Any) -> Callable[[Fork], list[str]]:
    """Provide what types all commands of a fork, and returns what was printed."""
    return lambda fork: all_commands(fork, monkeypatch, capsys)


def all_commands(fork: Fork, monkeypatch: Any, capsys: Any) -> list[str]:
    """Type each command that looks or sends, in each manner; return what was printed."""
    monkeypatch.chdir(fork.folder)
    monkeypatch.setenv("DATABASE_URL", fork.url)
    for line in (fork.folder / ".env").read_text().splitlines()[1:]:
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value.strip("'"))
    ids = ("401", "answer", "waiting")
    commands = [
        *(["runs"], ["runs", "--status", "paused"], ["runs", "--status", "dead"]),
        *(["show", each] for each in ids),
        *(["show", each, "--key", key] for each in ids for key in ("model.0", "run")),
        *(["show", "answer", "--key", f"tools.0/search.{n}"] for n in (0, 1)),
        *(["show", "nope"], ["signal", "waiting", "mail", "true"], ["cancel", "waiting"]),
        *(["discard", "401"], ["compare", "prompt"], ["--help"], ["nope"]),
    ]
    printed: list[str] = []
    try:
        for command in commands:
            for flags in ([], ["--json"], ["--debug"], ["--json", "--debug"]):
                perform(Invocation.read("agent", ["ostinato", *command, *flags]))
                printed += capsys.readouterr()
    finally:
        logging.getLogger("ostinato").setLevel(logging.NOTSET)
    return printed


def test_the_search_finds(tmp_path, store_url):
    """What is in a database or a file is found by the search, so that not finding it says much."""
    stamp = f"STAMPED-{os.urandom(6).hex()}"  # the server's files are those of other tests, too
    (tmp_path / "file").write_bytes(b"\0\xff" + stamp.encode() + os.urandom(9))
    fork = Fork.make(tmp_path, store_url)
    fork.start("told", f"What is {stamp}? {'x' * 40_000}")

    assert stamp in dump(store_url)
    assert len(list(found_in([tmp_path / "file"], [stamp]))) == 1
    assert list(found_in(files_of(store_url), [stamp])) != []
