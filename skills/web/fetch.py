"""A fetch: one GET, and the redirects that it leads to.

What a model asks for may come from a page that it read, so an address is somebody else's input.
Each hop, the first and every redirect, is judged alike and before anything is sent: its scheme,
that it carries no credentials, its host, and the addresses that the host resolves to. The
connection is made to an address that was judged; the host's name goes into the Host header and is
what the certificate must be for. Neither proxies nor anything else of the environment is heeded,
and nothing is kept from one hop to the next: no connection, no cookie.

What is told of a page is bounded like the page: an address by `MAX_URL`, all else by `MAX_TOLD`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import httpcore2
import httpx2

from skills.web.address import Address, Network, Resolve, is_open
from skills.web.page import is_text
from skills.web.wire import Allowance, Backend, Pieces, TooMuch

CONNECT_S = 5.0
"""How long one of a host's addresses may take to connect before the next is tried."""

MAX_URL = 2_000
"""Characters of an address; a longer one is not asked for."""

MAX_TOLD = 200
"""Characters of whatever else a server says of a page, in a result or a message."""

_HEADERS = [
    (b"User-Agent", b"ostinato-fetch-url"),
    (b"Accept", b"text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1"),
    (b"Accept-Encoding", b"gzip, deflate"),
]
# Of others httpx2 would give the compressed bytes, or unpack them by codings unknown here.
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})

PAGE_PORTS = frozenset({80, 443})
"""Ports of public addresses that may be asked, unless more are named."""

# Ports of other services, some of which act on what a GET says, for addresses that were opened: any
# other port there may be a page's. First those that no browser asks either:
# https://fetch.spec.whatwg.org/#port-blocking
_OTHER_PORTS = frozenset(
    {
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161),
        *(179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563),
        *(587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061),
        *(6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
        # Databases, queues, and what drives machines: they speak text, or HTTP that acts.
        *(1433, 1434, 1521, 2181, 2375, 2376, 2379, 2380, 3306, 4222, 4369, 5432, 5433, 5672),
        *(5984, 5985, 5986, 6379, 6380, 6432, 7000, 7001, 7199, 7473, 7474, 7687, 8086, 8123),
        *(8500, 8529, 9000, 9009, 9042, 9092, 9160, 9200, 9300, 10250, 10255, 11211, 15672),
        *(16379, 26257, 26379, 27017, 27018, 27019, 28015, 50000),
    }
)
_WIRE_ERRORS = (
    httpx2.HTTPError,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
)


