"""The host and the port in a URL, an origin, a Host header, or a setting.

`urllib.parse` takes what is not a host for one: it reads `[::1]evil:8080` as the host `::1`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

# RFC 3986, section 3.2.2, without what no client sends in a name: percent-encoding, sub-delims.
NAME = re.compile(r"(?P<host>[a-z0-9_~.-]+)(:(?P<port>\d{0,5}))?")
LONGEST = 300  # characters; the name of a host has at most 253 (RFC 1035), and its port 6
BRACKETS = re.compile(r"\[(?P<host>[0-9a-f:.]+)\](:(?P<port>\d{0,5}))?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and perhaps a port. `is_address` says whether the host is an IP address.

    `host` is in lower case and has no final dot. An IPv6 address is in its usual form, without
    brackets.
    """

    host: str
    port: int | None
    is_address: bool = False


@lru_cache(maxsize=1024)  # the hosts of most requests are the same
def parse_authority(text: str) -> Authority:
    """Parse `host`, `host:port` or `[address]:port`.

    Raises:
        ValueError: the text has another form.
    """
    if len(text) > LONGEST:  # the cache must not keep what can be no host
        raise ValueError("the host is too long")
    lower = text.lower()
    match = BRACKETS.fullmatch(lower) or NAME.fullmatch(lower)
    if match is None or not text.isascii():  # the Kelvin sign in lower case is the letter k
        raise ValueError("not a host with or without a port")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise ValueError("the port is over 65535")
    host = str(IPv6Address(match["host"])) if lower.startswith("[") else match["host"].rstrip(".")
    if not host:
        raise ValueError("the host is empty")
    return Authority(host, port, ":" in host or is_ipv4(host))


def is_ipv4(host: str) -> bool:
    """Return whether this is an IPv4 address in its usual form."""
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def local_url(address: str, port: int) -> str:
    """Return a URL at which a program on this machine reaches a socket with this address.

    `0.0.0.0` and `::` stand for all addresses, of which the loopback address is one. No program can
    connect to them everywhere, and browsers refuse to. A zone is written as in RFC 6874.
    """
    plain, _, zone = address.partition("%")
    found = ip_address(plain)
    if found.is_unspecified:
        plain = "127.0.0.1" if found.version == 4 else "::1"
    return f"http://{host_text(f'{plain}%25{zone}' if zone else plain)}:{port}"


def address_of(url: str) -> tuple[str, int]:
    """Return the address and the port in a URL of `local_url`, as a program connects to them."""
    parts = urlsplit(url)
    return unquote(parts.hostname or ""), parts.port or 80


def host_text(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
