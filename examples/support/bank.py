"""A small bank: it holds, pays and releases, each once under one key, and counts what it was asked.

``python -m agent.bank 8008``; what it knows lies in ``bank.json``, so that it may be restarted too.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

BOOK = Path("bank.json")
_LOCK = Lock()


class Bank(BaseHTTPRequestHandler):
    """Answers ``POST /hold``, ``/pay`` and ``/release``; ``GET /`` is all that it knows."""

    def do_GET(self) -> None:
        """Tell all that is written in the book."""
        self._answer(_read())

    def do_POST(self) -> None:
        """Do what is asked, once for each key."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with _LOCK:
            book = _read()
            done = book.setdefault(self.path.strip("/"), {})
            if body["key"] not in done:
                number = f"{self.path.strip('/')}-{len(done) + 1}"
                done[body["key"]] = body | {"reservation": number, "receipt": number}
                BOOK.write_text(json.dumps(book, indent=1), encoding="utf-8")
            self._answer(done[body["key"]])

    def _answer(self, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _read() -> dict[str, Any]:
    return json.loads(BOOK.read_text(encoding="utf-8")) if BOOK.exists() else {}


def serve(port: int = 0) -> ThreadingHTTPServer:
    """Return a bank that listens on a port of this machine; 0 is any."""
    return ThreadingHTTPServer(("127.0.0.1", port), Bank)


if __name__ == "__main__":
    server = serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8008)
    print(f"the bank listens on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
