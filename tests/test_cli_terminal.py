"""In a terminal, a run's progress moves, and leaves the terminal as it was."""

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fork import AGENT, COMMANDS, LIMIT_S, Fork
from tests.keeper import wait_until
from tests.llm_servers import Ending, chat_events, stream, wire
from tests.warm import Command

OWLS = "How many owls?"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A pseudo-terminal, and a command that runs in it."""

    def __init__(self, side: int, process: "Command | subprocess.Popen[bytes]") -> None:
        self._side = side
        self.process = process
        self.screen = ""

    def read_until(self, text: str) -> None:
        """Read until this text has come, whatever styles are in it."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self.plain and text not in self.screen:
            self.read(deadline, text)

    def read_until_match(self, pattern: str) -> None:
        """Read until this pattern is found in what has come, without its styles."""
        deadline = time.monotonic() + LIMIT_S
        while not re.search(pattern, self.plain):
            self.read(deadline, pattern)

    def read(self, deadline: float | None = None, text: str = "more") -> None:
        """Read what comes next."""
        left = LIMIT_S if deadline is None else max(deadline - time.monotonic(), 0)
        ready, _, _ = select.select([self._side], [], [], left)
        assert ready, f"{text!r} did not come: {self.screen!r}"
        self.screen += os.read(self._side, 65536).decode(errors="replace")

    def has_more(self, seconds: float) -> bool:
        """Whether more comes within so many seconds."""
        return bool(select.select([self._side], [], [], seconds)[0])

    def type(self, keys: str) -> None:
        """Press keys, Enter as carriage return."""
        os.write(self._side, keys.encode())

    def paste(self, octets: bytes) -> None:
        """Type bytes, also more than fit, while what is drawn is read."""
        while octets:
            readable, writable, _ = select.select([self._side], [self._side], [], LIMIT_S)
            assert readable or writable, f"nobody reads what is typed: {self.screen[-2000:]!r}"
            if readable:
                self.read()
            if writable:
                octets = octets[os.write(self._side, octets[:1024]) :]

    def resize(self, rows: int, columns: int) -> None:
        """Be a window of another size, and say so."""
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    @property
    def plain(self) -> str:
        """What has come, without its styles."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen)

    @property
    def is_cooked(self) -> bool:
        """Whether lines are typed, echoed and interrupted as a shell has it."""
        flags = termios.tcgetattr(self._side)[3]
        wanted = termios.ICANON | termios.ECHO | termios.ISIG
        return flags & wanted == wanted

    def read_rest(self) -> str:
        """Return what is left once the command has ended."""
        return os.read(self._side, 65536).decode()


@contextmanager
def terminal(
    fork: Fork, *arguments: str, columns: str = "80", python: Path | None = None
) -> Iterator[Terminal]:
    """Run a command of the fork in a terminal of its own, by this Python if one is given."""
    ours, theirs = pty.openpty()
    environment = fork.environment(
        TERM="xterm", COLUMNS=columns, LINES="24", PROMPT_TOOLKIT_NO_CPR="1"
    )
    process: Command | subprocess.Popen[bytes]
    if python is None:
        process = COMMANDS.start(
            "agent", *arguments, cwd=fork.folder, env=environment, stdio=(theirs, theirs, theirs)
        )
    else:
        process = subprocess.Popen(
            [python, *AGENT, *arguments],
            cwd=fork.folder,
            env=environment,
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


def test_what_may_not_be_done_twice_is_waited_for(fork):
    """Ctrl-C says at once which call has to end and until when; the prompt is back when it has."""
    fork.replace("agent/hooks.py", 'effect="pure"', 'effect="once"')
    with terminal(fork, "run", OWLS, "--id", "first", columns="120") as window:
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.send_signal(signal.SIGINT)
        window.read_until("and then nobody knows whether it happened")
        fork.let_go()
        ended = time.monotonic()
        window.read_until("run first is given back")
        code = window.process.wait(LIMIT_S)
        took = time.monotonic() - ended

    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(
        rf"stopping: tools\.0/look\.0 may not be done twice, and has until {at} to end",
        window.plain,
    )
    assert code == 130
    assert took < 3, "a second on a machine that does nothing else"
    assert fork.run("first")["journal"][-1]["state"] == "resolved"


def test_leaving_at_once_gives_the_cursor_back(fork):
    """A second Ctrl-C leaves the terminal with its cursor, and says what is not known then."""
    fork.replace("agent/hooks.py", 'effect="pure"', 'effect="once"')
    with terminal(fork, "run", OWLS) as window:
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.send_signal(signal.SIGINT)
        window.read_until("Ctrl-C again leaves at once")
        window.process.send_signal(signal.SIGINT)
        code = window.process.wait(LIMIT_S / 6)
        rest = window.read_rest()

    assert code == 130
    told = "left: nobody knows whether tools.0/look.0 happened"
    assert rest.endswith(f"{SHOW_CURSOR}\r\n{told}\r\n")


async def test_the_answer_is_seen_as_it_comes(tmp_path):
    """The words of an answer are shown as they come; of one that is begun again, none twice."""
    fork = Fork.make(tmp_path)
    half = chat_events("Two owls, and a third.")[:4]
    async with wire(*[stream(*half, ending=Ending.HELD)] * 9) as server:
        silence = 'settings={"read_timeout": 1}'
        model = f'Model("openai-chat:m", base_url="{server.url}/v1", {silence})'
        fork.replace("agent/hooks.py", 'Model("scripted:owls", script=script)', model)

        def watch() -> str:
            with terminal(fork, "run", OWLS) as window:
                window.read_until("Two owls, an")
                window.read_until("again after")
                window.read_until("(begun again)")
                begun = len(window.plain)
                while "Two owls, an" not in window.plain[begun:]:
                    window.read()
                return window.plain

        shown = await asyncio.to_thread(watch)

    assert "said nothing for 1 s" in shown
    assert "Two owls, anTwo" not in shown


def test_a_long_answer_fits_the_terminal(tmp_path):
    """Of words that are more than the terminal has lines the last ones are shown, to the end."""
    fork = Fork.make(tmp_path)
    fork.replace("agent/hooks.py", 'say("Two owls.")', 'say("owl " * 2000 + "the end.")')
    with terminal(fork, "run", OWLS) as window:
        window.read_until("python -m agent show")
        code = window.process.wait(LIMIT_S)

    assert code == 0
    assert window.plain.count("the end.") >= 1
