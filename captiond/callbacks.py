"""Webhooks, the part without I/O: which URLs may be called, and when a failed call is made again.

The web process checks a `callback_url` when it is given, the supervisor checks it again whenever
it calls; both by the one parser here, so that they cannot read a URL in two ways.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from captiond.backoff import backoff

MAX_URL = 2000
PORTS = {"https": 443, "http": 80}
BACKOFF = 5.0  # with the defaults 5 s, 25 s, 2 min, 10 min, 52 min, 4 h, 22 h, then a day each
JITTER = 0.2  # a delay is shorter or longer by as much, so that failures of one moment spread


class BadUrl(ValueError):
    """No URL that captiond calls; the message says why."""


class DeliveryStatus(StrEnum):
    """The state of a delivery: to be tried (again), accepted by its receiver, or given up."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `host` is in lower case, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def parse_url(url: str) -> Target:
    """The parts of a callback's URL.

    Raises:
        BadUrl: it is not an http or https URL, or holds what none needs: credentials, a fragment,
            spaces, control characters, or a host that is not written in ASCII.
    """
    if len(url) > MAX_URL:
        raise BadUrl(f"a URL has at most {MAX_URL} characters")
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise BadUrl("a URL has no spaces and no characters but printable ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"not a URL: {error}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadUrl("a URL begins with https:// or http:// and a host")
    if "@" in parts.netloc or "\\" in url or "#" in url:
        raise BadUrl("a URL with a user name, a backslash or a fragment is not called")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.hostname.rstrip(".")
    return Target(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path)


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry of `[webhooks] allow`: a host, and its one port or (None) all of them."""

    host: str
    port: int | None


def parse_allowed(entry: str) -> AllowedHost:
    """`host`, `host:port`, `10.0.0.5`, `[::1]:8080`.

    Raises:
        BadUrl: it has not that form.
    """
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadUrl(f"{entry!r}: {error}") from None
    if not host or not entry.isascii() or set(entry) & set("/@?#*\\ ") or entry.endswith(":"):
        raise BadUrl(f"{entry!r}: must be a host or host:port, without https://, a path or *")
    return AllowedHost(host.rstrip("."), port)


def is_allowed(target: Target, entries: Iterable[str]) -> bool:
    """Whether an entry names the target's host, and its port unless the entry names none."""
    allowed = (parse_allowed(entry) for entry in entries)
    return any(entry.host == target.host and entry.port in {None, target.port} for entry in allowed)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a delivery is tried, and how long it waits in between, in seconds."""

    attempts: int
    first: float
    longest: float


def delay_after(
    attempt: int, patience: Patience, *, jitter: float, asked: float = 0.0
) -> float | None:
    """Seconds until a delivery is tried again after its failed `attempt` (from 1); None: never.

    `jitter` is between -1 and 1. `asked` is the receiver's Retry-After: it may ask for more time,
    up to the longest delay, and for no less.
    """
    if attempt >= patience.attempts:
        return None
    delay = planned_delay(attempt, patience)
    return max(delay * (1 + JITTER * jitter), min(asked, patience.longest))


def planned_delay(attempt: int, patience: Patience) -> float:
    """Seconds after the failed `attempt`, without jitter."""
    return backoff(attempt, first=patience.first, longest=patience.longest, factor=BACKOFF)


def longest_life(patience: Patience, *, try_seconds: float) -> float:
    """Seconds until a delivery's last try has ended, if each try begins when it is due.

    Delays and tries are at their longest; what a receiver's Retry-After adds does not count.
    """
    delays = sum(planned_delay(attempt, patience) for attempt in range(1, patience.attempts))
    return delays * (1 + JITTER) + patience.attempts * try_seconds
