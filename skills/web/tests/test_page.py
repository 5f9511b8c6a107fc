"""A page comes as text that can be read: words and structure, no markup, no binary."""

from encodings.aliases import aliases
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.web import fetch_url
from skills.web.fetch import FetchFailed
from skills.web.page import NotRead, readable

PAGE = """<!DOCTYPE html>
<html><head><title>Fruit &amp; more</title><style>p { color: red }</style>
<script>if (a < b) { alert("<p>no</p>") }</script></head>
<body><!-- a comment --><nav><a href="/">Home</a></nav>
<h1>Fruit</h1><p>Red   <b>apples</b>
and <a href="pears?x=1&amp;y=2">green pears</a>.</p>
<ul><li>one</li><li>two<ul><li>three</ul></ul>
<table><tr><th>Name</th><th>Price</th></tr><tr><td>Apple</td><td>1&nbsp;€</td></tr></table>
<pre>
def f():
    return 1
</pre>
<p><a href="#top">up</a> <a href="javascript:x()">no</a> <a href="/img"><img alt="a pear"></a>
<a href="/empty"></a><svg><text>drawn</text></svg><template><p>later</p></template></p>
Tom & Jerry, AT&T</body></html>"""

TEXT = """Fruit & more

[Home](http://h.test/)

# Fruit

Red apples and [green pears](http://h.test/a/pears?x=1&y=2).

- one
- two

- three

Name | Price
Apple | 1 €

def f():
    return 1

up no [[image: a pear]](http://h.test/img)

Tom & Jerry, AT&T"""


async def test_a_page_comes_with_where_it_is_from(site):
    """A result has the final address, the status, the type as sent, and the text."""
    site.page("/end", "<p>hello</p>", "text/html; charset=utf-8")
    url = site.redirect("/", "end")

    result = await fetch_url(allow_private=True).function(url)

    assert result == {
        "url": site.url("/end"),
        "status": 200,
        "content_type": "text/html; charset=utf-8",
        "text": "hello",
        "truncated": False,
    }


async def test_an_error_page_is_a_result(site):
    """A page of an error status is read like any other."""
    url = site.page("/", "not here", status="404 Not Found")

    result = await fetch_url(allow_private=True).function(url)

    assert (result["status"], result["text"]) == (404, "not here")


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json; charset=utf-8"])
async def test_json_stays_as_it_is(site, kind):
    """What is text and no HTML is not touched."""
    url = site.page("/", '{"a": "<b>"}', kind)

    result = await fetch_url(allow_private=True).function(url)

    assert result["text"] == '{"a": "<b>"}'


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "Application/Octet-Stream; x=1"])
async def test_binary_is_refused_by_its_type(site, kind):
    """What is not text is refused by the name of its type."""
    url = site.page("/", b"\x89PNG", kind)

    with pytest.raises(FetchFailed, match=f"'{kind.partition(';')[0].lower()}', not text"):
        await fetch_url(allow_private=True).function(url)


async def test_a_page_without_a_type_is_judged_by_its_bytes(site):
    """Without a type, HTML and text are recognised, and binary is refused."""
    tool = fetch_url(allow_private=True)
    site.page("/html", "\n<!doctype html><p>a</p><p>b</p>", None)
    site.page("/text", "1 < 2", None)
    site.page("/binary", b"\x89PNG\0\0", None)

    html = await tool.function(site.url("/html"))
    text = await tool.function(site.url("/text"))

    assert (html["text"], text["text"]) == ("a\n\nb", "1 < 2")
    with pytest.raises(FetchFailed, match="'of no type', not text"):
        await tool.function(site.url("/binary"))


def test_html_becomes_readable_text():
    """Headings, lists, tables, links and verbatim text are kept; scripts and styles are not."""
    assert readable(PAGE.encode(), "text/html", "utf-8", "http://h.test/a/b") == TEXT


@pytest.mark.parametrize(
    "body, charset",
    [
        ("naïve €".encode("cp1252"), "windows-1252"),
        ("naïve €".encode(), None),
        (b'<meta charset="windows-1252">' + "naïve €".encode("cp1252"), None),
        (b"\xef\xbb\xbf" + "naïve €".encode(), "latin-1"),
        ("naïve €".encode("utf-16"), "utf-8"),
        ("naïve €".encode(), "no-such-charset"),
        ("naïve €".encode(), "hex"),
        ("naïve €".encode(), "punycode"),
    ],
)
def test_charsets(body, charset):
    """A page is decoded by its byte order mark, its header or its meta element, else as UTF-8."""
    assert readable(body, "text/html", charset, "http://h.test/") == "naïve €"


