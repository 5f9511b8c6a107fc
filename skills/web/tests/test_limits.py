"""A fetch ends: by size, by time, by number of redirects."""

import asyncio
import gzip
import socket
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from time import monotonic, process_time

import pytest

from skills.web import fetch_url
from skills.web.fetch import Fetched, FetchFailed
from skills.web.page import NotRead, readable
from skills.web.tools import MAX_TEXT, text_of
from substrate.agent.own_threads import OwnThreads

SHORT = timedelta(milliseconds=200)


async def endless(_reader, writer):
    """Send a page that has no end, until the other side closes the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 10_000)
        await writer.drain()


def stream_of(begin, piece):
    """Return an answer of a beginning and then one piece without end, as fast as it is taken."""

    async def answer(_reader, writer):
        writer.write(begin)
        while not writer.is_closing():
            writer.write(piece * (10_000 // len(piece) + 1))
            await writer.drain()

    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
# An empty stored block of deflate, which is no end.
ZIPPED = CHUNKED + b"Content-Encoding: deflate\r\n\r\n2\r\n\x78\x9c\r\n"
TRICKS = {
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints with headers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>; rel=preload\r\n\r\n"),
    "headers": (OK, b"X-A: b\r\n"),
    "one header": (OK + b"X-A: ", b"b"),
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "one-byte chunks": (CHUNKED + b"\r\n", b"1\r\nx\r\n"),
    "chunk extensions": (CHUNKED + b"\r\n", b"1;" + b"e" * 90_000 + b"\r\nx\r\n"),
    "chunk extension": (CHUNKED + b"\r\n1;", b"e"),
    "trailers": (CHUNKED + b"\r\n1\r\nx\r\n0\r\n", b"X-A: b\r\n"),
    "empty deflate blocks": (ZIPPED, b"5\r\n\x00\x00\x00\xff\xff\r\n"),
    "empty deflate blocks in large chunks": (
        ZIPPED,
        b"c350\r\n" + b"\x00\x00\x00\xff\xff" * 10_000 + b"\r\n",
    ),
    "empty gzip members": (
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n",
        b"14\r\n" + gzip.compress(b"", mtime=0) + b"\r\n",
    ),
}


@pytest.mark.parametrize("begin, piece", TRICKS.values(), ids=TRICKS)
async def test_a_server_that_sends_next_to_nothing_without_end_is_left(site, begin, piece):
    """What holds no page and never ends is left long before the deadline, for little work."""
    site.answers["/"] = stream_of(begin, piece)
    watch = asyncio.create_task(longest_pause())
    begun = process_time()

    [outcome] = await asyncio.gather(
        fetch_url(allow_private=True).function(site.url()), return_exceptions=True
    )

    assert isinstance(outcome, FetchFailed) or outcome["truncated"], outcome
    assert "took longer" not in str(outcome)
    watch.cancel()
    assert await watch < 1
    assert process_time() - begun < 4


async def longest_pause():
    """Return, when cancelled, the longest time in which the event loop did nothing else."""
    longest, last = 0.0, monotonic()
    try:
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, monotonic() - last), monotonic()
    except asyncio.CancelledError:
        return longest


@pytest.mark.parametrize("size", [1, 60, 1000])
async def test_a_page_in_small_chunks_is_read(site, size):
    """A page that a server makes bit by bit is read whole, down to chunks of one byte."""
    chunk = b"%x\r\n" % size + b"x" * size + b"\r\n"
    site.answers["/"] = CHUNKED + b"\r\n" + chunk * 9_000 + b"0\r\n\r\n"

    result = await fetch_url(allow_private=True, max_bytes=10_000_000).function(site.url())

    assert len(result["text"]) == min(size * 9_000, MAX_TEXT)


async def test_interim_answers_before_a_page_are_passed_over(site):
    """Early hints, a few of them, do not keep the page back."""
    site.page("/", "hello")
    site.answers["/"] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5 + site.answers["/"]

    result = await fetch_url(allow_private=True).function(site.url())

    assert result["text"] == "hello"


LONG = "x" * 90_000


async def test_what_a_server_says_of_a_page_is_cut(site):
    """A long content type is told by its beginning."""
    url = site.page("/", "hello", f"text/plain; charset={LONG}")

    result = await fetch_url(allow_private=True).function(url)

    assert result["text"] == "hello"
    assert len(result["content_type"]) <= 201


@pytest.mark.parametrize("status", ["200 OK", f"200 {LONG}", "404 Not Found"])
@pytest.mark.parametrize(
    "kind, headers",
    [
        (f"image/{LONG}", {}),
        ("text/plain", {"Content_Encoding": LONG}),
        ("text/plain", {"Content_Encoding": "gzip"}),
    ],
)
async def test_what_is_said_of_a_failure_is_cut(site, status, kind, headers):
    """No server's words make a message longer than a few hundred characters."""
    url = site.page("/", "hello", kind, status, **headers)

    with pytest.raises(FetchFailed) as caught:
        await fetch_url(allow_private=True).function(url)

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "location",
    [
        f"/{LONG}",
        f"http://127.0.0.1/{LONG}",
        f"http://{LONG}/",
        f"http://{'x.' * 45_000}/",
        f"http://127.0.0.1:{'9' * 90_000}/",
        f"http://[{LONG}]/",
        f"{LONG}://127.0.0.1/",
        f"http://127.0.0.1/{'ü' * 1000}",
        f"http://127.0.0.1/?{'%' * 1500}",
    ],
    ids=lambda text: text[:20],
)
async def test_a_long_address_is_refused(site, location):
    """An address beyond the limit is not asked, in a redirect either, and told by its beginning."""
    url = site.redirect("/", location)
    tool = fetch_url(allow_private=True)

    for asked in (url, location):
        with pytest.raises(FetchFailed) as caught:
            await tool.function(asked)
        assert len(str(caught.value)) < 1000
    assert [head.split(" ")[1] for head in site.requests] == ["/"]


