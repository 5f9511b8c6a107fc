"""From bytes to readable text.

HTML becomes plain text that keeps what a reader goes by: headings, list items, table cells, and
links as ``[words](address)``. Everything else that is text stays as it is.

Invariants: any bytes are read without an error; the work grows with the page's length and no
faster, whatever the page, and stops when nobody waits for it. So the parser is never told that its
input has ended, which would make it search the rest again from every ``<``.
"""

import codecs
import re
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urljoin

_TEXT_TYPES = frozenset(
    {
        *("application/json", "application/xml", "application/xhtml+xml", "application/yaml"),
        *("application/javascript", "application/ecmascript", "application/x-ndjson"),
        *("application/jsonl", "application/toml", "application/sql", "application/graphql"),
        *("application/x-yaml", "application/x-sh", "application/ld+json", "image/svg+xml"),
    }
)
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE)
_HTML_START = re.compile(r"\s*(?:<!--[^>]*-->\s*)?<(?:!doctype html|html)\b", re.IGNORECASE)
# References to characters that there are not: Python's own reading of them refuses long numbers.
_ZEROS = re.compile(r"&#0+(?=[0-9])")
# One that begins no tag is a character, as it is in an attribute; the parser takes each by itself.
_NO_TAG = re.compile(r"<(?![A-Za-z/!?])")
_NO_CHARACTER = re.compile(r"&#[1-9][0-9]{7,};?")
# Codecs of Python that no page is written in, and that take quadratic time.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape"})

_MARKED = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SKIPPED = frozenset({"script", "style", "template", "svg", "iframe", "object", "canvas"})
_MARKS = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"li": "- "}
_PARAGRAPHS = frozenset(
    {
        *("p", "ul", "ol", "dl", "table", "pre", "blockquote", "figure", "form", "section"),
        *("article", "main", "aside", "title", "h1", "h2", "h3", "h4", "h5", "h6"),
    }
)
_LINES = frozenset(
    {
        *("div", "li", "tr", "dt", "dd", "br", "hr", "header", "footer", "nav", "caption"),
        *("figcaption", "option", "summary", "address"),
    }
)


def is_text(media_type: str) -> bool:
    """Say whether a page of this media type, in lower case and without parameters, is text."""
    return (
        media_type.startswith("text/")
        or media_type in _TEXT_TYPES
        or media_type.endswith(("+json", "+xml", "+yaml"))
    )


class NotRead(Exception):
    """The page came, and no text was made of it. The message is for the model."""


def readable(
    body: bytes,
    media_type: str,
    charset: str | None,
    url: str,
    is_left: Callable[[], bool] = lambda: False,
) -> str:
    """Return the page as text. `url` is what its links are relative to.

    Raises `NotRead` soon after `is_left` says that nobody waits for it.
    """
    is_html = media_type in _HTML_TYPES
    if is_html and not charset and (found := _META_CHARSET.search(body[:1024])):
        charset = found[1].decode("ascii")
    text = _decode(body, charset)
    if not media_type and _HTML_START.match(text[:1024]):
        is_html = True
    return _html_text(text, url, is_left) if is_html else text


def _decode(body: bytes, charset: str | None) -> str:
    for mark, name in _MARKED:
        if body.startswith(mark):
            charset = name
    try:
        name = codecs.lookup(charset or "utf-8").name.replace("-", "_")
        text = body.decode("utf-8" if name in _NO_CHARSETS else name, errors="replace")
    except (LookupError, ValueError):
        text = body.decode(errors="replace")
    return text.replace("\0", "\ufffd")


def _html_text(html: str, url: str, is_left: Callable[[], bool]) -> str:
    html = _NO_TAG.sub("&lt;", _NO_CHARACTER.sub("\ufffd", _ZEROS.sub("&#", html)))
    reader = _Reader(url, is_left)
    reader.feed(html + "\n")  # without it, a last word with an & in it is held back
    return reader.text()


class _Reader(HTMLParser):
    """Collects a page's words. Used once: fed, then read."""

    def __init__(self, url: str, is_left: Callable[[], bool]) -> None:
        super().__init__()
        self._url = url
        self._is_left = is_left
        self._pieces: list[str] = []
        self._skipping = 0
        self._verbatim = 0
        self._link: tuple[int, str] | None = None

    def text(self) -> str:
        """Return what was collected, without empty lines in a row."""
        self._end_link()
        lines = [line.rstrip() for line in "".join(self._pieces).split("\n")]
        kept = [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]
        return "\n".join(kept).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        self._look()
        if tag in _SKIPPED:
            self._skipping += 1
        if self._skipping:
            return
        self._break(tag)
        if mark := _MARKS.get(tag):
            self._pieces.append(mark)
        if tag == "pre":
            self._verbatim += 1
        elif tag in {"td", "th"} and not self._at_line_start():
            self._pieces.append(" | ")
        elif tag == "a":
            self._begin_link(dict(attrs).get("href"))
        elif tag == "img" and (words := dict(attrs).get("alt")):
            self.handle_data(f"[image: {words}]")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        self._look()
        if tag in _SKIPPED:
            self._skipping = max(0, self._skipping - 1)
        elif not self._skipping:
            if tag == "a":
                self._end_link()
            elif tag == "pre":
                self._verbatim = max(0, self._verbatim - 1)
            self._break(tag)

    def handle_data(self, data: str) -> None:
        """Take words; outside of ``<pre>``, white space is one space."""
        self._look()
        if self._skipping:
            return
        if not self._verbatim:
            data = re.sub(r"\s+", " ", data)
            if self._at_line_start() or self._pieces[-1].endswith(" "):
                data = data.removeprefix(" ")
        if data:
            self._pieces.append(data)

    def parse_html_declaration(self, i: int) -> int:
        """Pass over ``<!…>``, of which the parser's own reading knows pages that it refuses."""
        if self.rawdata.startswith("<!--", i):
            return self.parse_comment(i)
        return self.rawdata.find(">", i) + 1 or -1

    def _look(self) -> None:
        if self._is_left():
            raise NotRead("nobody waits for the page's text any more")

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._pieces.append("\n\n")
        elif tag in _LINES and not self._at_line_start():
            self._pieces.append("\n")

    def _at_line_start(self) -> bool:
        return not self._pieces or self._pieces[-1].endswith("\n")

    def _begin_link(self, target: str | None) -> None:
        self._end_link()
        if target and not target.startswith("#"):
            try:
                address = urljoin(self._url, target.strip())
            except ValueError:  # such as an unclosed [ in a host
                return
            if address.startswith(("http://", "https://")):
                self._pieces.append("[")
                self._link = (len(self._pieces), address)

    def _end_link(self) -> None:
        if self._link is None:
            return
        begin, address = self._link
        self._link = None
        if "".join(self._pieces[begin:]).strip():
            self._pieces.append(f"]({address})")
        else:
            self._pieces[begin - 1] = ""
