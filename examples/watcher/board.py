"""A notice board on this machine: it serves the file ``board.txt``.

``python -m agent.board 8009``. Without the file it answers 404, as a page does that is away.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BOARD = Path("board.txt")


class Board(BaseHTTPRequestHandler):
    """Answers ``GET /`` with the notices, one a line."""

    def do_GET(self) -> None:
        """Show the board."""
        is_there = BOARD.exists()
        text = BOARD.read_bytes() if is_there else b""
        self.send_response(200 if is_there else 404)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(port: int = 0) -> ThreadingHTTPServer:
    """Return a board that listens on a port of this machine; 0 is any."""
    return ThreadingHTTPServer(("127.0.0.1", port), Board)


if __name__ == "__main__":
    server = serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8009)
    print(f"the board hangs at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
