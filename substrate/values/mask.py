"""`Mask`: hides secrets in what others have written, which may repeat them in another spelling.

A server puts a key that it was sent into its error; a library puts it into a URL. So a secret is
looked for as it is and as JSON, HTML, a URL, base64 (at any offset, as in basic authentication) and
hex spell it, in upper and lower case. Then it is looked for in what the text comes to once escapes
and encodings are undone, since these may take in every letter, and each other.

Pure. Invariants: what is shorter than `SHORTEST` is no secret, since it would be found in
everything; of a longer one no `PIECE` characters in a row are left, so that a text that was cut in
its middle tells no more than that.
"""

import html
import json
import re
from base64 import b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from operator import is_
from typing import Any
from urllib.parse import quote, quote_plus

from substrate.values.spelling import LONGEST_ESCAPE, encoded_in, half_an_escape, unescaped

MASK = "…"
"""What stands in a secret's place."""

SHORTEST = 8
"""How many characters a secret has at least."""

PIECE = 12
"""How many characters in a row of a secret are hidden, also where the rest is not there."""

_LAYERS = 6
"""So many escapes and encodings around each other are undone."""

_LONGEST_NUMBER = 4000
"""In bits of an integer, and in digits of a Decimal: a longer one is no secret."""

_SURE_FLOAT = 2**53
"""A float holds each whole number below."""

Span = tuple[int, int]

LIKE_A_KEY = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z]).{16,}", re.DOTALL)
"""What no text holds by chance, and nobody gives as a key that nobody asks for, like 'lm-studio'"""


