"""In a terminal, a run's progress moves, and leaves the terminal as it was."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fork import LIMIT_S, Fork

OWLS = "How many owls?"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A pseudo-terminal, and a command that runs in it."""

    def __init__(self, side: int, process: subprocess.Popen[bytes]) -> None:
        self._side = side
        self.process = process
        self.screen = ""

    def read_until(self, text: str) -> None:
        """Read until this text has come, whatever styles are in it."""
        deadline = time.monotonic() + LIMIT_S
        while text not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen):
            ready, _, _ = select.select([self._side], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{text!r} did not come: {self.screen!r}"
            self.screen += os.read(self._side, 65536).decode()

    def read_rest(self) -> str:
        """Return what is left once the command has ended."""
        return os.read(self._side, 65536).decode()


@contextmanager
def terminal(fork: Fork, *arguments: str) -> Iterator[Terminal]:
    """Run a command of the fork in a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", *arguments],
        cwd=fork.folder,
        env=fork.environment(TERM="xterm", COLUMNS="80", LINES="24"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose tool waits."""
    fork = Fork.make(tmp_path)
    fork.hold()
    return fork


def test_what_is_under_way_is_seen(fork):
    """A terminal shows the tool that runs, and then the answer with the cursor back."""
    with terminal(fork, "run", OWLS) as window:
        window.read_until('look(what="owls")')
        assert HIDE_CURSOR in window.screen
        fork.let_go()
        window.read_until("python -m agent show")
        code = window.process.wait(LIMIT_S)

    assert code == 0
    assert "Two owls." in window.screen
    assert window.screen.rindex(SHOW_CURSOR) > window.screen.rindex(HIDE_CURSOR)


def test_leaving_at_once_gives_the_cursor_back(fork):
    """Also a second Ctrl-C leaves the terminal with its cursor."""
    with terminal(fork, "run", OWLS) as window:
        window.read_until('look(what="owls")')
        window.process.send_signal(signal.SIGINT)
        window.read_until("Ctrl-C again leaves at once")
        window.process.send_signal(signal.SIGINT)
        code = window.process.wait(LIMIT_S / 6)
        rest = window.read_rest()

    assert code == 130
    assert rest.endswith(f"{SHOW_CURSOR}\r\n")
