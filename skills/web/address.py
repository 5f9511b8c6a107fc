"""Which addresses may be connected to.

A name says nothing about where it leads: it can resolve to this machine, to the network around it
or to a cloud's metadata service, and to something else when it is asked again. So a host is
resolved once, every address that it has is judged here, and the connection is made to one of
exactly these addresses. How the host was written (a name, ``127.1``, ``0x7f000001``,
``2130706433``, ``[::ffff:127.0.0.1]``) makes no difference: the resolver reads it, and its answer
is judged.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[Address]]]
"""What turns a host and port into addresses; raises `OSError` where there are none."""

EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

# All of IPv6 that is assigned for use between networks; the special ranges in it are not global.
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


async def resolve(host: str, port: int) -> list[Address]:
    """Return the host's addresses in the order in which the system prefers them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = [str(entry[4][0]).partition("%")[0] for entry in found]
    return [ip_address(text) for text in dict.fromkeys(texts)]


def is_open(address: Address, opened: Sequence[Network]) -> bool:
    """Say whether the address may be connected to."""
    address = _plain(address)
    return _is_public(address) or any(address in network for network in opened)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
