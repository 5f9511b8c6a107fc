"""Where messages come from, and where what is told meanwhile goes: a prompt, or lines of a stream.

Invariants: while a person types, nothing is written but above the prompt, and what they have typed
stays; what is told comes in order. Nobody who waits for a line holds up the end of the process.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.text import Text

from substrate.cli import format as wording
from substrate.cli import keyboard
from substrate.cli.chat.said import PROMPT_SIGN
from substrate.cli.errors import UsageError
from substrate.cli.screen import put

_PIECE = 65_536
_LONGEST = 64_000_000  # bytes of one line: a stream without lines would fill the memory


class Prompt:
    """A prompt at a terminal."""

    def __init__(self, keys: keyboard.Keyboard, screen: Console) -> None:
        self._keys = keys
        self._screen = screen
        self._is_typing = False
        self._told: list[RenderableType] = []
        self._more = asyncio.Event()

    def say(self, *lines: RenderableType) -> None:
        """Print lines; above the prompt, while somebody types there."""
        if self._is_typing:
            self._told += lines
            self._more.set()
        else:
            put(self._screen, *lines)

    async def read(self) -> str | None:
        """Return what is typed next; None at the end. Raises `Interrupted` for Ctrl-C."""
        printed = Printed(self.say, sys.stderr)
        self._is_typing = True
        printing = asyncio.create_task(self._print_above())
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                return await self._keys.message(PROMPT_SIGN)
        except EOFError:
            return None
        finally:
            # It is not cancelled: prompt_toolkit waits for what is printed to be whole.
            self._is_typing = False
            self._more.set()
            await asyncio.wait([printing])
            printed.close_line()
            self._flush()

    async def _print_above(self) -> None:
        from prompt_toolkit.application import run_in_terminal

        while self._is_typing:
            await self._more.wait()
            self._more.clear()
            if self._told and self._is_typing:
                await run_in_terminal(self._flush)

    def _flush(self) -> None:
        told, self._told = self._told, []
        put(self._screen, *told)


class Lines:
    """Lines of standard input, each a message, where that is no terminal."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._rest = bytearray()
        self._has_ended = False

    def say(self, *lines: RenderableType) -> None:
        """Print lines."""
        put(self._screen, *lines)

    async def read(self) -> str | None:
        """Return the next line; None at the end."""
        seen = 0
        while (end := self._rest.find(b"\n", seen)) < 0 and not self._has_ended:
            seen = len(self._rest)
            # Not by a thread, which nobody could take back from a line that does not come.
            await _readable(sys.stdin.fileno())
            piece = os.read(sys.stdin.fileno(), _PIECE)
            self._rest += piece
            if len(self._rest) > _LONGEST and b"\n" not in piece:
                raise UsageError(f"a line of over {_LONGEST:,} bytes is no message")
            self._has_ended = not piece
        if end < 0 and not self._rest:
            return None
        line = self._rest[:end] if end >= 0 else self._rest
        self._rest = self._rest[end + 1 :] if end >= 0 else bytearray()
        return line.decode(errors="replace").strip()


async def _readable(file: int) -> None:
    """Return once there is something to read, or the end."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(file, ready.set)
    except PermissionError:  # a file on a disk, which keeps nobody waiting
        await asyncio.sleep(0)  # nor may it keep a signal waiting, however long it is
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)


class Printed:
    """A stream for what tools print while somebody types: told line by line, from any thread.

    What else a stream is asked, such as its number, the one behind it answers.
    """

    def __init__(self, say: Callable[..., None], behind: IO[str]) -> None:
        self._say = say
        self._behind = behind
        self._loop = asyncio.get_running_loop()
        self._line = ""

    def write(self, text: str) -> int:
        """Take text; tell each line once it is whole."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._tell(line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: a line is told when it is whole."""

    def __getattr__(self, name: str) -> Any:
        """Be asked what else a stream is asked."""
        return getattr(self._behind, name)

    def close_line(self) -> None:
        """Tell a line that has no end."""
        if self._line:
            self.write("\n")

    def _tell(self, line: str) -> None:
        shown: Any = Text(wording.visible(line))
        with suppress(RuntimeError):  # the loop has ended, and so has the talk
            self._loop.call_soon_threadsafe(self._say, shown)


class Warnings(logging.Handler):
    """Tells what the engine warns of where all else is told; any thread may warn."""

    def __init__(self, say: Callable[..., None]) -> None:
        super().__init__()
        self._say = say
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one."""
        with suppress(RuntimeError):  # the loop has ended, and so has the talk
            line = Text(wording.visible(self.format(record)))
            self._loop.call_soon_threadsafe(self._say, line)
