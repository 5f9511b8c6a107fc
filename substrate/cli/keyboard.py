"""Where a person types: lines at a terminal, with its editing keys; prompt_toolkit, when needed.

It reads standard input and draws on standard error, so that standard output stays what was asked
for. Ctrl-C is a key here and raises `Interrupted`; Ctrl-D on an empty line, `EOFError`.
"""

import os
import re
import select
import sys
import termios
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from substrate.installed import how_to_add
from substrate.values.errors import Misuse

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class Interrupted(Exception):
    """Ctrl-C was pressed. No `KeyboardInterrupt`: in a task, that ends the event loop."""


class KeyboardMissing(Misuse):
    """What is typed at a terminal needs prompt_toolkit, which is not installed."""


def is_there() -> bool:
    """Whether a person can be asked: somebody sits at a terminal, and lines can be typed there."""
    return is_at_terminal() and _is_installed()


def is_at_terminal() -> bool:
    """Whether both ends are a terminal, and one that can be drawn on."""
    if os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return all(each is not None and each.isatty() for each in (sys.stdin, sys.stderr))


def check_installed() -> None:
    """Raise `KeyboardMissing`, with the command that installs it, where nothing can be typed."""
    if not _is_installed():
        raise KeyboardMissing(
            "typing at a terminal needs prompt-toolkit, which is not installed; install it: "
            f"{how_to_add('chat')}; without it, each line of standard input is a message: "
            "echo '…' | … chat"
        )


def _is_installed() -> bool:
    return find_spec("prompt_toolkit") is not None


class Keyboard:
    """Asks for a line at a time. Made where `is_there` says so."""

    def __init__(self) -> None:
        self._pasted: dict[str, str] = {}
        self._messages: PromptSession[str] = _session(keeps_history=True)
        self._lines: PromptSession[str] = _session(keeps_history=False)

    def forget_typed(self) -> bool:
        """Forget what was typed until now, and return whether there was any.

        It was typed for what was on the screen then. Called right before a question that decides
        something, so that no key decides what nobody has seen.
        """
        from prompt_toolkit.input.typeahead import get_typeahead

        # Unread in the terminal, and what an earlier prompt had read beyond its own end.
        waiting = select.select([sys.stdin], [], [], 0)[0] != []
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        ahead = [key for each in (self._messages, self._lines) for key in get_typeahead(each.input)]
        return waiting or ahead != []

    async def line(self, prompt: str, default: str = "") -> str:
        """Return one line that is typed."""
        said: str = await self._lines.prompt_async(
            prompt, default=default, handle_sigint=False, enable_suspend=True
        )
        return _text(said).strip()

    async def message(self, prompt: str) -> str:
        """Return a message of one line or several, without blanks around it.

        Enter ends it; Alt+Enter, or a backslash before Enter, begins a new line. What is pasted
        keeps its lines; where it is long, a mark stands for it while the message is edited.
        """
        said: str = await self._messages.prompt_async(
            prompt,
            multiline=True,
            key_bindings=_keys(self._mark),
            prompt_continuation=" " * len(prompt),
            handle_sigint=False,
            enable_suspend=True,
        )
        whole = _MARK.sub(lambda found: self._pasted.get(found[0], found[0]), said)
        return _text(whole).strip()

    def _mark(self, pasted: str) -> str:
        """Return what stands for a text that was pasted: itself, unless it is long.

        Each key has the whole message drawn again, which takes seconds for a megabyte.
        """
        if len(pasted) <= LONG_PASTE:
            return pasted
        mark = f"[paste {len(self._pasted) + 1}: {len(pasted):,} characters]"
        self._pasted[mark] = pasted
        return mark


def _text(typed: str) -> str:
    """Return what was typed as text, where the terminal's encoding made none of it.

    Half a character would go into the journal as it is, and fail where code makes bytes of it.
    """
    return typed.encode(errors="surrogateescape").decode(errors="replace")


LONG_PASTE = 4_000
"""So many characters that are pasted are shown as they are."""

_MARK = re.compile(r"\[paste \d+: [\d,]+ characters\]")


def _session(*, keeps_history: bool) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import DummyHistory, InMemoryHistory
    from prompt_toolkit.input import create_input
    from prompt_toolkit.output import create_output

    return PromptSession(
        input=create_input(sys.stdin),
        output=create_output(sys.stderr),
        interrupt_exception=Interrupted,
        # On no disk: what people type is in the run, and an answer may be a secret.
        history=InMemoryHistory() if keeps_history else DummyHistory(),
    )


def _keys(mark: Callable[[str], str]) -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()

    @keys.add(Keys.BracketedPaste)
    def paste(event: "KeyPressEvent") -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(mark(text))

    @keys.add("enter")
    def send(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def begin_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    return keys