async def test_a_page_that_cannot_be_made_text_of_in_time_is_told():
    """A page whose text takes too long is given up and named."""
    body = b"<p>x" * 240_000
    page = Fetched("http://h.test/", 200, "text/html", "text/html", None, body, is_whole=True)

    with pytest.raises(NotRead, match=r"h\.test/' came, and was not made text of in 0\.05 s"):
        await text_of(page, OwnThreads("slow", 1), timedelta(seconds=0.05))


async def test_an_endless_page_is_cut(site):
    """A page without end is read up to the limit, and says that it is longer."""
    site.answers["/"] = endless

    result = await fetch_url(allow_private=True, max_bytes=30_000).function(site.url())

    assert result["text"] == "x" * 30_000
    assert result["truncated"] is True
    assert "30000 bytes" in result["note"]


@pytest.mark.parametrize("size, truncated", [(1000, False), (1001, True)])
async def test_the_size_limit_is_exact(site, size, truncated):
    """A page as long as the limit is whole, one byte more is cut."""
    url = site.page("/", b"x" * size)

    result = await fetch_url(allow_private=True, max_bytes=1000).function(url)

    assert len(result["text"]) == 1000
    assert result["truncated"] is truncated


async def test_the_size_limit_holds_for_what_is_unpacked(site):
    """A small compressed page that unpacks to a hundred megabytes takes the memory of a few."""
    bomb = gzip.compress(b"x" * 100_000_000)
    url = site.page("/", bomb, Content_Encoding="gzip")
    tracemalloc.start()

    result = await fetch_url(allow_private=True, max_bytes=30_000).function(url)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["text"] == "x" * 30_000
    assert peak < 20_000_000


async def test_a_compressed_page_is_read(site):
    """A page that is compressed as was offered is unpacked."""
    url = site.page("/", gzip.compress(b"hello"), Content_Encoding="gzip")

    result = await fetch_url(allow_private=True).function(url)

    assert result["text"] == "hello"


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
async def test_other_compression_is_refused(site, coding):
    """A page compressed in another way is refused by name."""
    url = site.page("/", b"hello", Content_Encoding=coding)

    with pytest.raises(FetchFailed, match=f"compressed as '{coding}'"):
        await fetch_url(allow_private=True).function(url)


async def test_broken_compression_is_told(site):
    """Bytes that do not unpack are an error of the fetch."""
    url = site.page("/", b"hello", Content_Encoding="gzip")

    with pytest.raises(FetchFailed, match="can't be read"):
        await fetch_url(allow_private=True).function(url)


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_time_is_limited(site, hang, begin):
    """A server that says nothing, or stops in the middle, is left at the deadline."""
    site.answers["/"] = hang(begin)
    begun = monotonic()

    with pytest.raises(FetchFailed, match=r"longer than 0\.2 s"):
        await fetch_url(allow_private=True, timeout=SHORT).function(site.url())

    assert monotonic() - begun < 2


