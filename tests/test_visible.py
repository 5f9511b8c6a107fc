"""What a terminal shows is what was said: nothing in it is hidden, and nothing moves it about."""

import json
import sys
from unicodedata import category

import pytest

from substrate.cli.format import visible, visible_json

IGNORABLE = [
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, 0xFEFF),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *(0xFFA0, *range(0xFFF0, 0xFFF9)),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE1000),
]
"""Default_Ignorable_Code_Point of the Unicode Character Database, version 16."""


_IGNORABLE = frozenset(IGNORABLE)


def test_all_characters():
    """Each character that formats, separates, controls, or has no look is shown as its number."""
    for number in range(sys.maxunicode + 1):
        sign = chr(number)
        is_hidden = category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs") or number in _IGNORABLE
        if category(sign) == "Cn" and number not in _IGNORABLE:
            continue  # what it will be is not known here
        is_shown = visible(f"a{sign}b") == f"a{sign}b"

        assert is_shown is (not is_hidden or sign in "\n\t"), f"U+{number:04X}"


def test_noncharacters():
    """What is no character is shown as its number."""
    for number in (0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF):
        assert visible(chr(number)) == (
            f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
        )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("approve: refund \u202e01 €", "approve: refund \\u202e01 €"),
        ("\x1b[2J\x9b1m\x07\x7f", "\\x1b[2J\\x9b1m\\x07\\x7f"),
        ("a\u200bb\u2066c\u2069", "a\\u200bb\\u2066c\\u2069"),
        ("one\u2028two", "one\\u2028two"),
        ("\U000e0041\ufe01\u3164", "\\U000e0041\\ufe01\\u3164"),
        ("pay\u200dpal, pay\u200cpal", "pay\\u200dpal, pay\\u200cpal"),
        ("x\ufe0f", "x\\ufe0f"),
        ("❤\ufe0f\ufe0f", "❤\ufe0f\\ufe0f"),
        ("a line\nand a\ttab", "a line\nand a\ttab"),
        # What is needed to read: emoji of several parts, and letters that are joined or not.
        ("👩\u200d🔬 👨🏽\u200d🚀 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 ⚠\ufe0f ↔\ufe0f", None),
        ("می\u200cخواهم क्\u200dष", None),
        ("قال \u0644", None),
    ],
)
def test_texts(text, expected):
    """What could deceive is shown; emoji and joined scripts are left as they are."""
    assert visible(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    "text", ["\u202e", "a\u2028b", "\x9b1m\x7f", "\U000e0041", "👩\u200d🔬", "\ud800"]
)
def test_json(text):
    """JSON that is shown is of the same value, and nothing in it is hidden."""
    written = json.dumps({text: [text]}, ensure_ascii=False)

    shown = visible_json(written)

    assert json.loads(shown) == {text: [text]}
    assert visible(shown) == shown
