"""What a text spells: escapes and encodings undone, and where each character of that stood.

A server may repeat a key with every letter escaped, as URLs, HTML, JSON or Python do it, or may
encode what holds the key. Undone once, that may be escaped or encoded again: who reads a view takes
it as any other text.

Pure. Invariants: the time is linear in the text; one without escapes costs a look at each letter.
"""

import re
from binascii import a2b_base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.entities import html5

LONGEST_ESCAPE = 12
"""How many characters an escape of one letter takes, as servers write them."""

_ESCAPE = r"""(?x) %[uU](?P<wide>[0-9A-Fa-f]{4}) | %(?P<octet>[0-9A-Fa-f]{2})
    | &\#(?P<decimal>[0-9]{1,7});? | &\#[xX](?P<point>[0-9A-Fa-f]{1,6});?
    | &(?P<name>[A-Za-z][A-Za-z0-9]{1,30};)
    | \\+ (?: u(?P<unit>[0-9A-Fa-f]{4}) | u\{(?P<braced>[0-9A-Fa-f]{1,6})\}
        | U(?P<long>[0-9A-Fa-f]{8}) | x(?P<byte>[0-9A-Fa-f]{2}) | (?P<octal>[0-7]{3})
        | (?P<sign>["'/<>&=+]) )"""
"""Several backslashes are one: what was escaped twice has two, or four."""

_HALF = r"""(?x) (?: %[uU]?[0-9A-Fa-f]{0,3} | &(?:\#[xX]?[0-9A-Fa-f]{0,7} | [A-Za-z0-9]{0,30})
    | \\+(?: [uUx]\{?[0-9A-Fa-f]{0,7} | [0-7]{0,2} )? )\Z"""

_BASE64 = r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}(?:(?:\\[rn]|\s){1,4}[A-Za-z0-9+/_-]{4,})*"
_BREAK = r"\\[rn]|\s"
_HEX = r"(?:(?:0[xX])?[0-9A-Fa-f]{2}[\s,:;=-]{0,2}){7,}(?:0[xX])?[0-9A-Fa-f]{2}"
_DECIMAL = r"(?<![0-9])(?:[0-9]{2,3}[\s,;]{1,2}){7,}[0-9]{2,3}(?![0-9])"
_URL_SAFE = str.maketrans("-_", "+/")
_LAST = 0x110000


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern, compiled when it is first asked for: all of them take milliseconds."""
    return re.compile(pattern)


@dataclass(frozen=True, slots=True)
class View:
    """A text without its escapes. `_at` has where each stretch begins, `_from` where it stood.

    Those of odd number are escapes, of one character each; the others stand as they stood.
    """

    text: str
    _at: Sequence[int]
    _from: Sequence[int]

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return where a stretch of this text, which is not empty, stood in the other."""
        return self._place(start, 0), self._place(stop - 1, 1)

    def _place(self, index: int, after: int) -> int:
        stretch = bisect_right(self._at, index) - 1
        if stretch % 2:
            return self._from[stretch + after]
        return self._from[stretch] + index - self._at[stretch] + after


def unescaped(text: str) -> View | None:
    """Return a text with its escapes undone; None where it has none.

    An octet stands for the character of its number: a text of UTF-8 is known by those.
    """
    parts: list[str] = []
    at, origin = [0], [0]
    length = end = 0
    for found in _compiled(_ESCAPE).finditer(text):
        if (sign := _sign(found)) is None:
            continue
        parts += (text[end : found.start()], sign)
        length += found.start() - end
        end = found.end()
        at += (length, length + 1)
        origin += (found.start(), end)
        length += 1
    if not parts:
        return None
    parts.append(text[end:])
    return View("".join(parts), at, origin)


def half_an_escape(text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of an escape."""
    found = _compiled(_HALF).search(text, max(0, len(text) - 40))
    return len(text) - found.start() if found else 0


def encoded_in(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield what stretches of a text stand for in base64, in hex and in decimal, and where."""
    for found in _compiled(_BASE64).finditer(text):
        letters = _compiled(_BREAK).sub("", found[0]).translate(_URL_SAFE)
        for skipped in range(4):  # what stands before it may be of its letters
            size = len(letters) - skipped
            whole = letters[skipped : len(letters) - (size % 4 == 1)]  # one letter alone is nothing
            yield a2b_base64(f"{whole}==").decode("latin-1"), found.start(), found.end()
    for found in _compiled(_HEX).finditer(text):
        digits = re.sub(r"0[xX]|[^0-9A-Fa-f]", "", found[0])
        for skipped in range(2):
            yield _of_hex(digits[skipped:]), found.start(), found.end()
    for found in _compiled(_DECIMAL).finditer(text):
        numbers = [int(each) for each in re.findall("[0-9]+", found[0])]
        yield "".join(chr(each) for each in numbers), found.start(), found.end()


def _of_hex(digits: str) -> str:
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("latin-1")


def _sign(found: re.Match[str]) -> str | None:
    """Return the character that an escape stands for; None where it stands for none."""
    kind, written = found.lastgroup, found[found.lastgroup or 0]
    if kind == "sign":
        return written
    if kind == "name":
        sign = html5.get(written, "")
        return sign if len(sign) == 1 else None
    number = int(written, {"decimal": 10, "octal": 8}.get(kind or "", 16))
    return chr(number) if number < _LAST else None
