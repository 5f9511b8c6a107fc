"""`make pictures`: the pictures of the README that are made: of `make demo`, and for dark pages.

The demonstration is run, and what it prints is drawn as a terminal. The overview is drawn by hand
for light pages; the one for dark pages has the same lines in other colours.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

KIT = Path(__file__).resolve().parent.parent
FOLDER = KIT / "docs" / "pictures"
WIDTH = 98

DARK = {
    "#24292f": "#e6edf3",
    "#57606a": "#9198a1",
    "#8c959f": "#6e7681",
    "#f6f8fa": "#151b23",
    "#ffffff": "#0d1117",
    "#d0d7de": "#3d444d",
    "#0969da": "#4493f8",
    "#1a7f37": "#3fb950",
    "#9a6700": "#d29922",
    "#cf222e": "#f85149",
    "#ffebe9": "#25171c",
    "#dafbe1": "#12261e",
}
"""The colours of GitHub's light pages, and what stands for each on its dark ones."""

THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [
        (72, 79, 88),
        (248, 81, 73),
        (63, 185, 80),
        (210, 153, 34),
        (68, 147, 248),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
)
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def main() -> int:
    """Make them."""
    dark = in_dark((FOLDER / "overview-light.svg").read_text(encoding="utf-8"))
    (FOLDER / "overview-dark.svg").write_text(dark, encoding="utf-8")
    (FOLDER / "demo.svg").write_text(drawn(shortened(demonstration())), encoding="utf-8")
    return 0


def in_dark(picture: str) -> str:
    """Return a picture in the colours of dark pages; `KeyError` for a colour that has no other."""
    return re.sub(r"#[0-9a-f]{6}", lambda match: DARK[match[0]], picture)


def demonstration() -> str:
    """Run the demonstration, and return what it prints, with its colours and without its folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, KIT / "examples" / "demo.py"],
            env=os.environ
            | {
                "FORCE_COLOR": "1",
                "TTY_INTERACTIVE": "0",
                "COLUMNS": str(WIDTH),
                "TERM": "xterm",
                "TMPDIR": folder,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout.replace(str(KIT), "KIT").replace(folder, "/tmp")


def shortened(printed: str) -> str:
    """Return the story without its beginning, its third turn to the last, and its end."""
    lines = printed.rstrip().splitlines()

    def at(words: str) -> int:
        return next(i for i, line in enumerate(lines) if words in line)

    story = [*lines[at("2. A run is killed") : at("turn 3")], "        …"]
    end = [line for line in lines[at("answered") : at("Now one of your own")] if line.strip()]
    return "\n".join(story + end)


def drawn(printed: str) -> str:
    """Return what was printed as a picture of a terminal."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(printed))
    # Pages that show a picture load no fonts for it; the names that follow are those of systems.
    picture = _FONTS.sub("", console.export_svg(title="make demo", theme=THEME, unique_id="demo"))
    return picture.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, Consolas")


if __name__ == "__main__":
    sys.exit(main())