class FetchFailed(Exception):
    """The page was not read. The message is for the model: what stood in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a fetch may do. `opened` are networks beside the public ones; no hosts means any.

    `ports` may be asked everywhere, beside those of pages.
    """

    max_bytes: int = 1_000_000
    timeout: timedelta = timedelta(seconds=20)
    max_redirects: int = 5
    opened: tuple[Network, ...] = ()
    hosts: tuple[str, ...] | None = None
    ports: frozenset[int] = frozenset()

    def allow_port(self, port: int, address: Address) -> bool:
        """Say whether an address that may be connected to may be asked at a port."""
        if port in PAGE_PORTS | self.ports:
            return True
        return not is_open(address, ()) and port not in _OTHER_PORTS

    def allow_host(self, host: str) -> bool:
        """Say whether the host, in lower case, is one of the allowed."""
        return self.hosts is None or any(
            host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
            for allowed in self.hosts
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the last hop gave, decompressed; `is_whole` is false where it was cut.

    `media_type` is the content type in lower case without its parameters, empty where none came.
    """

    url: str
    status: int
    content_type: str
    media_type: str
    charset: str | None
    body: bytes
    is_whole: bool


async def fetch(
    url: str, rules: Rules, *, resolve: Resolve, trust: ssl.SSLContext | None = None
) -> Fetched:
    """Get the page by the rules, or raise `FetchFailed`.

    `resolve` finds addresses, `trust` says which certificates are good: the system's by default.
    """
    shown = cut(url)
    try:
        async with asyncio.timeout(rules.timeout.total_seconds()):
            return await _follow(url, rules, resolve, trust or _system_trust())
    except TimeoutError:
        seconds = rules.timeout.total_seconds()
        raise FetchFailed(f"{shown!r} took longer than {seconds:g} s and was left") from None
    except (httpx2.InvalidURL, UnicodeError) as error:  # half of a surrogate pair, for one
        why = cut(str(error))
        raise FetchFailed(f"{shown!r} leads to an address that is none: {why}") from None
    except TooMuch as error:
        raise FetchFailed(f"{shown!r} was left, since the server sends {error}") from None
    except _WIRE_ERRORS as error:
        said = cut(str(error)) or type(error).__name__
        raise FetchFailed(f"{shown!r} can't be read: {said}") from None


def cut(text: str) -> str:
    """Return the text, or its beginning, as it is told to the model."""
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}…"


async def _follow(url: str, rules: Rules, resolve: Resolve, trust: ssl.SSLContext) -> Fetched:
    target = httpx2.URL(url)
    for _ in range(rules.max_redirects + 1):
        async with _hop(target, rules, resolve, trust) as response:
            if not response.has_redirect_location:
                return await _read(target, response, rules.max_bytes)
            target = target.join(response.headers["location"])
    raise FetchFailed(f"{cut(url)!r} redirects more than {rules.max_redirects} times")


@asynccontextmanager
async def _hop(
    url: httpx2.URL, rules: Rules, resolve: Resolve, trust: ssl.SSLContext
) -> AsyncIterator[httpx2.Response]:
    """Judge the address, connect to what was judged, and provide the response."""
    _check(url, rules)
    addresses = await _addresses(url, rules, resolve)
    allowance = Allowance()
    async with httpcore2.AsyncConnectionPool(trust, network_backend=Backend(allowance)) as pool:
        answer = await _first_answer(pool, url, addresses)
        allowance.begin_page(rules.max_bytes)
        response = httpx2.Response(
            answer.status, headers=answer.headers, stream=Pieces(answer, rules.max_bytes)
        )
        try:
            yield response
        finally:
            await response.aclose()


def _check(url: httpx2.URL, rules: Rules) -> None:
    host, shown = _host(url), cut(_host(url))
    if url.scheme not in {"http", "https"} or not host:
        raise FetchFailed(f"{cut(str(url))!r} is no http or https address")
    if url.userinfo:
        raise FetchFailed(f"the address of {shown!r} carries a user or password; leave it out")
    if len(str(url)) > MAX_URL:
        raise FetchFailed(
            f"{cut(str(url))!r} is {len(str(url))} characters long; the limit is {MAX_URL}"
        )
    if not rules.allow_host(host):
        allowed = ", ".join(rules.hosts or ()) or "none"
        raise FetchFailed(f"the host {shown!r} is not one of those allowed: {allowed}")
    if not 0 < _port(url) < 2**16:
        raise _no_page_port(url)


def _no_page_port(url: httpx2.URL) -> FetchFailed:
    shown = cut(_host(url))
    return FetchFailed(f"the port {cut(str(url.port))} of {shown!r} is not one that serves pages")


async def _addresses(url: httpx2.URL, rules: Rules, resolve: Resolve) -> list[Address]:
    """Return the host's addresses, all of which may be connected to."""
    host = _host(url)
    try:
        addresses = await resolve(host, _port(url))
    except (OSError, UnicodeError) as error:
        raise FetchFailed(f"the host {host!r} can't be resolved: {error}") from None
    for address in addresses:
        if not is_open(address, rules.opened):
            raise FetchFailed(
                f"the host {host!r} has the address {address}, which is not public; "
                "only pages of the public web can be read"
            )
        if not rules.allow_port(_port(url), address):
            raise _no_page_port(url)
    return addresses


async def _first_answer(
    pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, addresses: list[Address]
) -> httpcore2.Response:
    """Ask the first of the addresses that can be connected to."""
    for place, address in enumerate(addresses, 1):
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(
                scheme=url.raw_scheme,
                host=str(address).encode(),
                port=url.port,
                target=url.raw_path,
            ),
            headers=[(b"Host", url.netloc), *_HEADERS],
            extensions={"sni_hostname": _host(url), "timeout": {"connect": CONNECT_S}},
        )
        try:
            return await pool.handle_async_request(request)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            if place == len(addresses):
                raise
    raise FetchFailed(f"the host {_host(url)!r} has no address")


async def _read(url: httpx2.URL, response: httpx2.Response, max_bytes: int) -> Fetched:
    """Read the body until its end or the limit, whichever comes first."""
    content_type = response.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in _CODINGS:
        shown = cut(str(url))
        raise FetchFailed(f"{shown!r} is compressed as {coding[:50]!r}, which can't be read")
    if media_type and not is_text(media_type):
        raise _binary(url, media_type)
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            break
    if not media_type and b"\0" in body[:1024]:
        raise _binary(url, "of no type")
    return Fetched(
        str(url),
        response.status_code,
        cut(content_type),
        media_type,
        response.charset_encoding,
        bytes(body[:max_bytes]),
        len(body) <= max_bytes,
    )


def _binary(url: httpx2.URL, media_type: str) -> FetchFailed:
    shown = cut(str(url))
    return FetchFailed(f"{shown!r} is {media_type[:100]!r}, not text; only text can be read")


def _host(url: httpx2.URL) -> str:
    """Return the host as it is resolved: in lower case and ASCII, IPv6 without brackets."""
    return url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()


def _port(url: httpx2.URL) -> int:
    return {"http": 80, "https": 443}[url.scheme] if url.port is None else url.port


@lru_cache(maxsize=1)
def _system_trust() -> ssl.SSLContext:
    """Return the certificates that the system trusts, read once: it takes a while."""
    return httpx2.create_ssl_context(trust_env=False)