def test_a_codec_that_is_no_charset_is_not_used():
    """A name that only Python takes for an encoding, and that takes long, is passed over."""
    assert readable(b"hello-kva", "text/plain", "punycode", "http://h.test/") == "hello-kva"


def test_bytes_that_are_no_text_are_marked():
    """What can't be decoded, and NUL, become the replacement character."""
    assert readable(b"a\xffb\0c", "text/plain", "utf-8", "http://h.test/") == "a�b�c"


def test_the_last_words_are_not_lost():
    """A page that ends in the middle of a paragraph is read to its end."""
    body = b"<p>Tom & Jerry, AT&T"

    assert readable(body, "text/html", "utf-8", "http://h.test/") == "Tom & Jerry, AT&T"


@pytest.mark.parametrize(
    "reference, character",
    [
        ("&#65;", "A"),
        ("&#0000000000065;", "A"),
        ("&#" + "0" * 900_000 + "65;", "A"),
        ("&#x41;", "A"),
        ("&#x" + "0" * 900_000 + "41;", "A"),
        ("&#1114112;", "\ufffd"),
        ("&#" + "9" * 8 + ";", "\ufffd"),
        ("&#" + "9" * 900_000 + ";", "\ufffd"),
        ("&#" + "9" * 900_000, "\ufffd"),
        ("&#x" + "f" * 900_000 + ";", "\ufffd"),
        ("&#0;", "\ufffd"),
        ("&#xd800;", "\ufffd"),
    ],
    ids=range(12),
)
def test_references_to_characters(reference, character):
    """A reference of any length is read as HTML says, in text and in an attribute."""
    body = f'<p>a{reference}<img alt="b{reference}">'.encode()

    text = readable(body, "text/html", "utf-8", "http://h.test/")

    assert text == f"a{character}[image: b{character}]"


PIECES = ["<", ">", "&", "&#", "&#x", ";", "9" * 5000, "0" * 5000, "!", "[", "]", "--", "/", "="]
PIECES += [
    '"',
    "'",
    " ",
    "\n",
    "\0",
    "a",
    "p",
    "href",
    "script",
    "pre",
    "ü",
    "\ud800",
    "CDATA",
    "?",
]
PIECES += [
    "http://[",
    "?",
    "title",
    "td",
    "amp",
    "textarea",
    "plaintext",
    "svg",
    "%00",
    "\r",
    "\ufeff",
]


@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_markup_is_read(pieces):
    """No markup, however broken, is an error."""
    body = "".join(pieces).encode(errors="surrogatepass")

    for kind in ("text/html", ""):
        text = readable(b"<html>" + body, kind, None, "http://h.test/")
        assert (text, "\0" in text) == (text.strip(), False)
        assert text.encode().decode() == text, "it can be recorded"


@given(
    body=st.binary(max_size=200), charset=st.sampled_from([None, *sorted(set(aliases.values()))])
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_read(body, charset):
    """No bytes in any encoding that Python knows are an error."""
    for kind in ("text/html", "text/plain", ""):
        text = readable(body, kind, charset, "http://h.test/")
        assert "\0" not in text
        assert text.encode().decode() == text, "it can be recorded"


def test_reading_stops_when_nobody_waits():
    """A page that nobody waits for any more is not read to its end."""
    asked = []

    with pytest.raises(NotRead):
        readable(
            b"<p>x" * 100_000,
            "text/html",
            "utf-8",
            "http://h.test/",
            lambda: bool(asked.append(1)) or len(asked) > 10,
        )

    assert len(asked) == 11


HOSTILE = [
    *("<a", "<!--", "<![", "<![>", "<!", "</", "<a x=", "&", "&#", '<a href="', "<?", "<script>"),
    *(
        "<p>",
        " ",
        "<a href=x>",
        "<![CDATA[",
        "<div>",
        "<pre>\n",
        "<a '",
        "<title>",
        "<td>",
        "<svg>",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_markup_is_read_in_linear_time(piece):
    """Half a megabyte of markup that never closes takes about as long as any other page."""
    body = b"<p>hello</p>" + piece.encode() * (500_000 // len(piece))
    begun = process_time()

    text = readable(body, "text/html", "utf-8", "http://h.test/")

    assert text.startswith("hello")
    assert process_time() - begun < 5
