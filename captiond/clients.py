"""Clients: who a request is from, for fair turns, limits and the ownership of tasks.

A client is the key of a request, else its address, else its connection. Whoever has one IPv6
address usually has its whole /64 network, so the client is the network.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

KEY = "key:"  # begins the name of a client that is a key
MAX_FORWARDED = 8192  # characters of Forwarded; to read so many takes some 4 ms
IPV6_PREFIX = 64  # bits; RFC 6177 gives every site at least one such network
# One `name=value` of Forwarded. Unquoted brackets and colons are not in the RFC, but in use.
PAIR = re.compile(r'\s*(?P<name>[\w.-]+)=(?P<value>"[^"\\]*"|[^\s;,"\\]+)\s*(?P<end>[;,]|$)')

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Client:
    """One client. `name` is `key:<id>`, `address:<address or network>`, or `connection:<id>`.

    A client with a `weight` of 2 gets twice the share of a client with a weight of 1.
    """

    name: str
    weight: float = 1.0

    @property
    def has_key(self) -> bool:
        """Whether the client is a key. Others must not learn what it has sent."""
        return self.name.startswith(KEY)


@lru_cache(maxsize=4096)
def address_name(host: str) -> str | None:
    """Return the name of the client with this IP address, or None if it is not one."""
    address = parse_address(host)
    if address is None:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return f"address:{ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False)}"
    return f"address:{address}"


def parse_address(text: str) -> Address | None:
    """Return an IP address, or None if the text is not one.

    The text may have a port and brackets. An IPv4 address that is mapped into IPv6 is returned as
    an IPv4 address, and a zone such as `%eth0` is dropped.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# ---------------------------------------------------------------- proxies


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies whose word about a client's address is taken."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "Proxies":
        """Return the proxies with these addresses and networks.

        Raises:
            ValueError: an entry is neither an IP address nor a network.
        """
        return cls(tuple(ipaddress.ip_network(entry) for entry in entries))

    def trust(self, host: str) -> bool:
        """Return whether this address is that of a trusted proxy."""
        address = parse_address(host)
        return address is not None and any(address in network for network in self.networks)

    def origin(self, peer: str, hops: Sequence[str]) -> str:
        """Return the address of the client for which the proxy `peer` forwards a request.

        Each proxy appends the address of its own peer to `hops`, so only the end of the list is
        known to be true: the list is read from there, up to the first address that is not a
        trusted proxy. If that entry is not an address, the proxy that wrote it is the client.
        """
        client = peer
        for hop in reversed(hops):
            if not self.trust(client) or parse_address(hop) is None:
                break
            client = hop
        return client


def forwarded_for(value: str) -> list[str]:
    """Return the addresses of the hops in `X-Forwarded-For`, the client's first."""
    return [hop.strip() for hop in value.split(",")]


def forwarded(value: str) -> list[str]:
    """Return the addresses of the hops in `Forwarded` (RFC 7239), the client's first.

    A hop without `for` is empty. A malformed header has no hops: a client could have begun it with
    a quotation mark, which would hide what the proxy appends. Neither has one that is too long.
    """
    # guard: bounded-forwarded
    if len(value) > MAX_FORWARDED:
        return []
    hops, position = [""], 0
    while position < len(value):
        pair = PAIR.match(value, position)
        if pair is None:
            return []
        if pair["name"].lower() == "for":
            hops[-1] = pair["value"].strip('"')
        if pair["end"] == ",":
            hops.append("")
        position = pair.end()
    return hops


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """The request that images came with, for logs and traces: its id, and its W3C trace context."""

    request_id: str = ""
    traceparent: str = ""
    tracestate: str = ""
