"""A fetch ends: by size, by time, by number of redirects."""

import asyncio
import gzip
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from time import monotonic

import pytest

from skills.web import fetch_url
from skills.web.fetch import FetchFailed
from skills.web.tools import MAX_TEXT

SHORT = timedelta(milliseconds=200)


async def endless(_reader, writer):
    """Send a page that has no end, until the other side closes the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 10_000)
        await writer.drain()


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
    with pytest.raises(FetchFailed, match="can't be read"):
        await fetch_url(allow_private=True).function("http://127.0.0.1:1/")


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
