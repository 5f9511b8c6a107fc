"""Where people read: a console over standard error, or over standard output for what was asked for.

Text is printed as it is: no markup, no highlighting. A terminal wraps it between words; a file or
a pipe gets each line whole. Who has stopped reading, as ``head`` does, misses the rest, and keeps
nobody from going on.

Invariant: what is put there cannot move the cursor, turn a line round or hide a word, whoever said
it: see `wording.visible`.
"""

import sys
from typing import IO, cast

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from substrate.cli.format import visible
from substrate.cli.streams import PipeSafeStream

PAPER_WIDTH = 120
"""How wide a page is where there is no terminal to ask."""


def open_screen(*, is_quiet: bool = False) -> Console:
    """Return the console for what is said about a run."""
    return _console(is_error=True, is_quiet=is_quiet)


def open_page() -> Console:
    """Return the console for what a command was asked to show."""
    return _console(is_error=False, is_quiet=False)


def put(console: Console, *lines: RenderableType) -> None:
    """Print each on a line of its own."""
    for line in lines:
        shown = line if console.is_terminal else _whole(line)
        console.print(_Visible(shown), soft_wrap=not console.is_terminal)


def _whole(line: RenderableType) -> RenderableType:
    """Return a line that is indented as one that a page's width does not cut: it has commands."""
    if not isinstance(line, Padding) or not isinstance(line.renderable, Text):
        return line
    indent = " " * line.left
    return Text("\n").join(Text(indent).append_text(each) for each in line.renderable.split("\n"))


class _Visible:
    """Something to be printed, with what is invisible in it shown."""

    def __init__(self, shown: RenderableType) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self._shown, options):
            yield Segment(text if control else visible(text), style, control)


def _console(*, is_error: bool, is_quiet: bool) -> Console:
    stream = cast(IO[str], PipeSafeStream(sys.stderr if is_error else sys.stdout))
    console = Console(file=stream, quiet=is_quiet, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PAPER_WIDTH
    return console