class Mask:
    """What hides some secrets. It is true when there are any.

    `are_sure` says that each is known to be one: else that is told by its look.
    """

    __slots__ = ("_halves", "_keys", "_pieces")

    def __init__(self, secrets: Iterable[str], *, are_sure: bool = False) -> None:
        known = {each.strip() for each in secrets if len(each.strip()) >= SHORTEST}
        forms = {form for each in known for form in forms_of(each)}
        #: All pieces of all forms, by their length: as a rule there is one.
        self._pieces: dict[int, frozenset[str]] = {}
        #: What is half as long, of all forms, by the length of the pieces: few texts hold any.
        self._halves: dict[int, frozenset[str]] = {}
        for size in {min(len(form), PIECE) for form in forms}:
            fitting = [form for form in forms if min(len(form), PIECE) == size]
            self._pieces[size] = frozenset(piece for form in fitting for piece in _cut(form, size))
            half = size // 2
            self._halves[size] = frozenset(each for form in fitting for each in _cut(form, half))
        keys = (each for each in known if are_sure or LIKE_A_KEY.fullmatch(each))
        #: Whole forms, in order, of what is surely a key.
        self._keys = sorted({form for key in keys for form in forms_of(key)})

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def hide(self, text: str) -> str:
        """Return the text without the secrets and without pieces of them."""
        found = everywhere(text, self._pieces_in) if self._pieces else []
        return without_spans(text, sorted(found)) if found else text

    def is_in(self, text: str) -> bool:
        """Whether a text holds a secret, or a piece of one."""
        return self.hide(text) != text

    def hide_keys(self, text: str) -> str:
        """Return the text without those secrets that are surely keys, each hidden as a whole.

        For texts that have to stay as they are otherwise: a word that is also somebody's password
        stays, and so does the beginning that all keys of a provider share.
        """
        found = everywhere(text, self._keys_in) if self._keys else []
        return without_spans(text, sorted(found)) if found else text

    def hide_keys_in(self, value: Any) -> Any:
        """Return a JSON value without them; see `hidden_within`."""
        return hidden_within(value, self.hide_keys)

    def begun_at_the_end(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of such a key."""
        if not self._keys:
            return 0
        longest = max(map(len, self._keys))
        count = self._begun(text, longest)
        tail = text[-longest * LONGEST_ESCAPE :]
        half = half_an_escape(tail)
        if (view := unescaped(tail[: len(tail) - half])) is None:
            return max(count, half)
        if begun := self._begun(view.text, longest):
            start, _ = view.span(len(view.text) - begun, len(view.text))
            return max(count, len(tail) - start)
        return max(count, half)

    def _begun(self, text: str, longest: int) -> int:
        """Return how many characters at its end, as they stand, may be the beginning of a key."""
        low = lower(text[-longest:])
        for count in range(min(len(low), longest - 1), 0, -1):
            begun = low[-count:]
            place = bisect_left(self._keys, begun)
            if place < len(self._keys) and self._keys[place].startswith(begun):
                return count
        return 0

    def _pieces_in(self, text: str) -> list[Span]:
        """Return where pieces of secrets stand in a text, as it is written."""
        low = lower(text)
        found: list[Span] = []
        for size, pieces in self._pieces.items():
            half, halves = size // 2, self._halves[size]
            # Of the halves that begin at every so many letters each piece holds exactly one, so
            # no other letter need be looked at, but around a half that is one of a secret.
            step = size - half + 1
            found += [
                (start, start + size)
                for at in range(0, len(low) - half + 1, step)
                if low[at : at + half] in halves
                for start in range(max(0, at - step + 1), at + 1)
                if low[start : start + size] in pieces
            ]
        return found

    def _keys_in(self, text: str) -> list[Span]:
        """Return where whole keys stand in a text, as it is written."""
        low = lower(text)
        return [span for form in self._keys if form in low for span in spans_of(form, low)]


def hidden_within(value: Any, hide: Callable[[str], str]) -> Any:
    """Return a JSON value with `hide` done to all that tells something in it.

    Those are its texts, the names of its fields, its bytes, also as a list of numbers, and its
    numbers, in whose place a text stands. A value in which nothing is hidden is returned itself.
    """
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        made = {hidden_within(key, hide): hidden_within(each, hide) for key, each in value.items()}
        is_same = all(map(is_, made, value)) and all(map(is_, made.values(), value.values()))
        return value if is_same else made
    if isinstance(value, (list, tuple)):
        if _are_octets(value) and (octets := bytes(value)) != (left := _without_in(octets, hide)):
            return list(left)
        within = [hidden_within(each, hide) for each in value]
        return value if all(map(is_, within, value)) else within
    if isinstance(value, (bytes, bytearray)):
        return _without_in(value, hide)
    if isinstance(value, (int, float, Decimal)):
        digits = _digits(value)
        return value if hide(digits) == digits else MASK
    return value


def _without_in(octets: bytes | bytearray, hide: Callable[[str], str]) -> bytes | bytearray:
    text = octets.decode("latin-1")
    hidden = hide(text)
    if hidden == text:
        return octets
    return MASK.encode().join([each.encode("latin-1") for each in hidden.split(MASK)])


def _are_octets(values: list[Any] | tuple[Any, ...]) -> bool:
    """Whether these may be bytes as numbers, and enough for a secret."""
    return len(values) >= SHORTEST and all(type(each) is int and 0 <= each < 256 for each in values)


def _digits(value: float | Decimal) -> str:
    """Return a number's digits; ``""`` of what is too short, or too long, for a secret."""
    if isinstance(value, int):
        is_any = abs(value) >= 10 ** (SHORTEST - 1) and value.bit_length() < _LONGEST_NUMBER
        return str(int(value)) if is_any else ""
    if isinstance(value, float):
        return f"{value:.17g}" if value.is_integer() and abs(value) < _SURE_FLOAT else ""
    is_plain = value.is_finite() and abs(value.adjusted()) < _LONGEST_NUMBER
    return format(value, "f") if is_plain else ""


def everywhere(text: str, find: Callable[[str], list[Span]], layers: int = _LAYERS) -> list[Span]:
    """Return where a text holds what is looked for, in whatever it is wrapped; in no order.

    Of what is encoded it is not known which letters stand for which: all of it is found.
    """
    found = find(text)
    if layers == 0:
        return found
    if view := unescaped(text):
        found += [view.span(*each) for each in everywhere(view.text, find, layers - 1)]
    for decoded, start, stop in encoded_in(text):
        if everywhere(decoded, find, layers - 1):
            found.append((start, stop))
    return found


def spans_of(form: str, text: str) -> Iterator[Span]:
    """Yield where a form stands in a text in lower case."""
    return ((each.start(), each.end()) for each in re.finditer(re.escape(form), text))


def forms_of(secret: str) -> Iterator[str]:
    """Yield a secret in lower case as others may spell it."""
    octets = secret.encode(errors="surrogatepass")
    plain = [secret, repr(octets)[2:-1], octets.hex(), octets.decode("latin-1"), *_base64(octets)]
    for each in plain:
        for spelled in (
            each,
            quote(each, safe="", errors="surrogatepass"),
            quote_plus(each, safe="/", errors="surrogatepass"),
            json.dumps(each)[1:-1],
            json.dumps(each, ensure_ascii=False)[1:-1],
            each.replace("/", "\\/"),
            each.replace("\\", "\\\\").replace("'", "\\'"),
            ascii(each)[1:-1],
            json.dumps(ascii(each)[1:-1])[1:-1],
            html.escape(each),
        ):
            yield lower(spelled)


def _base64(octets: bytes) -> Iterator[str]:
    """Yield what is surely of it in base64, wherever it stands in what is encoded."""
    for before in range(3):
        whole = b64encode(b"\0" * before + octets).decode()
        first, last = -(-before * 8 // 6), (before + len(octets)) * 8 // 6
        found = whole[first:last]
        yield from (found, found.replace("+", "-").replace("/", "_"))


def _cut(form: str, size: int) -> Iterator[str]:
    return (form[start : start + size] for start in range(len(form) - size + 1))


def lower(text: str) -> str:
    """Return a text of the same length whose ASCII is lower case."""
    if text.isascii():
        return text.lower()
    # `bytes.lower` knows ASCII alone, and no octet of another letter in UTF-8 is of ASCII.
    return text.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")


def without_spans(text: str, found: Iterable[tuple[int, int]]) -> str:
    """Return a text with a mask in place of each stretch; those that touch are one."""
    parts: list[str] = []
    end = -1
    for start, stop in found:
        if start >= end:
            parts += [text[max(end, 0) : start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])
