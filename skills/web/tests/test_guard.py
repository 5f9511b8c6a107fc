"""A fetch reaches public addresses only, however the address was written and wherever it leads."""

import asyncio
import ssl
import subprocess
from ipaddress import ip_address, ip_network

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.web import fetch_url
from skills.web.address import Resolver, is_open
from skills.web.fetch import FetchFailed, Rules, _addresses, _system_trust, fetch
from skills.web.tools import _host_rule
from substrate.values.errors import Misuse

LOOPBACK = ip_address("127.0.0.1")
LOCAL = Rules(opened=(ip_network("127.0.0.1/32"),))

LOOPBACK_HOSTS = [
    *("127.0.0.1", "localhost", "LOCALHOST.", "127.1", "127.0.0.2", "0.0.0.0"),
    *("2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
    *("[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①②⑦.0.0.1"),
]
PRIVATE_HOSTS = [
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "[fe80::1]", "[fc00::1]", "[fec0::1]"),
    *("[ff02::1]", "[2001:db8::1]", "[::127.0.0.1]", "[100::1]", "[2002:a00:1::]"),
]


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_this_machine_is_refused(site, host):
    """No way to write this machine's own address gets a request through."""
    site.page("/", "secret")

    with pytest.raises(FetchFailed, match=r"not public|can't be resolved|is none"):
        await fetch_url().function(site.url("/", host))

    assert site.requests == []


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
async def test_other_private_addresses_are_refused(host):
    """Private, shared, link-local, multicast and reserved addresses are refused, none connected."""
    with pytest.raises(FetchFailed, match="not public"):
        await fetch_url().function(f"http://{host}/")