async def test_time_is_limited_in_whole(site):
    """Hops that are each quick end at the deadline of all."""
    for hop in range(10_000):
        site.redirect(f"/{hop}", f"/{hop + 1}")

    with pytest.raises(FetchFailed, match="longer than"):
        await fetch_url(allow_private=True, timeout=SHORT, max_redirects=9_999).function(
            site.url("/0")
        )


async def test_others_run_meanwhile(site, hang):
    """While a fetch waits, another goes on."""
    site.answers["/slow"] = hang()
    tool = fetch_url(allow_private=True)
    slow = asyncio.create_task(tool.function(site.url("/slow")))
    quick = asyncio.create_task(tool.function(site.page("/quick", "hello")))

    done, _ = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)

    assert done == {quick}
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.parametrize("hops, allowed", [(3, True), (4, False)])
async def test_redirects_are_counted(site, hops, allowed):
    """As many redirects as the limit are followed, one more is an error."""
    for hop in range(hops):
        site.redirect(f"/{hop}", f"/{hop + 1}")
    site.page(f"/{hops}", "hello")
    tool = fetch_url(allow_private=True, max_redirects=3)

    if allowed:
        result = await tool.function(site.url("/0"))
        assert (result["text"], result["url"]) == ("hello", site.url("/3"))
    else:
        with pytest.raises(FetchFailed, match="redirects more than 3 times"):
            await tool.function(site.url("/0"))
        assert len(site.requests) == 4


async def test_a_server_that_is_not_there_is_told():
    """A refused connection is an error that says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(FetchFailed, match="can't be read"):
        await fetch_url(allow_private=True).function(f"http://127.0.0.1:{port}/")


async def test_a_text_is_read_in_parts(site):
    """A long text comes in parts, each with where the next begins, and nothing is lost."""
    text = "".join(f"{number:07d} " for number in range(MAX_TEXT // 4))
    url = site.page("/", text)
    tool = fetch_url(allow_private=True)

    first = await tool.function(url)
    second = await tool.function(url, start=MAX_TEXT)

    assert first["text"] + second["text"] == text
    assert first["note"] == f"the text goes on: read it with start={MAX_TEXT}"
    assert (first["truncated"], second["truncated"]) == (True, False)
    assert "note" not in second


def test_the_model_sees_url_and_start_only():
    """The tool's schema holds none of the rules, its effect is pure, the allowed hosts are told."""
    tool = fetch_url(allowed_hosts=["docs.python.org"], timeout=timedelta(minutes=5))

    assert list(tool.spec.parameters["properties"]) == ["url", "start"]
    assert tool.spec.parameters["required"] == ["url"]
    assert tool.effect == "pure"
    assert "docs.python.org" in tool.spec.description
    assert tool.timeout is not None
    assert tool.timeout > timedelta(minutes=5)


def test_importing_the_skill_loads_no_http_client():
    """The package httpx2 is loaded by the first fetch, not before."""
    program = (
        "import sys; from skills.web import fetch_url; fetch_url();print('httpx2' in sys.modules)"
    )

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert printed.stdout.split() == [b"False"]


async def test_making_text_is_within_the_time_of_a_fetch(site):
    """What a page costs to be made text of counts in `timeout`, but for its last second."""
    site.page("/", "<p>x" * 750_000, "text/html")
    tool = fetch_url(allow_private=True, timeout=SHORT, max_bytes=3_000_000)
    begun = monotonic()

    with pytest.raises(NotRead, match="was not made text of in 1 s"):
        await tool.function(site.url("/"))

    assert monotonic() - begun < 3


def test_what_begins_no_tag_costs_no_more_than_words():
    """A megabyte of ``<`` is made text of in a fraction of a second, and stays what it is."""
    begun = process_time()

    text = readable(b"<" * 1_000_000 + b" 1 < 2", "text/html", None, "http://h.test/")

    assert process_time() - begun < 1.2
    assert text == "<" * 1_000_000 + " 1 < 2"
