"""The pictures of the README show what is: the overview on any page, what `make demo` prints."""

import re
from html import unescape

from tests.pictures import FOLDER, KIT, demonstration, drawn, in_dark, shortened


def lines(picture: str) -> list[str]:
    """Return what a picture of a terminal says, without figures, and in no order.

    Tools that are called side by side end in any order, and take as long as they take.
    """
    rows: dict[str, str] = {}
    for clip, text in re.findall(
        r'<text [^>]*clip-path="url\(#(.*?)\)"[^>]*>(.*?)</text>', picture
    ):
        rows[clip] = rows.get(clip, "") + unescape(text)
    return sorted(re.sub(r"[\d.,]+", "0", " ".join(row.split())) for row in rows.values())


def test_the_demonstration_is_what_is_drawn():
    """`make demo` kills, goes on, proves that the calls are as many; it prints what is drawn."""
    printed = demonstration()
    there = (FOLDER / "demo.svg").read_text(encoding="utf-8")

    for line in ("8 tool calls with the crash,", "8 tool calls in a run that was never killed"):
        assert f"5 model calls, {line}" in printed
        assert f"5 model calls, {line}" in (KIT / "README.md").read_text(encoding="utf-8")
    assert lines(drawn(shortened(printed))) == lines(there)  # else: make pictures


def test_dark_is_light_in_other_colours():
    """The overview for dark pages is the one for light pages, in the colours of dark pages."""
    light = (FOLDER / "overview-light.svg").read_text(encoding="utf-8")
    dark = (FOLDER / "overview-dark.svg").read_text(encoding="utf-8")

    assert dark == in_dark(light)  # else: make pictures