PUBLIC = [
    *("1.1.1.1", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0"),
    *("191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::", "2001:4860:4860::8888"),
    *("2003::1", "2606:2800:21f::1", "2620:4f:8001::", "2a00::1", "3ffe:ffff::1", "3fff:1000::"),
    *("::ffff:93.184.216.34", "64:ff9b::5db8:d822"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_open(text):
    """A public address is open, just beside a special range and where IPv6 only wraps it too."""
    assert is_open(ip_address(text), ())


# Every block of IANA's registries of special-purpose addresses, multicast, and what else is not
# for the public; those that are reachable from everywhere are no web servers either.
SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32"),
    *("192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.0.192/32", "192.0.2.0/24"),
    *("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
    *("240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32", "100.100.100.200/32"),
    *("::1/128", "::/128", "::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
    *("2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128"),
    *("2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28"),
    *("2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    *("5f00::/16", "fc00::/7", "fd00:ec2::254/128", "fd20:ce::254/128", "fe80::/10"),
    *("fec0::/10", "ff00::/8", "4000::/3", "e000::/4"),
]
WRAPPED = "::ffff:{}", "64:ff9b::{}", "::{}", "64:ff9b:1::{}", "2002:{:x}:{:x}::"


def ends(block):
    """Return the first, the last and some address between of a block."""
    network = ip_network(block)
    return {network[0], network[-1], network[network.num_addresses // 3]}


@pytest.mark.parametrize("block", SPECIAL)
def test_special_purpose_addresses_are_closed(block):
    """No address of a special-purpose block is open, in any of the forms in which IPv6 wraps it."""
    for address in ends(block):
        assert not is_open(address, ())
        if address.version == 4:
            high, low = divmod(int(address), 2**16)
            for form in WRAPPED:
                wrapped = form.format(*(high, low) if "x" in form else (address,))
                assert not is_open(ip_address(wrapped), ())


def test_an_opened_network_is_open_in_every_form():
    """A network that is opened is open where IPv6 wraps its addresses, and its neighbour is not."""
    opened = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))

    for text in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::5"):
        assert is_open(ip_address(text), opened)
    for text in ("10.2.0.0", "::ffff:10.2.0.0", "fd00:2::5"):
        assert not is_open(ip_address(text), opened)


@pytest.mark.parametrize(
    "host",
    [
        *("192.0.0.192", "192.0.0.8", "168.63.129.16", "[3fff::1]", "[2001:0:5db8:d822::1]"),
        *("[2002:5db8:d822::1]", "[64:ff9b:1::5db8:d822]", "[fe80::1%25lo]", "[::1%25lo]"),
        *("[::ffff:192.0.0.192]", "[5f00::1]", "3221225664", "0xc0.0.0.0300"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_redirect_to_a_special_address_is_refused(site, host, scheme):
    """No hop leads to a special-purpose address, however it is written."""
    url = site.redirect("/", f"{scheme}://{host}/")

    with pytest.raises(FetchFailed, match=r"not public|is none|can't be resolved"):
        await fetch_url(allow_private=["127.0.0.1/32"]).function(url)

    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "port, listed, is_asked",
    [
        *((80, (), True), (443, (), True), (8080, (), False), (6379, (), False), (81, (), False)),
        *((8080, (8080,), True), (8081, (8080,), False), (6379, (6379,), True)),
    ],
)
def test_a_public_address_is_asked_at_ports_of_pages_only(port, listed, is_asked):
    """Of the public web the ports 80 and 443 are asked, and what the tool's author has listed."""
    rules = Rules(ports=frozenset(listed), opened=(ip_network("0.0.0.0/0"),))

    assert rules.allow_port(port, ip_address("93.184.215.14")) is is_asked


@pytest.mark.parametrize(
    "port, is_asked", [(80, True), (8080, True), (6379, False), (5432, False), (22, False)]
)
def test_an_address_that_was_opened_is_asked_at_other_ports(port, is_asked):
    """In a network that was opened all ports are, but those of other services."""
    rules = Rules(opened=(ip_network("10.1.0.0/16"),))

    assert rules.allow_port(port, ip_address("10.1.2.3")) is is_asked


async def test_a_public_address_at_another_port_is_none_to_connect_to():
    """A public host has no address to connect to at a port that serves no pages."""

    async def public(host, port):
        return [ip_address("192.0.32.7")]

    with pytest.raises(FetchFailed, match=r"the port 8080 of 'pages\.test' is not one that serves"):
        await _addresses(httpx2.URL("http://pages.test:8080/"), Rules(), public)
    assert await _addresses(httpx2.URL("http://pages.test/"), Rules(), public)


@pytest.mark.parametrize("port", [0, 65536, "80", True, None])
def test_what_is_no_port_is_refused(port):
    """What `allowed_ports` has that is no port is told as the tool is made."""
    with pytest.raises(Misuse, match="is no port; write a number from 1 to 65535"):
        fetch_url(allowed_ports=[port])


@pytest.mark.parametrize(
    "port", ["0", "22", "6000", "6379", "5432", "9200", "11211", "65536", "9" * 400, "-1"]
)
async def test_ports_of_other_services_are_refused(site, port):
    """A port that no browser asks, or that there is not, is refused, in a redirect too."""
    url = site.redirect("/", f"http://127.0.0.1:{port}/")

    for asked in (url, f"http://127.0.0.1:{port}/"):
        with pytest.raises(FetchFailed, match=r"not one that serves pages|is none"):
            await fetch_url(allow_private=True).function(asked)


async def test_a_name_is_judged_by_where_it_leads(site, resolver):
    """A name that resolves to a private address is refused, whatever the name."""
    resolve = resolver(public=[LOOPBACK])

    with pytest.raises(FetchFailed, match=r"'public\.test' has the address 127\.0\.0\.1"):
        await fetch(site.url("/", "public.test"), Rules(), resolve=resolve)

    assert site.requests == []


async def test_one_private_address_among_others_is_refused(site, resolver):
    """A name with a public and a private address is refused before either is connected to."""
    resolve = resolver(mixed=[LOOPBACK, ip_address("10.0.0.1")])

    with pytest.raises(FetchFailed, match=r"10\.0\.0\.1"):
        await fetch(site.url("/", "mixed.test"), LOCAL, resolve=resolve)

    assert site.requests == []


async def test_a_name_is_resolved_once_and_that_address_used(site, resolver):
    """The judged address is connected to: the name, which nothing else resolves, is only sent."""
    site.page("/", "hello")
    resolve = resolver(rebind=[LOOPBACK])

    fetched = await fetch(site.url("/", "rebind.test"), LOCAL, resolve=resolve)

    assert fetched.body == b"hello"
    assert fetched.url == site.url("/", "rebind.test")
    assert resolve.asked == ["rebind.test"]
    assert f"Host: rebind.test:{site.port}\r\n" in site.requests[0]


async def test_a_name_that_leads_elsewhere_the_next_time_is_judged_again(site):
    """A redirect to the same name is resolved and judged anew, and only what it gives is used."""
    site.redirect("/", "/again")
    answers = iter([[LOOPBACK], [ip_address("127.0.0.2")]])

    async def resolve(host, port):
        return next(answers)

    with pytest.raises(FetchFailed, match=r"127\.0\.0\.2, which is not public"):
        await fetch(site.url("/", "rebind.test"), LOCAL, resolve=resolve)

    assert len(site.requests) == 1


async def test_the_next_address_is_tried(site, resolver):
    """Where one of a host's addresses does not answer, the next is asked."""
    site.page("/", "hello")
    resolve = resolver(two=[ip_address("127.0.0.9"), LOOPBACK])

    fetched = await fetch(
        site.url("/", "two.test"), Rules(opened=(ip_network("127.0.0.0/8"),)), resolve=resolve
    )

    assert fetched.body == b"hello"


async def test_a_redirect_is_judged_like_the_first_address(site):
    """A redirect to a private address is refused though the first hop was allowed."""
    url = site.redirect("/", site.url("/secret", "127.0.0.2"))

    with pytest.raises(FetchFailed, match=r"127\.0\.0\.2, which is not public"):
        await fetch(url, LOCAL, resolve=Resolver("names"))

    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "location, said",
    [
        ("file:///etc/passwd", "no http or https"),
        ("gopher://127.0.0.1/", "no http or https"),
        ("http://user:secret@127.0.0.1/", "carries a user or password"),
        ("http://localhost/", "not one of those allowed"),
        ("http://[::1/", "is none"),
    ],
)
async def test_a_redirect_is_held_to_every_rule(site, location, said):
    """Scheme, credentials and allowed hosts hold for a redirect too."""
    url = site.redirect("/", location)
    tool = fetch_url(allow_private=True, allowed_hosts=["127.0.0.1"])

    with pytest.raises(FetchFailed, match=said) as caught:
        await tool.function(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "//example.com",
        "javascript:1",
        "",
    ],
)
async def test_only_http_is_spoken(url):
    """An address of another scheme, or of none, is refused."""
    with pytest.raises(FetchFailed, match="no http or https address"):
        await fetch_url(allow_private=True).function(url)


@pytest.mark.parametrize("user", ["user", "user:secret", ":secret"])
async def test_credentials_are_refused(site, user):
    """An address with a user or password is refused, and the message does not repeat it."""
    with pytest.raises(FetchFailed, match="carries a user or password") as caught:
        await fetch_url(allow_private=True).function(site.url("/", f"{user}@127.0.0.1"))

    assert "secret" not in str(caught.value)
    assert site.requests == []


PARTS = [
    "http://",
    "https:",
    "//",
    "/",
    "\\",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    ":",
    "@",
    "%",
    "%00",
    "?",
]
PARTS += [
    "#",
    "..",
    "ü",
    "ß",
    "\u3002",
    "\u0660",
    "\ud800",
    "\r\n",
    "\0",
    "xn--",
    "xn--a",
    "v1.x",
    "9" * 70,
]
PARTS += [
    "a" * 70,
    "a.test",
    "1.2",
    "0x",
    "fe80::1%25lo",
    "+80",
    "8_0",
    "\uff10",
    " ",
    "\t",
    "user:pw",
]


@given(parts=st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=8))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_address_is_refused_in_words(parts):
    """No text that is given as an address is another error than what is told."""

    async def nowhere(host, port):
        raise OSError("there is none")

    for asked in ("".join(parts), f"http://{''.join(parts)}", f"http://a.test/{''.join(parts)}"):
        with pytest.raises(FetchFailed):
            asyncio.run(fetch(asked, Rules(), resolve=nowhere))


async def test_private_addresses_are_open_where_it_is_said(site):
    """With allow_private a page of the own network is read."""
    url = site.page("/", "hello")

    result = await fetch_url(allow_private=True).function(url)

    assert result["text"] == "hello"


async def test_one_network_can_be_opened_alone(site):
    """A network that is named is open, another private one is not."""
    url = site.page("/", "hello")
    tool = fetch_url(allow_private=["127.0.0.1/32"])

    result = await tool.function(url)

    assert result["text"] == "hello"
    with pytest.raises(FetchFailed, match="not public"):
        await tool.function(site.url("/", "127.0.0.2"))


@pytest.mark.parametrize(
    "rule, host, allowed",
    [
        ("docs.test", "docs.test", True),
        ("Docs.Test.", "DOCS.test.", True),
        ("docs.test", "evil-docs.test", False),
        ("docs.test", "docs.test.evil", False),
        ("docs.test", "a.docs.test", False),
        ("*.docs.test", "a.b.docs.test", True),
        ("*.docs.test", "docs.test", False),
        ("*.docs.test", "evildocs.test", False),
    ],
)
async def test_allowed_hosts(resolver, rule, host, allowed):
    """A host is allowed by its whole name, or by a whole part of it after ``*.``."""
    resolve = resolver(**{host.partition(".")[0].lower(): [LOOPBACK]})

    with pytest.raises(FetchFailed) as caught:
        await fetch(f"http://{host}/", Rules(hosts=(_host_rule(rule),)), resolve=resolve)

    refused = "not one of those allowed" in str(caught.value)
    assert refused is not allowed


async def test_no_allowed_hosts_allow_none():
    """An empty list of hosts lets nothing through."""
    with pytest.raises(FetchFailed, match="those allowed: none"):
        await fetch_url(allowed_hosts=[]).function("http://example.com/")


async def test_proxies_of_the_environment_are_not_used(site, other_site, monkeypatch):
    """A proxy in the environment sees nothing, and does not get round the guard."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, other_site.url())
    url = site.page("/", "hello")

    result = await fetch_url(allow_private=True).function(url)

    assert result["text"] == "hello"
    assert other_site.requests == []


async def test_nothing_is_kept_from_hop_to_hop(site):
    """A cookie set by one hop is not sent to the next."""
    site.page("/end", "hello")
    url = site.redirect("/", "/end", Set_Cookie="session=secret; Path=/")

    await fetch_url(allow_private=True).function(url)

    assert len(site.requests) == 2
    assert "secret" not in site.requests[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the file of a key and certificate for example.test, signed by itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=example.test"
        " -addext subjectAltName=DNS:example.test -keyout - -out -"
    )
    made = subprocess.run(command.split(), capture_output=True, check=True)
    path.write_bytes(made.stdout)
    return path


@pytest.fixture
async def secure_site(certificate, run_site):
    """Provide a server for https://example.test; `names` are those that clients asked for."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    names = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with run_site(tls) as site:
        site.names = names
        site.page("/", "hello")
        yield site


@pytest.fixture
def trust(certificate):
    """Return a client's trust in the test certificate alone."""
    return ssl.create_default_context(cafile=str(certificate))


async def test_tls_is_for_the_name_though_the_address_is_connected_to(secure_site, trust, resolver):
    """The server is asked for the host's name, and its certificate is checked against it."""
    url = secure_site.url("/", "example.test", "https")

    fetched = await fetch(url, LOCAL, resolve=resolver(example=[LOOPBACK]), trust=trust)

    assert fetched.body == b"hello"
    assert secure_site.names == ["example.test"]


async def test_a_certificate_for_another_name_is_refused(secure_site, trust, resolver):
    """A trusted certificate of another host is refused."""
    url = secure_site.url("/", "other.test", "https")

    with pytest.raises(FetchFailed, match="certificate"):
        await fetch(url, LOCAL, resolve=resolver(other=[LOOPBACK]), trust=trust)


async def test_the_environment_adds_no_trust(secure_site, certificate, resolver, monkeypatch):
    """A certificate that only an environment variable trusts is refused."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _system_trust.cache_clear()
    url = secure_site.url("/", "example.test", "https")

    with pytest.raises(FetchFailed, match="certificate"):
        await fetch(url, LOCAL, resolve=resolver(example=[LOOPBACK]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"max_redirects": -1},
        {"allow_private": ["10.1.0.1/16"]},
        {"allow_private": ["intranet"]},
        {"allowed_hosts": ["https://example.com"]},
        {"allowed_hosts": ["example.com:80"]},
        {"allowed_hosts": ["*"]},
        {"allowed_hosts": ["*.*.com"]},
        {"allowed_hosts": [""]},
        {"allowed_hosts": ["bücher.example"]},
    ],
)
def test_rules_that_cannot_be_meant_are_refused(wrong):
    """A wrong limit, network or host fails where the tool is made."""
    with pytest.raises(Misuse):
        fetch_url(**wrong)
