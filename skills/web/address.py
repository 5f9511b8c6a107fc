"""Which addresses may be connected to.

A name says nothing about where it leads: it can resolve to this machine, to the network around it
or to a cloud's metadata service, and to something else when it is asked again. So a host is
resolved once, every address that it has is judged here, and the connection is made to one of
exactly these addresses. How the host was written (a name, ``127.1``, ``0x7f000001``,
``2130706433``, ``[::ffff:127.0.0.1]``) makes no difference: the resolver reads it, and its answer
is judged.

The ranges are named here, since what Python's `ipaddress` takes for global changes with its
release. No range that IANA sets apart holds a page of the public web, so all of them are refused,
those that are reachable from everywhere (relays, sinks) too.

Limit: a network that translates IPv4 by a prefix of its own (NAT64 other than ``64:ff9b::/96``)
looks like any other; its translator decides what is reached.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from substrate.agent.own_threads import OwnThreads

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[Address]]]
"""What turns a host and port into addresses; raises `OSError` where there are none."""

EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

LOOKUPS = 8
"""How many names are looked up at a time. One that hangs is left, and the resolver ends it."""

# All of IPv6 that is assigned for use between networks.
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

# https://www.iana.org/assignments/iana-ipv4-special-registry, multicast, and one address more.
_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # by which Azure's machines reach their host, from inside only
    )
)

# https://www.iana.org/assignments/iana-ipv6-special-registry, so far as it lies in `_UNICAST`.
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID and more
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which leads to any IPv4 address
        "2620:4f:8000::/48",  # the AS112 sink
        "3fff::/20",  # documentation
    )
)


class Resolver:
    """Looks hosts up as the system does, in threads of its own."""

    def __init__(self, name: str) -> None:
        self._threads = OwnThreads(name, LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Return the host's addresses in the order in which the system prefers them."""
        try:
            return [_bare(host)]  # an address as it is usually written needs no look-up
        except ValueError:
            return await self._threads.call(lambda _: _look_up(host, port))


def is_open(address: Address, opened: Sequence[Network]) -> bool:
    """Say whether the address may be connected to."""
    plain = _plain(address)
    return _is_public(plain) or any(address in network or plain in network for network in opened)


def _look_up(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [_bare(text) for text in dict.fromkeys(str(entry[4][0]) for entry in found)]


def _bare(text: str) -> Address:
    """Return the address without the zone that it may be written with: ``fe80::1%eth0``."""
    return ip_address(text.partition("%")[0])


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    return address in _UNICAST and not any(address in network for network in _SPECIAL_6)


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address
